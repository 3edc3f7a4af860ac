package sshd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

var (
	// ErrCancelled is the cause of a forward's end when the client sent
	// cancel-tcpip-forward.
	ErrCancelled = errors.New("cancelled by the client")
	// ErrDead is the cause when a client answered nothing for too long.
	ErrDead = errors.New("the client has stopped answering")
	// ErrHungUp is the cause when the client closed the connection.
	ErrHungUp = errors.New("the client has hung up")
	// ErrTooMany is the cause when a client flooded the connection.
	ErrTooMany = errors.New("too many requests at once")
)

// Conn is one authenticated SSH connection.
type Conn struct {
	srv     *Server
	sock    *socket
	meta    ssh.ConnMetadata
	perms   *ssh.Permissions
	mux     mux
	handler Handler
	opened  time.Time
	// NoPTY refuses terminals; Server.Connected may set it.
	NoPTY bool

	ctx    context.Context // done when the connection has ended
	cancel context.CancelCauseFunc
	group  group // every goroutine started for the connection

	leaving  atomic.Bool  // later channel opens fail at once
	opens    atomic.Int32 // channel opens and global requests since the last tick
	shedding atomic.Bool  // shed is about to be called
	liveness liveness
	watch    *time.Timer // calls look
	probe    probe
	proofs   int // of host keys that were asked for; the loop's own

	mu       sync.Mutex // guards the rest
	forwards map[bind]*Forward
	sessions map[*Session]struct{}
}

// newConn makes a connection of a client that has logged in by l and was told
// so.
func newConn(s *Server, l *login) (*Conn, error) {
	c := &Conn{
		srv: s, sock: l.sock, meta: l.meta, perms: l.perms, opened: time.Now(),
		mux:      mux{transport: l.transport, events: newQueue[event]()},
		forwards: map[bind]*Forward{},
		sessions: map[*Session]struct{}{},
	}
	c.mux.conn = c
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.probe.conn = c
	h, err := s.Connected(c)
	if err != nil {
		return nil, err
	}
	c.handler = h
	return c, nil
}

// Permissions are what Authenticate returned for the key that signed.
func (c *Conn) Permissions() *ssh.Permissions { return c.perms }

// User is the login name the client sent: a hint, never an identity.
func (c *Conn) User() string { return c.meta.User() }

// RemoteAddr is the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.sock.RemoteAddr() }

// ClientVersion is the client's version line, as it came from the wire.
func (c *Conn) ClientVersion() string { return string(c.meta.ClientVersion()) }

// Cipher is the name of the cipher that was agreed on for what the client
// sends (RFC 4253, section 6.3), as "aes128-gcm@openssh.com".
func (c *Conn) Cipher() string {
	if m, ok := c.meta.(ssh.AlgorithmsConnMetadata); ok {
		return m.Algorithms().Read.Cipher
	}
	return ""
}

// Opened is when the client had authenticated.
func (c *Conn) Opened() time.Time { return c.opened }

// Close cuts the connection at once and without an exit status, so that ssh
// ends with 255. It does not wait.
func (c *Conn) Close(cause error) {
	c.leaving.Store(true)
	c.cancel(cause)
	c.sock.Close()
}

// serve is the connection's loop: it returns when the client is gone and
// everything started for it has ended.
func (c *Conn) serve() {
	defer c.end()
	c.sock.attach(&c.mux)
	c.mux.take() // what came before the reader knew where to
	c.mu.Lock()
	c.watch = time.AfterFunc(c.srv.tick, c.look)
	c.mu.Unlock()
	c.announceHostKeys()
	for {
		e, ok := c.mux.events.pop()
		if !ok {
			return
		}
		c.event(e)
	}
}

// event serves one thing that has come, in the order in which it came.
func (c *Conn) event(e event) {
	switch {
	case e.request != nil:
		c.request(e.request)
	case e.open != nil:
		c.channel(e.open)
	case e.served != nil:
		close(e.served)
	case e.hungUp:
		c.mux.finish() // which may bring more
	}
}

// served gives a channel that is closed when all that has come by now has been
// served; never, where the connection ends before.
func (c *Conn) served() <-chan struct{} {
	e := event{served: make(chan struct{})}
	c.mux.events.push(e, 0)
	return e.served
}

// end waits for all that was started for the connection, in the order of
// dependence, and tells the handler last.
func (c *Conn) end() {
	c.leaving.Store(true)
	c.cancel(ErrHungUp)
	c.sock.Close()
	c.probe.stop()
	c.watch.Stop()
	c.group.wait()
	c.handler.Closed(context.Cause(c.ctx))
}

// goRun starts f as one of the connection's goroutines, unless the connection
// has ended, which it reports. A panic in f closes the connection and nothing
// else.
func (c *Conn) goRun(name string, f func()) bool {
	if !c.group.enter() {
		return false
	}
	go func() {
		defer c.group.leave()
		defer c.recover(name)
		f()
	}()
	return true
}

func (c *Conn) recover(name string) {
	if v := recover(); v != nil {
		c.srv.Logger.Error("ssh: panic", "in", name, "remote", c.RemoteAddr().String(), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		c.Close(fmt.Errorf("panic in %s", name))
	}
}

// look is the watch, called by a timer at every tick: it is no part of the
// loop, which may be in the middle of an answer that the client does not
// take, and an idle connection needs no goroutine for it.
func (c *Conn) look() {
	if !c.group.enter() {
		return
	}
	defer c.group.leave()
	defer c.recover("watch")
	c.opens.Store(0)
	if err := c.liveness.check(c); err != nil {
		c.Close(err)
		return
	}
	c.shed()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch.Reset(c.srv.tick)
}

// flood counts one open or request and reports whether that was too many.
func (c *Conn) flood() bool {
	if c.opens.Add(1) <= maxOpensPerTick {
		return false
	}
	c.Close(ErrTooMany)
	return true
}

// request answers one global request, in the order of arrival: replies carry
// no id (RFC 4254, section 4).
func (c *Conn) request(r *request) {
	defer c.recover("request")
	switch r.Type {
	case "tcpip-forward":
		c.forward(r)
	case "cancel-tcpip-forward":
		c.cancelForward(r)
	case "hostkeys-prove-00@openssh.com":
		c.proveHostKeys(r)
	case "streamlocal-forward@openssh.com":
		var m struct{ Path string }
		_ = ssh.Unmarshal(r.Payload, &m) // it is refused either way
		c.handler.Unsupported(nil, r.Type, m.Path)
		r.Reply(false, nil)
	default: // keepalive@openssh.com among them: any answer will do
		r.Reply(false, nil)
	}
}

// channel takes or refuses one channel the client opens.
func (c *Conn) channel(nc *newChannel) {
	defer c.recover("channel")
	switch nc.open.Kind {
	case "session":
		c.session(nc)
	case "direct-tcpip":
		c.goRun("direct", func() { c.direct(nc) })
	case "tun@openssh.com":
		nc.Reject(ssh.Prohibited, "adit: there is no tun device here. Use -R 80:HOST:PORT or -R 0:HOST:PORT")
	case "direct-streamlocal@openssh.com":
		nc.Reject(ssh.Prohibited, "adit: Unix sockets are not reached through here")
	default: // forwarded-tcpip among them, which is ours to open
		nc.Reject(ssh.UnknownChannelType, "adit: this kind of channel is not served here")
	}
}
