package gateway

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lostFor is how long after its loss a tunnel's visitors wait for it.
	lostFor = time.Minute
	// maxWaiting is how many visitors wait for one tunnel; more are turned
	// away.
	maxWaiting = 100
	// takeoverLimit takeovers within takeoverSpan are two loops that fight.
	takeoverLimit = 3
	takeoverSpan  = time.Minute
)

// slot is one place a tunnel can stand at: a virtual host, or a public TCP
// port. Visitors read live and nothing else; mu is for those who come and go.
type slot struct {
	key  string // "blog", or "20001"
	live atomic.Pointer[Tunnel]

	waiting atomic.Int32

	mu        sync.Mutex
	user      string        // whose tunnels may stand here while claims > 0
	claims    int           // tunnels that are reserved or live here
	changed   chan struct{} // closed and made anew when live or claims change
	lost      time.Time     // when the last tunnel was lost; zero: it ended as its user wished
	idle      time.Time     // since when claims is 0
	takeovers []time.Time

	lns       []net.Listener // a TCP port's, while claims > 0
	accepting bool           // whether lns is accepted on
	given     string         // which of the user's -R 0 the port was given for
}

func newSlot(key string) *slot {
	return &slot{key: key, changed: make(chan struct{})}
}

// notify wakes those who wait for a change. s.mu is held.
func (s *slot) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// publish makes t the slot's tunnel and returns the one it replaces.
func (s *slot) publish(t *Tunnel, now time.Time) (old *Tunnel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old = s.live.Swap(t)
	if old != nil && old.client != t.client {
		s.takeovers = append(recent(s.takeovers, now), now)
	}
	s.lost = time.Time{}
	s.notify()
	return old
}

// withdraw takes t off the slot if it still stands there.
func (s *slot) withdraw(t *Tunnel, lost bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live.CompareAndSwap(t, nil) && lost {
		s.lost = now
	}
	s.notify()
}

// fought reports whether takeovers have come too fast for another one.
func (s *slot) fought(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeovers = recent(s.takeovers, now)
	return len(s.takeovers) >= takeoverLimit
}

func recent(times []time.Time, now time.Time) []time.Time {
	kept := times[:0]
	for _, t := range times {
		if now.Sub(t) < takeoverSpan {
			kept = append(kept, t)
		}
	}
	return kept
}

// expected reports whether a tunnel may soon be here: one is pending, or one
// was lost a moment ago. The channel is closed at the next change.
func (s *slot) expected(now time.Time) (bool, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims > 0 || !s.lost.IsZero() && now.Sub(s.lost) < lostFor, s.changed
}

// claimed reports whether anybody has claimed the slot since it was made: one
// who did and left on purpose is not expected back.
func (s *slot) claimed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user != ""
}

// wait returns the slot's tunnel as soon as it is there. It gives up, with
// nil, when ctx ends, or when the slot is not expected to have one and hope
// is false.
func (s *slot) wait(ctx context.Context, hope bool) *Tunnel {
	if t := s.live.Load(); t != nil {
		return t
	}
	if s.waiting.Add(1) > maxWaiting {
		s.waiting.Add(-1)
		return nil
	}
	defer s.waiting.Add(-1)
	for {
		expected, changed := s.expected(time.Now())
		if t := s.live.Load(); t != nil {
			return t
		}
		if !expected && !hope {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
