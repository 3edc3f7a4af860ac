package gateway

import (
	"sync"
	"testing"
)

// A terminal that takes nothing may be told of one refusal after the other.
func TestLinesOwedAreBounded(t *testing.T) {
	se := &session{wake: make(chan struct{}, 1)}
	for range maxOwed + 3 {
		se.say(true, "adit: no")
	}
	if lines, dropped, _ := se.take(); len(lines) != maxOwed || dropped != 3 {
		t.Errorf("%d lines wait, %d were dropped", len(lines), dropped)
	}
}

// A tunnel that went live and was taken over while one that was asked for before it was
// still on its way is not announced afterwards.
func TestEndedIsNotAnnounced(t *testing.T) {
	cl := &client{g: &Gateway{cfg: &settings{}}}
	first, second := &Tunnel{client: cl, kind: kindTCP, port: 1}, &Tunnel{client: cl, kind: kindTCP, port: 2}
	se := &session{client: cl, shown: map[*Tunnel]string{}, wake: make(chan struct{}, 1), waiting: []*Tunnel{first, second}}
	second.live.Store(true)
	se.show(second)
	second.over.Store(true)
	se.forget(second)
	first.live.Store(true)
	se.show(first)
	if len(se.lines) != 1 || len(se.shown) != 1 {
		t.Errorf("shown: %v, kept: %d, want the first alone", se.lines, len(se.shown))
	}
}

// Whichever comes first, the session that asks for tunnels or the tunnel that
// goes live: they find each other.
func TestAdopt(t *testing.T) {
	for range 2000 {
		tun, se := &Tunnel{}, &session{}
		cl := &client{tunnels: map[*Tunnel]struct{}{tun: {}}, refused: []refused{{}}}
		var wait sync.WaitGroup
		wait.Go(func() { cl.attach(se) })
		wait.Go(func() { cl.adopt(tun) })
		wait.Wait()
		if tun.session.Load() != se {
			t.Fatal("the tunnel has no session")
		}
	}
}
