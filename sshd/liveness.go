package sshd

import (
	"sync/atomic"
	"time"
)

const (
	// livenessTick is how often a connection is looked at. A client of whom
	// nothing was heard for missedTicks looks in a row is dead: 18 to 24 s.
	// Looks are counted, not the clock, so that a process that was stopped
	// for a while does not find everybody dead.
	livenessTick = 6 * time.Second
	missedTicks  = 3
)

// liveness watches one connection. Any byte received is life, because a slow
// uplink's replies queue behind its data; so is any byte taken while our ping
// queues behind others. A client of whom nothing came is asked. It is the
// watch's own, but for the atomic fields.
type liveness struct {
	asking atomic.Bool
	asked  atomic.Uint64 // where the ping ends among all bytes sent; 0: not sent yet, or not known

	last   look
	tried  bool // something was to be written at the last look
	silent int  // looks in a row that saw no sign of life
	stuck  int  // looks in a row during which nothing could be written
}

// look is what one look sees: the socket's counters, and how many bytes the
// client's system has acknowledged (where that is known; otherwise 0).
type look struct{ reads, writes, finished, acked uint64 }

// check is one look. It returns ErrDead when the connection is to be cut.
func (l *liveness) check(c *Conn) error {
	now := look{c.sock.reads.Load(), c.sock.writes.Load(), c.sock.finished.Load(), 0}
	now.acked, _ = acknowledged(c.sock.Conn)
	dead, ask := l.judge(now)
	switch {
	case dead:
		return ErrDead
	case ask && !l.asking.Load():
		c.ask()
	case ask && now.writes == now.finished:
		c.goRun("keepalive", func() { c.mux.tell(keepalive, nil) })
	}
	return nil
}

// judge compares what is seen now with the last look. ask: something is to be
// written, to have an answer or to see whether it can be.
func (l *liveness) judge(now look) (dead, ask bool) {
	took := now.acked > l.last.acked
	queued := l.asking.Load() && (l.asked.Load() == 0 || l.asked.Load() > now.acked)
	l.silent = count(l.silent, now.reads == l.last.reads && !(took && queued))
	still := now.writes == l.last.writes && now.finished == l.last.finished
	mute := still && now.writes == now.finished
	// A write that does not end: the client takes no bytes. One that was to be
	// made and has not begun: a key exchange hangs, and every writer waits
	// behind it (there is no deadline inside).
	l.stuck = count(l.stuck, still && !mute && !took || mute && l.tried)
	l.last, l.tried = now, l.silent > 0 || mute
	return l.silent >= missedTicks || l.stuck >= missedTicks, l.tried
}

func count(n int, more bool) int {
	if more {
		return n + 1
	}
	return 0
}

// ask sends one keepalive unless one is under way; it does not wait.
func (c *Conn) ask() {
	if c.liveness.asking.CompareAndSwap(false, true) {
		c.liveness.asked.Store(0)
		c.goRun("keepalive", func() {
			defer c.liveness.asking.Store(false)
			c.askAndWait()
		})
	}
}

// askAndWait notes how far the client's system has to come for its answer.
func (c *Conn) askAndWait() {
	answer, err := c.mux.ping()
	if err != nil {
		return
	}
	_, sent := acknowledged(c.sock.Conn)
	c.liveness.asked.Store(sent)
	<-answer
}

// ping asks for any answer and waits for it. It reports whether one came; without
// one the connection has ended.
func (c *Conn) ping() bool {
	answer, err := c.mux.ping()
	if err != nil {
		return false
	}
	_, ok := <-answer
	return ok
}

// Answers reports whether the client answers a ping within d.
func (c *Conn) Answers(d time.Duration) bool {
	got := make(chan bool, 1)
	c.goRun("ping", func() { got <- c.ping() })
	select {
	case ok := <-got:
		return ok
	case <-c.ctx.Done():
		return false
	case <-time.After(d):
		return false
	}
}
