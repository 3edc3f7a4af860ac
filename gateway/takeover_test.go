package gateway

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// ended waits until the client's connection has ended.
func (u *user) ended() {
	u.t.Helper()
	done := make(chan struct{})
	go func() { u.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		u.t.Fatal(u.who, "is still connected")
	}
}

func TestNewestConnectionWins(t *testing.T) {
	g := start(t, newState(t))
	for _, addr := range []string{"blog", ""} {
		first := g.login("ann")
		first.forward(addr, 80)
		first.who = "first"
		name := addr
		if name == "" {
			eventually(t, "it is live", func() bool { return len(g.tunnelsOf("ann")) == 1 })
			name = g.tunnelsOf("ann")[0].name
		}
		g.served(name, "first")
		second := g.login("ann")
		second.who = "second"
		second.forward(addr, 80)
		first.ended() // it has nothing left
		if status, body := g.get(name); status != 200 || body != "second" {
			t.Errorf("%d %q", status, body)
		}
		second.Close()
		eventually(t, "second has gone", func() bool { return len(g.tunnelsOf("ann")) == 0 })
	}
}

// Only the forward that is asked for again moves.
func TestTakeoverMovesOneForward(t *testing.T) {
	g := start(t, newState(t))
	first := g.login("ann")
	first.who = "first"
	first.forward("a", 80)
	first.forward("b", 80)
	g.served("a", "first")
	g.served("b", "first")
	second := g.login("ann2")
	second.forward("b", 80)
	g.served("b", "ann2")
	if _, body := g.get("a"); body != "first" {
		t.Error("a:", body)
	}
	if _, _, err := first.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Error("the first connection was cut")
	}
}

func TestTakeoverOfATCPPort(t *testing.T) {
	lo, ports := withPorts(t, 3)
	g := start(t, newState(t), ports, func(c *Config) { c.Park = 300 * time.Millisecond })
	first := g.login("ann")
	first.forward("", uint32(lo))
	eventually(t, "the first is there", func() bool { return greeting(lo) == "ann" })
	second := g.login("ann2")
	if _, ok := second.forward("", uint32(lo)); !ok {
		t.Fatal("refused")
	}
	first.ended()
	if who := greeting(lo); who != "ann2" {
		t.Error(who)
	}
	second.Close()
	eventually(t, "the port is closed", func() bool { return strings.Contains(greeting(lo), "refused") })
}

// Two loops on one key must not take a name from each other for ever.
func TestTakeoversEnd(t *testing.T) {
	g := start(t, newState(t))
	holder := g.login("ann")
	holder.forward("blog", 80)
	g.served("blog", "ann")
	for i := range takeoverLimit {
		next := g.login("ann2")
		next.who = string(rune('a' + i))
		if _, ok := next.forward("blog", 80); !ok {
			t.Fatal("takeover", i, "is refused")
		}
		g.served("blog", next.who)
		holder.ended()
		holder = next
	}
	code, message := g.refusedFor("ann", "blog", 80)
	if code != "takeovers" || !strings.Contains(message, "three times") {
		t.Error(code, message)
	}
	g.served("blog", holder.who)
	// One that does not answer loses it all the same.
	close(holder.nc.frozen)
	last := g.login("ann")
	if _, ok := last.forward("blog", 80); !ok {
		t.Error("refused although the holder is frozen")
	}
	g.served("blog", "ann")
}

// A request that is in flight when its tunnel is taken over is no fault of the
// local service: its user is told of the takeover alone.
func TestTakenOverInFlight(t *testing.T) {
	g := start(t, newState(t))
	old := g.login("ann")
	reached, over := make(chan bool), make(chan bool)
	old.handle = func(*http.Request) { reached <- true; <-over }
	defer close(over)
	s, err := old.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	told, err := s.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	old.forward("blog", 80)
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	status := make(chan int, 1)
	go func() { n, _ := g.get("blog"); status <- n }()
	<-reached
	g.login("ann2").forward("blog", 80)
	if n := <-status; n != 502 {
		t.Error("status", n)
	}
	text, _ := io.ReadAll(told)
	if !strings.Contains(string(text), "is closed: another connection of yours") || strings.Contains(string(text), "local service") {
		t.Errorf("told %q", text)
	}
}

// A laptop that slept still holds its old connection, which answers nothing.
// Whoever comes back must not wait for the liveness watch to notice.
func TestAFrozenHolderLosesAtOnce(t *testing.T) {
	g := start(t, newState(t))
	old := g.login("ann")
	old.who = "old"
	old.forward("blog", 80)
	g.served("blog", "old")
	close(old.nc.frozen)
	fresh := g.login("ann2")
	began := time.Now()
	if _, ok := fresh.forward("blog", 80); !ok {
		t.Fatal("refused")
	}
	g.served("blog", "ann2")
	if took := time.Since(began); took > 5*time.Second { // far below the watch's 18 s
		t.Error("took", took)
	}
	eventually(t, "the old connection is cut", func() bool { return len(g.allClients()) == 1 })
}

// Visitors for whom the old connection was still to open a stream are the new
// one's: it is not waited for any more.
func TestVisitorsOfAFrozenHolder(t *testing.T) {
	g := start(t, newState(t))
	old := g.login("ann")
	old.who = "old"
	old.forward("blog", 80)
	old.forward("other", 80) // so that it lives on
	g.served("blog", "old")
	g.served("other", "old")
	close(old.nc.frozen)
	before := time.Now()
	answer := make(chan string, 3)
	for range cap(answer) {
		go func() { _, who := g.get("blog"); answer <- who }()
	}
	eventually(t, "visitors wait", func() bool { return strings.Count(stacks(), "sshd.(*Forward).await(") == cap(answer) })
	g.login("ann2").forward("blog", 80)
	for range cap(answer) {
		if who := <-answer; who != "ann2" {
			t.Errorf("answered by %q", who)
		}
	}
	if took := time.Since(before); took > 5*time.Second { // far below the 10 s that an open may take
		t.Error("took", took)
	}
}

