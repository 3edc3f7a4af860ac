package sshd

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"adit/tcp"

	"golang.org/x/crypto/ssh"
)

// Channel is an SSH channel as a net.Conn. Read and Write may each be called
// from one goroutine at a time; the other methods from any. A write deadline
// that passes during a Write ends the channel: half a packet cannot be taken
// back.
type Channel struct {
	ssh.Channel
	reqs    <-chan *ssh.Request
	inside  internals
	conn    *Conn
	visitor net.Addr
	opened  time.Time
	closed  atomic.Bool
	expired atomic.Bool
	closing chan struct{} // closed by Close
	growth  growth

	mu        sync.Mutex // guards the timers
	readTimer *time.Timer
	sendTimer *time.Timer
	late      bool      // the read deadline has passed; the receive buffer's lock guards both
	readBy    time.Time // zero: no deadline

	writing atomic.Bool
	sendBy  atomic.Int64 // the write deadline, in nanoseconds since opened; 0: none
}

// newChannel takes in a channel that the client has, or that was opened by
// opens (0 or 1) counted before.
func (c *Conn) newChannel(ch ssh.Channel, reqs <-chan *ssh.Request, visitor net.Addr, opens int32) *Channel {
	k := &Channel{Channel: ch, reqs: reqs, inside: internalsOf(ch), conn: c, visitor: visitor, opened: time.Now(), closing: make(chan struct{})}
	c.weighWith(ch)
	c.mu.Lock()
	c.channels[k] = struct{}{}
	c.opening.Add(-opens)
	c.mu.Unlock()
	if c.leaving.Load() {
		k.Close()
	}
	return k
}

func (c *Conn) channelCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.channels)
}

// drain answers what requests have come on the channel, which are none of a
// stock client's making, and reports whether there can be more.
func (k *Channel) drain() bool {
	for {
		select {
		case r, ok := <-k.reqs:
			if !ok {
				return false
			}
			r.Reply(false, nil)
		default:
			return true
		}
	}
}

// discard reads off extended data, which a forwarded channel has none of (RFC
// 4254, section 5.2, has stderr alone) and which would hold the window that the
// data needs.
func (k *Channel) discard() {
	buf := make([]byte, 32<<10)
	for k.inside.extended() {
		if _, err := k.Channel.Stderr().Read(buf); err != nil {
			return
		}
	}
}

// drainChannels keeps unread requests from blocking the connection, and unread
// extended data from blocking its channel: at every tick, so that an idle
// channel needs no goroutine for it. The answers may block, so they are given
// beside the watch.
func (c *Conn) drainChannels() {
	for _, k := range c.openChannels() {
		if (len(k.reqs) > 0 || k.inside.extended()) && c.draining.CompareAndSwap(false, true) {
			c.goRun("drain", c.drainAll)
			return
		}
	}
}

func (c *Conn) drainAll() {
	defer c.draining.Store(false)
	for _, k := range c.openChannels() {
		k.drain()
		k.discard()
	}
}

func (c *Conn) openChannels() []*Channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := make([]*Channel, 0, len(c.channels))
	for k := range c.channels {
		open = append(open, k)
	}
	return open
}

// forget ends the connection's interest in a channel closed on this side;
// the client's own close is still to come.
func (k *Channel) forget() {
	k.growth.giveBack()
	k.conn.mu.Lock()
	delete(k.conn.channels, k)
	k.conn.mu.Unlock()
	if k.drain() {
		go ssh.DiscardRequests(k.reqs) // ends with the client's close, or with the connection
	}
}

