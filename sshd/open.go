package sshd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"adit/tcp"

	"golang.org/x/crypto/ssh"
)

// openLimit is how long the client may take to connect to its local service.
const openLimit = 10 * time.Second

// ErrBusy says that a connection has as many channels open, or opening, as one
// may have.
var ErrBusy = errors.New("too many streams on one connection")

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

var errEnded = &dialError{"the connection has ended", net.ErrClosed}

// DialContext opens one stream to the local service: one forwarded-tcpip
// channel (RFC 4254, section 7.2), which the client confirms only after its
// own connect has succeeded. The caller owns the connection, a *Channel. Errors
// wrap syscall.ECONNREFUSED, os.ErrDeadlineExceeded, net.ErrClosed or ErrBusy,
// or ctx's cause.
func (f *Forward) DialContext(ctx context.Context, visitor net.Addr) (net.Conn, error) {
	k, err := f.open(visitor)
	if err != nil {
		return nil, err
	}
	if err := f.await(ctx, k, openLimit); err != nil {
		return nil, err
	}
	return k, nil
}

// await waits for the client's answer to k's open, and gives up after limit, or
// when the forward ends: another one may serve the visitor by then.
func (f *Forward) await(ctx context.Context, k *Channel, limit time.Duration) error {
	due := time.Now().Add(limit)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-k.answer:
		return err
	case <-timer.C:
		if tcp.HeldUp(due) {
			return f.await(ctx, k, tcp.Grace)
		}
		return k.giveUp(&dialError{"the client did not answer the channel open", os.ErrDeadlineExceeded})
	case <-ctx.Done():
		return k.giveUp(&dialError{"given up", context.Cause(ctx)})
	case <-f.ctx.Done(): // which the connection's end brings about, too
		return k.giveUp(f.why())
	}
}

// why is the reason for which no stream is opened any more.
func (f *Forward) why() error {
	if f.conn.ctx.Err() != nil {
		return errEnded
	}
	return &dialError{"the tunnel has ended", net.ErrClosed}
}

// open asks the client for a channel; the answer comes to k.answer.
func (f *Forward) open(visitor net.Addr) (*Channel, error) {
	c := f.conn
	if c.leaving.Load() || f.ctx.Err() != nil {
		return nil, f.why()
	}
	k := newChannelOf(c)
	k.visitor, k.opening, k.answer = visitor, true, make(chan error, 1)
	if !c.mux.add(k) {
		if c.ctx.Err() != nil {
			return nil, errEnded
		}
		return nil, &dialError{"too many streams at once", ErrBusy}
	}
	host, port := originator(visitor)
	c.mux.write(ssh.Marshal(channelOpenMsg{"forwarded-tcpip", k.id, firstWindow, maxData, ssh.Marshal(struct {
		Addr       string
		Port       uint32
		OriginAddr string
		OriginPort uint32
	}{f.bind.Addr, f.bind.Port, host, port})}))
	return k, nil // where that failed the connection has ended, which is an answer
}

// answered takes the client's answer to our open.
func (k *Channel) answered(p []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.opening {
		return fmt.Errorf("%w: it answered what was not asked", errProtocol)
	}
	var yes channelConfirmMsg
	var no channelRefusedMsg
	if p[0] == msgChannelRefused {
		if err := unmarshal(p, &no); err != nil {
			return err
		}
		k.opening = false
		k.conn.mux.remove(k)
		k.conn.mux.forget()
		k.answer <- &dialError{fmt.Sprintf("the client answered: %s", ssh.RejectionReason(no.Reason)), syscall.ECONNREFUSED}
		return nil
	}
	if err := unmarshal(p, &yes); err != nil {
		return err
	}
	if yes.MaxData < dataHead || yes.MaxData > 1<<31 {
		return malformed(p)
	}
	k.opening = false
	k.confirmed(yes.Sender, yes.Window, yes.MaxData)
	if k.alone || k.conn.leaving.Load() {
		k.conn.mux.later(0, func() { k.Close() })
	}
	k.answer <- nil
	return nil
}

// giveUp ends the wait for the client's answer. One that comes later finds the
// channel alone, and closes it.
func (k *Channel) giveUp(err error) error {
	k.mu.Lock()
	k.alone = true
	opened := !k.opening
	k.mu.Unlock()
	if opened && <-k.answer == nil {
		k.Close()
	}
	return err
}

// newChannel is a channel that the client wants to open. It is to be answered
// by Accept or Reject, once.
type newChannel struct {
	mux  *mux
	open channelOpenMsg
}

// Accept opens the channel, for a session's requests or for a stream.
func (n *newChannel) Accept(session bool) (*Channel, error) {
	k := newChannelOf(n.mux.conn)
	k.confirmed(n.open.Sender, n.open.Window, n.open.MaxData)
	k.visitor = n.mux.conn.RemoteAddr()
	if session {
		k.requests = newQueue[*request]()
	}
	if !n.mux.add(k) {
		n.Reject(ssh.ResourceShortage, "adit: too many streams at once")
		return nil, ErrBusy
	}
	return k, n.mux.write(channelMsg(msgChannelConfirm, k.peer, k.id, firstWindow, maxData))
}

// Reject refuses the channel; ssh shows the text.
func (n *newChannel) Reject(reason ssh.RejectionReason, text string) {
	n.mux.write(ssh.Marshal(channelRefusedMsg{n.open.Sender, uint32(reason), text, ""}))
}
