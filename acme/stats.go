package acme

import (
	"context"
	"crypto/tls"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/certmagic"
)

// stats of ModeACME. A certificate that nobody may have is not renewed, so its
// end is no news.
func (m *managed) stats() Stats {
	s := Stats{
		Orders: m.issuer.begun.Load(), Failed: m.issuer.lost.Load(), Waiting: m.waiting.Load(),
		Unsaved: m.store.unsaved(),
	}
	m.mu.Lock()
	names := slices.Collect(maps.Keys(m.loaded))
	m.mu.Unlock()
	for _, name := range names {
		if end := m.lasts(name); !end.IsZero() {
			s.Held++
			if m.issuer.allow(context.Background(), name) == nil {
				s.ends(end)
			}
		}
	}
	return s
}

// lasts is when name's own certificate in memory ends, the longest of them;
// zero without one.
func (m *managed) lasts(name string) (end time.Time) {
	for _, c := range m.cache.AllMatchingCertificates(name) {
		if isOf(c, name) {
			end = later(end, c.Leaf.NotAfter)
		}
	}
	return end
}

// isOf leaves out a wildcard that matches name too.
func isOf(c certmagic.Certificate, name string) bool { return len(c.Names) > 0 && c.Names[0] == name }

// ends notes that a certificate lasts until end.
func (s *Stats) ends(end time.Time) {
	if s.Expiry.IsZero() || end.Before(s.Expiry) {
		s.Expiry = end
	}
}

// stats of ModeInternal is about the root: leaves are made anew by themselves.
func (in *internal) stats() Stats {
	in.mu.Lock()
	defer in.mu.Unlock()
	return Stats{Held: in.recent.Len(), Expiry: in.root.cert.NotAfter}
}

// stats of ModeFiles is about the certificates that are served.
func (f *files) stats() (s Stats) {
	seen := map[*tls.Certificate]bool{}
	for _, c := range *f.index.Load() {
		if !seen[c] {
			seen[c] = true
			s.ends(c.Leaf.NotAfter)
		}
	}
	s.Held = len(seen)
	return s
}
