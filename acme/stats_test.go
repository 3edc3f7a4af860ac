package acme

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// What an operator's alarms are about.
func TestStats(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test", func(w *world) { w.cfg.NamesPerDay, w.cfg.pause = 2, nil })
	m := w.start()
	w.ready("gw.test")
	m.Ensure("app.gw.test", "ann")
	w.ready("app.gw.test")
	s := m.Stats()
	if left := time.Until(s.Expiry); left < 89*day || left > 90*day {
		t.Error("ends in", left)
	}
	if s.Expiry = (time.Time{}); s != (Stats{Held: 2, Orders: 2}) {
		t.Errorf("%+v", s)
	}

	m.Ensure("second.gw.test", "ann") // one of two is hers
	if n := m.Stats().Waiting; n != 1 {
		t.Error(n, "had to wait")
	}
	w.ca.failing(problem(http.StatusTooManyRequests, "3600"))
	m.Ensure("bobs.gw.test", "bob")
	eventually(t, "word of it", func() bool { err, _ := w.news("bobs.gw.test"); return err != nil })
	if s := m.Stats(); s.Held != 2 || s.Orders != 3 || s.Failed != 1 {
		t.Errorf("%+v", s)
	}

	for _, host := range []string{"gw.test", "app.gw.test"} { // not renewed, so no cause for alarm
		w.refuse(host, true)
	}
	if s := m.Stats(); s.Held != 2 || !s.Expiry.IsZero() {
		t.Errorf("%+v", s)
	}
}

// The other modes order nothing.
func TestStatsOfOthers(t *testing.T) {
	t.Parallel()
	in := mustNew(t, Config{Mode: ModeInternal, State: t.TempDir(), Domain: "gw.test"})
	in.from.certificate("app.gw.test", nil)
	if s := in.Stats(); s.Held != 1 || time.Until(s.Expiry) < 365*day || s.Orders != 0 {
		t.Errorf("internal: %+v", s)
	}
	dir := t.TempDir()
	pairFor(t, filepath.Join(dir, "one"), time.Hour, "gw.test", "*.gw.test")
	pairFor(t, filepath.Join(dir, "two"), day, "shop.test")
	files := mustNew(t, Config{Mode: ModeFiles, CertDir: dir, Domain: "gw.test"})
	if s := files.Stats(); s.Held != 2 || time.Until(s.Expiry) > time.Hour {
		t.Errorf("files: %+v", s)
	}
}
