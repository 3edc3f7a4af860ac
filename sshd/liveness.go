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
// uplink's replies queue behind its data; a client of whom nothing came is
// asked. It is the watch's own, but for asking.
type liveness struct {
	asking atomic.Bool

	reads    uint64 // socket counters at the last look
	writes   uint64
	finished uint64
	silent   int // looks in a row that saw no byte received
	stuck    int // looks in a row during which one write or key exchange hung
}

// check is one look. It returns ErrDead when the connection is to be cut.
func (l *liveness) check(c *Conn) error {
	reads, writes, finished := c.sock.reads.Load(), c.sock.writes.Load(), c.sock.finished.Load()
	l.silent = count(l.silent, reads == l.reads)
	// A write that has begun and not finished: the client takes no bytes. A
	// ping that was asked for and not written: a key exchange hangs, and
	// every other writer waits behind it (there is no deadline inside).
	hangs := writes == l.writes && finished == l.finished && (writes != finished || c.liveness.asking.Load() && l.silent == 0)
	l.stuck = count(l.stuck, hangs)
	l.reads, l.writes, l.finished = reads, writes, finished
	if l.silent >= missedTicks || l.stuck >= missedTicks {
		return ErrDead
	}
	if l.silent > 0 || hangs {
		c.ask()
	}
	return nil
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
		c.goRun("keepalive", func() {
			defer c.liveness.asking.Store(false)
			c.ping()
		})
	}
}

// ping sends keepalive@openssh.com and waits for any answer. It reports
// whether one came; without one the connection has ended.
func (c *Conn) ping() bool {
	_, err := c.mux.ask("keepalive@openssh.com", nil)
	return err == nil
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
