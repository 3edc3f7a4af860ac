package sshd

import (
	"cmp"
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"

	"adit/tcp"
)

// startups are the connections that have not logged in yet. A crowd of them
// costs only itself: past max one is closed, see victim.
type startups struct {
	max     int
	dropped func(newcomer net.Addr) // told where max was exceeded; may be nil

	mu     sync.Mutex
	order  list.List // of *startup, oldest first
	closed bool      // whoever comes now was accepted too late
}

const (
	// patience is how long a client may be silent in the middle of its login before
	// it is the first to go, where somebody must. Somebody may have to touch a key.
	patience = 3 * time.Second
	// overstay is how long its whole login may take before that. What comes back in
	// a crowd is in much sooner, and who only drips bytes is not.
	overstay = 10 * time.Second
)

type startup struct {
	sock   *socket
	source netip.Prefix
	since  time.Time
}

// enter takes sock in and gives the function that takes it out again.
func (s *startups) enter(sock *socket) (leave func()) {
	s.mu.Lock()
	e := s.order.PushBack(&startup{sock, source(sock.RemoteAddr()), time.Now()})
	var victim *list.Element
	over := s.order.Len() > s.max
	if over {
		victim = s.victim(e)
		s.order.Remove(victim)
	} else if s.closed {
		victim = e
	}
	s.mu.Unlock()
	if victim != nil {
		victim.Value.(*startup).sock.Close()
	}
	if over && s.dropped != nil {
		s.dropped(sock.RemoteAddr())
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.order.Remove(e) // no effect when it was a victim
	}
}

// victim is who goes for a newcomer. It is one of the source that has the most
// connections, the newcomer's own where others have no more: who sends a crowd
// pays for it. Where every source has one it is one of all.
//
// Of these it is the one that has said nothing for the longest time, then the one
// that has fallen silent, then the one that has been here for too long, and else
// the last that came: were those to go that are getting on, a crowd of clients that
// all come back at once would keep each other out for good.
func (s *startups) victim(newcomer *list.Element) *list.Element {
	most, several := s.crowd(sourceOf(newcomer))
	var mute, silent, slow, last, first *list.Element
	for e := s.order.Front(); e != nil; e = e.Next() {
		if several && sourceOf(e) != most {
			continue
		}
		sock := e.Value.(*startup).sock
		switch {
		case e != newcomer && sock.heard.Load() == 0:
			mute = cmp.Or(mute, e)
		case e != newcomer && sock.silence() >= patience:
			silent = cmp.Or(silent, e)
		case time.Since(e.Value.(*startup).since) >= overstay:
			slow = cmp.Or(slow, e)
		case !sock.begun.Load():
			last = e
		}
		first = cmp.Or(first, e)
	}
	return cmp.Or(mute, silent, slow, last, first)
}

// crowd is the source that has the most connections, own where others have no
// more, and whether it has several.
func (s *startups) crowd(own netip.Prefix) (most netip.Prefix, several bool) {
	held := make(map[netip.Prefix]int)
	for e := s.order.Front(); e != nil; e = e.Next() {
		held[sourceOf(e)]++
	}
	most = own
	for e := s.order.Front(); e != nil; e = e.Next() {
		if held[sourceOf(e)] > held[most] {
			most = sourceOf(e)
		}
	}
	return most, held[most] > 1
}

func sourceOf(e *list.Element) netip.Prefix { return e.Value.(*startup).source }

// source is whom an address is counted for.
func source(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return tcp.Source(t.AddrPort().Addr().Unmap().WithZone(""))
}

func (s *startups) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for e := s.order.Front(); e != nil; e = e.Next() {
		e.Value.(*startup).sock.Close()
	}
}
