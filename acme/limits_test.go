package acme

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Starting waits for no CA, nor does closing, and what is told is fit to be
// shown.
func TestCADown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test", func(w *world) { w.cfg.pause = nil })
	w.ca.failing(hangUp)
	m := w.start()
	eventually(t, "word of it", func() bool { err, _ := w.news("gw.test"); return err != nil })
	var d *Delay
	if err, _ := w.news("gw.test"); !errors.As(err, &d) || time.Until(d.Until) < 40*time.Second {
		t.Errorf("%v", err)
	}
	if s := m.Ensure("app.gw.test", "ann"); s.Ready {
		t.Error(s)
	}
	if lines := m.Report(t.Context()); lines[0].Level != Warn || !strings.Contains(lines[0].Text, "does not answer") {
		t.Errorf("%+v", lines)
	}
}

func TestCAComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	w.ca.failing(hangUp)
	w.start()
	eventually(t, "word of it", func() bool { err, _ := w.news("gw.test"); return err != nil })
	w.ca.failing(nil)
	w.ready("gw.test")
}

// A CA that hangs keeps nobody from closing.
func TestCloseWhileOrdering(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	asked := make(chan struct{}, 100)
	over := make(chan struct{})
	w.ca.failing(func(_ http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-over:
		}
		return true
	})
	t.Cleanup(func() { close(over) })
	w.start()
	<-asked
	w.stop()
	if strings.Contains(w.log.String(), "the order failed") {
		t.Error("our own end is no failure")
	}
}

// The CA says when: nothing is ordered before, not after a restart either.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	m := w.start()
	w.ready("gw.test")
	var refusals atomic.Int32
	limited := problem(http.StatusTooManyRequests, "3600")
	w.ca.failing(func(rw http.ResponseWriter, r *http.Request) bool {
		if isNewOrder(r) {
			refusals.Add(1)
		}
		return limited(rw, r)
	})
	m.Ensure("app.gw.test", "ann")
	var d *Delay
	told := func() bool { err, _ := w.news("app.gw.test"); return errors.As(err, &d) }
	eventually(t, "word of it", told)
	if left := time.Until(d.Until); left < 58*time.Minute || left > time.Hour {
		t.Error("tried again in", left)
	}
	if strings.ContainsRune(d.Error(), '\x1b') || !strings.Contains(d.Error(), "too many") {
		t.Errorf("%q", d.Error())
	}
	w.ca.failing(nil)
	before := w.ca.requests.Load()
	s := m.Ensure("app.gw.test", "ann")
	if !errors.As(s.Err, &d) || refusals.Load() != 1 {
		t.Error(s, refusals.Load(), "refusals")
	}
	w.stop()
	if s := w.start().Ensure("app.gw.test", "ann"); !errors.As(s.Err, &d) || w.ca.requests.Load() != before {
		t.Error(s, "asked", w.ca.requests.Load()-before, "times")
	}
	w.m.Ensure("other.gw.test", "bob") // is not the other's fault
	w.ready("other.gw.test")
}

// 503 is about the CA: everybody waits.
func TestCAOverloaded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	m := w.start()
	w.ready("gw.test")
	w.ca.failing(problem(http.StatusServiceUnavailable, "600"))
	m.Ensure("app.gw.test", "ann")
	eventually(t, "word of it", func() bool { err, _ := w.news("app.gw.test"); return err != nil })
	w.ca.failing(nil)
	before := w.ca.requests.Load()
	var d *Delay
	if s := m.Ensure("other.gw.test", "bob"); !errors.As(s.Err, &d) || time.Until(d.Until) < 9*time.Minute {
		t.Error(s)
	}
	w.stop()
	if n := w.ca.requests.Load() - before; n != 0 {
		t.Error(n, "requests")
	}
}