// Read returns io.EOF only where the client has ended its data. A channel
// that ended because its connection died returns io.ErrUnexpectedEOF, so
// that half a stream never passes for a whole one.
func (k *Channel) Read(p []byte) (int, error) {
	if !k.inside.await(&k.late) {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := k.Channel.Read(p)
	if err == io.EOF && n == 0 {
		return 0, k.eof()
	}
	k.grown(n)
	return n, err
}

// eof tells an end from a cut. A dead socket is known before any channel
// hears of it, but a connection may also end by a message (DISCONNECT).
func (k *Channel) eof() error {
	if err := k.broken(); err != nil {
		return err
	}
	switch cut, known := k.inside.cut(); {
	case cut:
		return io.ErrUnexpectedEOF
	case !known, k.conn.opening.Load() > 0: // an open on a dead connection revives the list
		return k.askEOF()
	case k.conn.sock.dead.Load():
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

// askEOF asks the client: a live one answers.
func (k *Channel) askEOF() error {
	select {
	case <-k.conn.probe.after(1):
		return io.EOF
	case <-k.conn.ctx.Done():
		return io.ErrUnexpectedEOF
	case <-k.closing:
		return k.broken()
	}
}

// broken is why the channel ended on this side, nil if it did not.
func (k *Channel) broken() error {
	switch {
	case k.expired.Load():
		return os.ErrDeadlineExceeded
	case k.conn.sock.dead.Load():
		return io.ErrUnexpectedEOF
	case k.closed.Load():
		return net.ErrClosed
	}
	return nil
}

func (k *Channel) Write(p []byte) (int, error) {
	k.writing.Store(true)
	defer k.writing.Store(false)
	if k.sendLate() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := k.Channel.Write(p)
	if err != nil && k.expired.Load() {
		err = os.ErrDeadlineExceeded
	} else if err == io.EOF {
		err = net.ErrClosed
	}
	return n, err
}

// sendLate reports whether the write deadline is over.
func (k *Channel) sendLate() bool {
	by := k.sendBy.Load()
	return by != 0 && int64(time.Since(k.opened)) >= by
}

// Close ends the channel in both directions; a Read or Write that is blocked
// returns.
func (k *Channel) Close() error {
	if k.closed.Swap(true) {
		return nil
	}
	close(k.closing)
	k.stopTimers()
	k.inside.unblock()
	err := k.Channel.Close()
	k.forget()
	return err
}

// Quiet reports whether neither bytes nor an end have arrived that were not
// read: whether an idle channel can be used again.
func (k *Channel) Quiet() bool {
	return !k.closed.Load() && !k.conn.sock.dead.Load() && k.inside.quiet()
}

// WaitRead returns when a Read would not block, so that a reader needs no
// buffer while nothing comes.
func (k *Channel) WaitRead() { k.inside.await(&k.late) }

// LocalAddr is the gateway's side of the SSH connection.
func (k *Channel) LocalAddr() net.Addr { return k.conn.sock.LocalAddr() }

// RemoteAddr is the visitor for whom the channel was opened.
func (k *Channel) RemoteAddr() net.Addr { return k.visitor }

// SetDeadline sets both deadlines; the zero time means none.
func (k *Channel) SetDeadline(t time.Time) error {
	k.SetReadDeadline(t)
	return k.SetWriteDeadline(t)
}

// SetReadDeadline bounds a blocked Read, which may be tried again after it.
func (k *Channel) SetReadDeadline(t time.Time) error {
	if k.inside.buffer == nil {
		return k.setTimer(&k.readTimer, t, k.expire)
	}
	k.inside.with(func() {
		k.readBy = t
		k.late = !t.IsZero() && !t.After(time.Now())
	})
	return k.setTimer(&k.readTimer, t, k.readExpired)
}

// readExpired is called by the timer, perhaps for a deadline that has been
// moved meanwhile.
func (k *Channel) readExpired() {
	k.inside.with(func() {
		k.late = !k.readBy.IsZero() && !k.readBy.After(time.Now())
	})
}

// SetWriteDeadline bounds a blocked Write; the channel ends with it.
func (k *Channel) SetWriteDeadline(t time.Time) error {
	by := int64(0)
	if !t.IsZero() {
		by = max(int64(t.Sub(k.opened)), 1)
	}
	k.sendBy.Store(by)
	return k.setTimer(&k.sendTimer, t, k.sendExpired)
}

// sendExpired is called by the timer, perhaps for a deadline that has been
// moved meanwhile. A channel on which nothing is being written lives on.
func (k *Channel) sendExpired() {
	if k.sendLate() && k.writing.Load() {
		k.expire()
	}
}

func (k *Channel) setTimer(timer **time.Timer, t time.Time, f func()) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.closed.Load():
		return net.ErrClosed
	case t.IsZero():
		if *timer != nil {
			(*timer).Stop()
		}
	case *timer == nil:
		*timer = time.AfterFunc(time.Until(t), f)
	default:
		(*timer).Reset(time.Until(t))
	}
	return nil
}

func (k *Channel) stopTimers() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range []*time.Timer{k.readTimer, k.sendTimer} {
		if t != nil {
			t.Stop()
		}
	}
}

func (k *Channel) expire() {
	k.expired.Store(true)
	k.Close()
}

// join connects a channel the client opened with a connection.
func (c *Conn) join(nc ssh.NewChannel, target net.Conn) {
	ch, reqs, err := nc.Accept()
	if err != nil {
		target.Close()
		return
	}
	tcp.Splice(c.newChannel(ch, reqs, c.RemoteAddr(), 0), target, 0)
}
