package sshd

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// openLimit is how long the client may take to connect to its local service.
const openLimit = 10 * time.Second

// ErrBusy says that a connection has as many channels open, or opening, as one
// may have.
var ErrBusy = errors.New("too many streams on one connection")

var errRefusedConn error = syscall.ECONNREFUSED

// dialError is why a visitor's stream could not be opened. It wraps
// syscall.ECONNREFUSED (the client could not reach the local service),
// os.ErrDeadlineExceeded (it did not answer in time), net.ErrClosed (the
// connection or the forward has ended) or ErrBusy.
type dialError struct {
	text string
	err  error
}

func (e *dialError) Error() string { return e.text }
func (e *dialError) Unwrap() error { return e.err }

// DialContext opens one stream to the local service: one forwarded-tcpip
// channel (RFC 4254, section 7.2), which the client confirms only after its
// own connect has succeeded. The caller owns the connection. Errors wrap
// syscall.ECONNREFUSED, os.ErrDeadlineExceeded, net.ErrClosed or ErrBusy.
func (f *Forward) DialContext(ctx context.Context, visitor net.Addr) (net.Conn, error) {
	c := f.conn
	o, err := f.newOpen(visitor)
	if err != nil {
		return nil, err
	}
	if !c.goRun("open", o.run) {
		c.opening.Add(-1)
		return nil, &dialError{"the connection has ended", net.ErrClosed}
	}
	limit := time.NewTimer(openLimit)
	defer limit.Stop()
	select {
	case <-o.done:
		return o.take()
	case <-limit.C:
		return o.abandon(&dialError{"the client did not answer the channel open", os.ErrDeadlineExceeded})
	case <-ctx.Done():
		return o.abandon(&dialError{"given up", context.Cause(ctx)})
	case <-c.ctx.Done():
		return o.abandon(&dialError{"the connection has ended", net.ErrClosed})
	}
}

// Open is DialContext for a caller whose goroutine may wait for as long as
// the connection lives: the library offers no way to stop waiting for a
// client's answer, and a goroutine that can is two hand-overs more for every
// visitor. late is called, from another goroutine, where the answer takes too
// long; Open returns all the same only when it has come.
func (f *Forward) Open(visitor net.Addr, late func()) (net.Conn, error) {
	o, err := f.newOpen(visitor)
	if err != nil {
		return nil, err
	}
	limit := time.AfterFunc(openLimit, late)
	defer limit.Stop()
	o.run()
	return o.take()
}

// newOpen begins an open, if there may be one more.
func (f *Forward) newOpen(visitor net.Addr) (*open, error) {
	c := f.conn
	if c.leaving.Load() || f.ctx.Err() != nil {
		return nil, &dialError{"the tunnel has ended", net.ErrClosed}
	}
	if !c.mayOpen() {
		return nil, &dialError{"too many streams at once", ErrBusy}
	}
	return &open{f: f, visitor: visitor, done: make(chan struct{})}, nil
}

// mayOpen counts one more open under way, if there is room for its channel.
func (c *Conn) mayOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(c.opening.Load())+len(c.channels) >= maxChannels {
		return false
	}
	c.opening.Add(1)
	return true
}

// open is one channel open under way: the library offers no way to stop
// waiting for its answer, so the answer may come to nobody.
type open struct {
	f       *Forward
	visitor net.Addr
	done    chan struct{}

	mu    sync.Mutex
	ch    *Channel
	err   error
	alone bool // nobody waits any more
}

func (o *open) run() {
	c := o.f.conn
	host, port := originator(o.visitor)
	ch, reqs, err := c.ssh.OpenChannel("forwarded-tcpip", ssh.Marshal(struct {
		Addr       string
		Port       uint32
		OriginAddr string
		OriginPort uint32
	}{o.f.bind.Addr, o.f.bind.Port, host, port}))
	if err != nil {
		c.opening.Add(-1)
		if _, answered := errors.AsType[*ssh.OpenChannelError](err); !answered {
			c.sock.dead.Store(true)
		}
		o.finish(nil, refusedOpen(err))
		return
	}
	o.finish(c.newChannel(ch, reqs, o.visitor, 1), nil)
}

func (o *open) finish(ch *Channel, err error) {
	o.mu.Lock()
	o.ch, o.err = ch, err
	alone := o.alone
	o.mu.Unlock()
	close(o.done)
	if alone && ch != nil {
		ch.Close()
	}
}

func (o *open) take() (net.Conn, error) {
	if o.err != nil {
		return nil, o.err
	}
	return o.ch, nil
}

func (o *open) abandon(err error) (net.Conn, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.alone = true
	if o.ch != nil {
		o.ch.Close()
	}
	return nil, err
}
