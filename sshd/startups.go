package sshd

import (
	"container/list"
	"net"
	"sync"
)

// startups are the connections that have not logged in yet. A crowd of them
// costs only itself: past max, the oldest one of the newcomer's address is
// closed, or the oldest of all where that address has no other.
type startups struct {
	max int

	mu     sync.Mutex
	order  list.List // of *startup, oldest first
	closed bool      // whoever comes now was accepted too late
}

type startup struct {
	nc   net.Conn
	host string
}

// enter takes nc in and gives the function that takes it out again.
func (s *startups) enter(nc net.Conn) (leave func()) {
	host, _, _ := net.SplitHostPort(nc.RemoteAddr().String())
	s.mu.Lock()
	e := s.order.PushBack(&startup{nc, host})
	var victim *list.Element
	if s.order.Len() > s.max {
		victim = s.victim(host)
		s.order.Remove(victim)
	} else if s.closed {
		victim = e
	}
	s.mu.Unlock()
	if victim != nil {
		victim.Value.(*startup).nc.Close()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.order.Remove(e) // no effect when it was a victim
	}
}

// victim is the oldest connection of host, or of all where host has only the
// newcomer itself.
func (s *startups) victim(host string) *list.Element {
	for e := s.order.Front(); e != s.order.Back(); e = e.Next() {
		if e.Value.(*startup).host == host {
			return e
		}
	}
	return s.order.Front()
}

func (s *startups) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for e := s.order.Front(); e != nil; e = e.Next() {
		e.Value.(*startup).nc.Close()
	}
}
