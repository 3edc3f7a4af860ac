package sshd

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
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

type startup struct {
	nc     net.Conn
	source netip.Prefix
}

// enter takes nc in and gives the function that takes it out again.
func (s *startups) enter(nc net.Conn) (leave func()) {
	own := source(nc.RemoteAddr())
	s.mu.Lock()
	e := s.order.PushBack(&startup{nc, own})
	var victim *list.Element
	over := s.order.Len() > s.max
	if over {
		victim = s.victim(own)
		s.order.Remove(victim)
	} else if s.closed {
		victim = e
	}
	s.mu.Unlock()
	if victim != nil {
		victim.Value.(*startup).nc.Close()
	}
	if over && s.dropped != nil {
		s.dropped(nc.RemoteAddr())
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.order.Remove(e) // no effect when it was a victim
	}
}

// victim is the oldest connection of the source that has the most, the
// newcomer's own where others have no more: who sends a crowd pays for it. Where
// every source has one it is the oldest of all.
func (s *startups) victim(own netip.Prefix) *list.Element {
	held := make(map[netip.Prefix]int)
	for e := s.order.Front(); e != nil; e = e.Next() {
		held[sourceOf(e)]++
	}
	most := own
	for e := s.order.Front(); e != nil; e = e.Next() {
		if held[sourceOf(e)] > held[most] {
			most = sourceOf(e)
		}
	}
	for e := s.order.Front(); ; e = e.Next() {
		if held[most] == 1 || sourceOf(e) == most {
			return e
		}
	}
}

func sourceOf(e *list.Element) netip.Prefix { return e.Value.(*startup).source }

// source is whom an address is taken for: an IPv6 network of 64 bits is given
// to one customer, who has all of its addresses.
func source(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	p, _ := ip.Prefix(min(ip.BitLen(), 64))
	return p
}

func (s *startups) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for e := s.order.Front(); e != nil; e = e.Next() {
		e.Value.(*startup).nc.Close()
	}
}