// stacks is what all goroutines are at.
func stacks() string {
	buf := make([]byte, 4<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// What takes over one's own tunnel is none more, so a key whose max-tunnels are
// all in use gets all of them back; and never has more.
func TestTakeoverAtTheLimit(t *testing.T) {
	dir := newState(t)
	authorize(t, dir, "eve", `max-tunnels@adit="2" `+string(ssh.MarshalAuthorizedKey(signer("eve").PublicKey())))
	for _, how := range []string{"live", "frozen"} {
		g := start(t, dir)
		both := func(u *user) {
			t.Helper()
			for _, name := range []string{"ea", "eb"} {
				if _, ok := u.forward(name, 80); !ok {
					t.Fatal(how, name, "is refused")
				}
			}
		}
		old := g.login("eve")
		both(old)
		g.served("ea", "eve")
		g.served("eb", "eve")

		// Withdrawn before it is live, it changes nothing.
		idle := g.login("eve")
		idle.who = "idle"
		if _, err := idle.NewSession(); err != nil { // which does not speak
			t.Fatal(err)
		}
		both(idle)
		if _, ok := idle.forward("ec", 80); ok {
			t.Error(how, "a third is granted beside two that are pending")
		}
		if !idle.cancel("ea", 80) || !idle.cancel("eb", 80) {
			t.Error(how, "not cancelled")
		}
		g.served("ea", "eve")
		g.served("eb", "eve")

		if how == "frozen" {
			close(old.nc.frozen)
		}
		fresh := g.login("eve")
		fresh.who = "fresh"
		both(fresh)
		g.served("ea", "fresh")
		g.served("eb", "fresh")
		if how == "live" {
			old.ended()
		}
		if code, _ := g.refusedFor("eve", "ec", 80); code != "limit" {
			t.Error(how, "a third:", code)
		}
		idle.Close()
		fresh.Close()
		eventually(t, "all are gone", func() bool { return len(g.allClients()) == 0 })
		if len(g.quota.on) != 0 {
			t.Error("left:", g.quota.on)
		}
		g.stop()
	}
}

func TestTheSameTwiceOnOneConnection(t *testing.T) {
	lo, ports := withPorts(t, 8)
	g := start(t, newState(t), ports)
	for _, again := range []struct {
		first, second bind
	}{
		{bind{"blog", 80}, bind{"blog", 80}},
		{bind{"blog", 80}, bind{"BLOG", 80}},
		{bind{"blog", 80}, bind{"blog.localhost", 80}},
		{bind{"", 80}, bind{"", 80}},
		{bind{"", uint32(lo)}, bind{"", uint32(lo)}},
		{bind{"", uint32(lo)}, bind{"*", uint32(lo)}},
	} {
		u := g.login("ann")
		u.forward(again.first.Addr, again.first.Port)
		if _, ok := u.forward(again.second.Addr, again.second.Port); ok {
			t.Errorf("%v granted", again)
		}
		if code, _ := u.why(); code != "twice" {
			t.Errorf("%v: %q", again, code)
		}
		u.Close()
	}
	eventually(t, "those are gone, the pending ones too", func() bool { return len(g.allClients()) == 0 })
	// Unnamed ones are told apart by the address they were asked for.
	u := g.login("ann")
	if _, ok := u.forward("", 80); !ok {
		t.Error("the first is refused")
	}
	if _, ok := u.forward("localhost", 80); !ok {
		t.Error("the second is refused")
	}
	eventually(t, "both are live", func() bool { return len(g.tunnelsOf("ann")) == 2 })
	if all := g.tunnelsOf("ann"); all[0].name == all[1].name {
		t.Error("one name for two")
	}
	for range 3 { // port 0 may be asked for any number of times
		if _, ok := u.forward("", 0); !ok {
			t.Error("port 0 is refused")
		}
	}
}

func TestForwardsAreLimited(t *testing.T) {
	g := start(t, newState(t), func(c *Config) { c.MaxNames = 100 })
	u := g.login("ann")
	for i := range maxForwards + 1 {
		if _, ok := u.forward("n"+strings.Repeat("x", i), 80); ok != (i < maxForwards) {
			t.Errorf("forward %d: %v", i, ok)
		}
	}
	if code, _ := u.why(); code != "limit" {
		t.Error(code)
	}
}

// A connection all of whose forwards were refused does not hang uselessly.
func TestAUselessConnectionIsClosed(t *testing.T) {
	g := start(t, newState(t))
	u := g.login("ann")
	u.forward("www", 80)
	began := time.Now()
	u.ended()
	if took := time.Since(began); took < refusedGrace/2 {
		t.Error("closed after", took)
	}
	kept := g.login("ann")
	kept.forward("www", 80)
	kept.forward("blog", 80)
	gone := g.login("ann") // of whose forwards none is left
	gone.forward("late", 80)
	g.served("late", "ann")
	gone.cancel("late", 80)
	gone.forward("www", 80)
	time.Sleep(refusedGrace + time.Second/2)
	for _, u := range []*user{kept, gone} {
		if _, _, err := u.SendRequest("x", true, nil); err != nil {
			t.Error("one refusal among several ended the rest")
		}
	}
}