// A name that cannot be validated costs four orders an hour at most, one with
// each kind of challenge in turn.
func TestFailingName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	m := w.start()
	w.ready("gw.test")
	w.current.Store(mustNew(t, Config{Mode: ModeInternal, State: t.TempDir(), Domain: "elsewhere.test"})) // answers the CA from now on
	m.Ensure("app.gw.test", "ann")
	var d *Delay
	eventually(t, "the hour's rest", func() bool {
		err, _ := w.news("app.gw.test")
		return errors.As(err, &d) && time.Until(d.Until) > time.Minute
	})
	if n := w.ca.ordered("app.gw.test"); n != maxOrders {
		t.Error(n, "orders")
	}
}

// mustNew is a started Manager.
func mustNew(t *testing.T, cfg Config) *Manager {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger, _ = logger(t)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test", func(w *world) { w.cfg.NamesPerDay = 3 })
	m := w.start()
	w.ready("gw.test") // is not counted
	for _, host := range []string{"a1.gw.test", "a2.gw.test"} {
		m.Ensure(host, "ann")
		w.ready(host)
	}
	over := func(host, user string) {
		t.Helper()
		s := w.m.Ensure(host, user)
		var d *Delay
		if !errors.Is(s.Err, ErrBudget) || !errors.As(s.Err, &d) || time.Until(d.Until) < 23*time.Hour {
			t.Errorf("%s of %s: %+v", host, user, s)
		}
	}
	over("a3.gw.test", "ann") // two of three are hers
	m.Ensure("b1.gw.test", "bob")
	w.ready("b1.gw.test")
	over("c1.gw.test", "cid")
	w.stop()
	w.start()
	over("c1.gw.test", "cid")
	if s := w.m.Ensure("a1.gw.test", "dan"); !s.Ready {
		t.Error("what is had costs nothing:", s)
	}
	if n := w.ca.ordered(""); n != 4 {
		t.Error(n, "orders")
	}
}

func TestNotAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	m := w.start()
	w.ready("gw.test")
	w.refuse("gone.gw.test", true)
	m.Ensure("gone.gw.test", "ann")
	for _, host := range []string{"a.b.gw.test", "-x.gw.test", "a_b.gw.test", "127.0.0.1", "", "..", strings.Repeat("a", 300)} {
		if s := m.Ensure(host, "ann"); !errors.Is(s.Err, ErrName) {
			t.Errorf("%q: %+v", host, s)
		}
	}
	m.Ensure("custom.example", "ann")
	w.ready("custom.example")
	if n := w.ca.ordered(""); n != 2 {
		t.Error(n, "orders")
	}
}

// A tunnel that goes just when its certificate is to be ordered, and comes back at
// that moment, gets one.
func TestBackWhileRefused(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	w := newWorld(t, "gw.test")
	w.cfg.Allow = func(_ context.Context, host string) error {
		if host != "app.gw.test" || asked.Add(1) > 1 {
			return nil
		}
		if s := w.m.Ensure(host, "ann"); s.Ready || s.Err != nil {
			t.Errorf("not on its way: %+v", s)
		}
		return errors.New("no tunnel")
	}
	m := w.start()
	w.ready("gw.test")
	m.Ensure("app.gw.test", "ann")
	w.ready("app.gw.test")
}

// Visitors may ask for what they like: no handshake orders anything.
func TestStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	m := w.start()
	w.ready("gw.test")
	before := w.ca.requests.Load()
	hello := recordHello(t, "xxxxxxxxxx.gw.test")
	for i := range 10_000 {
		alert := shake(t, m.TLSConfig(), []byte(strings.Replace(string(hello), "xxxxxxxxxx", randomLabel(i), 1)))
		if len(alert) != 7 || alert[0] != 21 || alert[6] != 112 { // RFC 6066: unrecognized_name
			t.Fatalf("% x", alert)
		}
	}
	if n := w.ca.requests.Load() - before; n != 0 {
		t.Error(n, "requests")
	}
	m.from.(*managed).mu.Lock()
	defer m.from.(*managed).mu.Unlock()
	if n := len(m.from.(*managed).wants); n != 0 {
		t.Error(n, "wanted")
	}
}
