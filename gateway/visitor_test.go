package gateway

import (
	"sync/atomic"
	"testing"
	"time"
)

// lose ends u's connection as a network does that breaks, and waits until its
// names have no tunnel any more.
func (u *user) lose(names ...string) {
	u.t.Helper()
	u.nc.Close()
	for _, name := range names {
		eventually(u.t, name+" is lost", func() bool { return u.g.registry.lookup(name).live.Load() == nil })
	}
}

// away fails unless visitors of a name are told at once to come back.
func (g *running) away(name string) {
	g.t.Helper()
	resp, _ := g.asks(name+".localhost", "/")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		g.t.Errorf("%s: %d, Retry-After %q", name, resp.StatusCode, resp.Header.Get("Retry-After"))
	}
}

// A hundred visitors wait for a tunnel that was lost, and are served when it is
// back; one more is told to come back.
func TestCrowdThatWaits(t *testing.T) {
	const most = 100
	g := start(t, newState(t), func(c *Config) { c.Park = time.Hour })
	u := g.login("ann")
	u.forward("blog", 80)
	g.served("blog", "ann")
	u.lose("blog")
	served := make(chan string, most)
	for range most {
		go func() { _, body := g.get("blog"); served <- body }()
	}
	slot := g.registry.lookup("blog")
	eventually(t, "all of them wait", func() bool { return slot.waiting.Load() == most })
	g.away("blog")
	g.login("ann").forward("blog", 80)
	for range most {
		if body := <-served; body != "ann" {
			t.Fatal(body)
		}
	}
}

// Nobody waits any more when the gateway stops: no tunnel comes back to it.
func TestStopWhileTheyWait(t *testing.T) {
	g := start(t, newState(t), func(c *Config) { c.Park, c.Drain = time.Hour, time.Hour })
	u := g.login("ann")
	u.forward("blog", 80)
	g.served("blog", "ann")
	u.lose("blog")
	status := make(chan int, 1)
	go func() { n, _ := g.get("blog"); status <- n }()
	eventually(t, "the visitor waits", func() bool { return g.registry.lookup("blog").waiting.Load() == 1 })
	g.stop()
	if n := <-status; n != 503 {
		t.Error("status", n)
	}
}

// After a minute nobody waits any more: a name that is owned is away, and a
// default name, which nobody owns, is not known.
func TestLostForLong(t *testing.T) {
	g := start(t, newState(t), func(c *Config) { c.Park = time.Hour })
	u := g.login("ann")
	u.forward("blog", 80)
	u.forward("", 80)
	g.served("blog", "ann")
	eventually(t, "both are live", func() bool { return len(g.tunnelsOf("ann")) == 2 })
	unnamed := g.tunnelsOf("ann")[1].name
	if unnamed == "blog" {
		unnamed = g.tunnelsOf("ann")[0].name
	}
	u.lose("blog", unnamed)
	for _, name := range []string{"blog", unnamed} {
		slot := g.registry.lookup(name)
		slot.mu.Lock()
		slot.lost = slot.lost.Add(-time.Minute)
		slot.mu.Unlock()
	}
	g.away("blog")
	if resp, _ := g.asks(unnamed+".localhost", "/"); resp.StatusCode != 404 {
		t.Errorf("%s: %d", unnamed, resp.StatusCode)
	}
}

// A minute after a start, too.
func TestRestartedLongAgo(t *testing.T) {
	dir := newState(t)
	g := start(t, dir)
	g.login("ann").forward("blog", 80)
	g.served("blog", "ann")
	g.stop()
	old := opened(t, dir, func(c *Config) { c.Park = time.Hour })
	old.started = old.started.Add(-time.Minute)
	g = run(t, dir, old)
	g.away("blog")
}

// Nobody waits for a tunnel that its user has ended.
func TestEndedOnPurpose(t *testing.T) {
	g := start(t, newState(t), func(c *Config) { c.Park = time.Hour })
	u := g.login("ann")
	u.forward("blog", 80)
	g.served("blog", "ann")
	if !u.cancel("blog", 80) {
		t.Fatal("not cancelled")
	}
	g.away("blog")
}

// Who is told before the disk is waited for is told for every tunnel.
func TestBeforeWrite(t *testing.T) {
	var told atomic.Int32
	g := start(t, newState(t), func(c *Config) { c.BeforeWrite = func() { told.Add(1) } })
	g.login("ann").forward("blog", 80)
	g.served("blog", "ann")
	if told.Load() == 0 {
		t.Error("a name was stored without a word")
	}
}
