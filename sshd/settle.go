package sshd

import (
	"context"
	"sync"
	"time"
)

// settleLimit bounds how long a forward may stay pending.
const settleLimit = 5 * time.Second

// probe finds out that the client has answered pings that were sent after a
// certain moment. One goroutine pings for all who wait; it exists only while
// somebody does.
type probe struct {
	conn *Conn

	mu      sync.Mutex
	waiting []*probing
	pinging bool
	stopped bool
}

// probing is one wait; left counts the pings yet to be answered.
type probing struct {
	left     int
	answered chan struct{} // closed when left is 0, never when the connection ends
}

// Settle finds out whether a session is still to come behind a forward:
// clients send forwards and the session's open in one burst or one round
// trip apart, so when two pings sent one after the other behind a forward's
// reply have been answered and no session was opened, none is coming.
//
// It returns when nothing holds the forward pending any more: released
// was closed, or no session is coming, or the session that came was not heard
// (Session.Heard) within 5 s. It returns ctx's error if ctx ends first.
func (f *Forward) Settle(ctx context.Context, released <-chan struct{}) error {
	limit := time.NewTimer(settleLimit)
	defer limit.Stop()
	quiet := f.conn.probe.after(2)
	var seen <-chan struct{}
	for {
		select {
		case <-released:
			return nil
		case <-limit.C:
			return nil
		case <-quiet:
			// A session's open may have arrived and wait behind another
			// forward's reply.
			quiet, seen = nil, f.conn.served()
		case <-seen:
			if !f.conn.sessionSilent() {
				return context.Cause(ctx) // the session may have cancelled it
			}
			seen = nil // a session is open and was not heard: it has the rest of the 5 s
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sessionSilent reports whether a session is open that was not heard yet.
func (c *Conn) sessionSilent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.sessions {
		if !s.heard.Load() {
			return true
		}
	}
	return false
}

// after gives a channel that is closed when n pings, sent one after the
// other from now on, have been answered.
func (s *probe) after(n int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &probing{left: n, answered: make(chan struct{})}
	s.waiting = append(s.waiting, w)
	if !s.pinging && !s.stopped {
		s.pinging = true
		s.conn.goRun("probe", s.run)
	}
	return w.answered
}

// run pings until nobody waits. Only those that waited before a ping was
// sent may count its answer.
func (s *probe) run() {
	for {
		asked := s.take()
		if asked == nil {
			return
		}
		if !s.conn.ping() {
			s.stop()
			return
		}
		s.count(asked)
	}
}

func (s *probe) take() []*probing {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.waiting
	s.waiting = nil
	if len(asked) == 0 || s.stopped {
		s.pinging = false
		return nil
	}
	return asked
}

func (s *probe) count(asked []*probing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range asked {
		if w.left--; w.left == 0 {
			close(w.answered)
			continue
		}
		s.waiting = append(s.waiting, w)
	}
}

func (s *probe) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}
