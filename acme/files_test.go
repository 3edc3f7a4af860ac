package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pairFor writes base.crt and base.key, self-signed for names.
func pairFor(t *testing.T, base string, life time.Duration, names ...string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		DNSNames:  names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, base+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	put(t, base+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

func put(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shelf is a folder of certificates that is looked at when the test says so.
type shelf struct {
	*files
	t   *testing.T
	dir string
	log *logBuffer
}

func newShelf(t *testing.T, fill func(dir string)) *shelf {
	t.Helper()
	dir := t.TempDir()
	if fill != nil {
		fill(dir)
	}
	l, b := logger(t)
	f, err := newFiles(&Config{CertDir: dir, Domain: "gw.test", Logger: l, Notify: func(string, error) {}})
	if err != nil {
		t.Fatal(err)
	}
	looks, err := f.look()
	if err != nil {
		t.Fatal(err)
	}
	f.load(looks)
	return &shelf{files: f, t: t, dir: dir, log: b}
}

func (s *shelf) path(name string) string { return filepath.Join(s.dir, name) }

// settle looks until nothing changes any more.
func (s *shelf) settle() { s.poll(); s.poll() }

// shown is the first name in the certificate shown to who asks for host.
func (s *shelf) shown(host string) string {
	c := s.certificate(host, nil)
	if c == nil {
		return ""
	}
	return c.Leaf.DNSNames[0]
}

func TestFiles(t *testing.T) {
	t.Parallel()
	s := newShelf(t, func(dir string) {
		pairFor(t, filepath.Join(dir, "gw.test"), day, "gw.test")
		pairFor(t, filepath.Join(dir, "_wildcard.gw.test"), day, "*.gw.test")
		pairFor(t, filepath.Join(dir, "own"), day, "own.gw.test", "CUSTOM.example")
		pairFor(t, filepath.Join(dir, "old"), day/2, "own.gw.test")
		put(t, filepath.Join(dir, "README.txt"), nil)
	})
	for host, want := range map[string]string{
		"gw.test": "gw.test", "": "gw.test", "app.gw.test": "*.gw.test", "own.gw.test": "own.gw.test", "custom.example": "own.gw.test",
		"a.b.gw.test": "", "test": "", "example": "",
	} {
		if got := s.shown(host); got != want {
			t.Errorf("%q: %q", host, got)
		}
		if st := s.ensure(host, "ann"); st.Ready != (want != "") {
			t.Errorf("%q: %+v", host, st)
		}
	}
	if c := s.certificate("own.gw.test", nil); time.Until(c.Leaf.NotAfter) < day*3/4 {
		t.Error("not the one that lasts longer")
	}
}

func TestFilesReload(t *testing.T) {
	t.Parallel()
	s := newShelf(t, func(dir string) { pairFor(t, filepath.Join(dir, "gw.test"), day, "gw.test") })
	old := s.certificate("gw.test", nil)

	pairFor(t, s.path("gw.test"), day, "gw.test")
	s.poll()
	if s.certificate("gw.test", nil) != old {
		t.Error("taken before it came to rest")
	}
	s.poll()
	second := s.certificate("gw.test", nil)
	if second == old {
		t.Error("not taken")
	}
	for name, spoil := range map[string]func(){
		"mismatch": func() {
			key := read(t, s.path("gw.test.key"))
			pairFor(t, s.path("gw.test"), day, "gw.test")
			put(t, s.path("gw.test.key"), key)
		},
		"garbage":  func() { put(t, s.path("gw.test.crt"), []byte("hm")) },
		"no key":   func() { _ = os.Remove(s.path("gw.test.key")) },
		"expired":  func() { pairFor(t, s.path("gw.test"), -time.Minute, "gw.test") },
		"nameless": func() { pairFor(t, s.path("gw.test"), day) },
	} {
		spoil()
		s.settle()
		if s.certificate("gw.test", nil) != second {
			t.Error(name, "taken")
		}
		if s.pairs["gw.test"].err == nil || !strings.Contains(s.log.String(), "kept=true") {
			t.Error(name, "not told")
		}
	}
	pairFor(t, s.path("gw.test"), day, "gw.test", "more.gw.test")
	s.settle()
	if s.shown("more.gw.test") == "" || s.pairs["gw.test"].err != nil {
		t.Error("not taken after all that")
	}
}

// A bad pair is told once, and a name that goes is gone.
func TestFilesComeAndGo(t *testing.T) {
	t.Parallel()
	s := newShelf(t, nil)
	if s.shown("gw.test") != "" {
		t.Error("out of nothing")
	}
	put(t, s.path("bad.crt"), []byte("hm"))
	for range 5 {
		s.poll()
	}
	if n := strings.Count(s.log.String(), "not taken"); n != 1 {
		t.Error("told", n, "times")
	}
	pairFor(t, s.path("gw.test"), day, "gw.test")
	s.settle()
	if s.shown("gw.test") == "" {
		t.Error("not taken")
	}
	_ = os.Remove(s.path("gw.test.crt"))
	_ = os.Remove(s.path("gw.test.key"))
	s.settle()
	if s.shown("gw.test") != "" {
		t.Error("still there")
	}
}

// As certbot leaves them: links that are turned to a new pair. And a folder
// that cannot be read for a while changes nothing.
func TestFilesLinks(t *testing.T) {
	t.Parallel()
	archive := t.TempDir()
	pairFor(t, filepath.Join(archive, "1"), day, "gw.test")
	pairFor(t, filepath.Join(archive, "2"), day, "gw.test")
	turn := func(dir, to string) {
		for _, ext := range []string{".crt", ".key"} {
			_ = os.Remove(filepath.Join(dir, "gw.test"+ext))
			if err := os.Symlink(filepath.Join(archive, to+ext), filepath.Join(dir, "gw.test"+ext)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := newShelf(t, func(dir string) { turn(dir, "1") })
	old := s.certificate("gw.test", nil)
	turn(s.dir, "2")
	s.settle()
	if c := s.certificate("gw.test", nil); c == nil || c == old {
		t.Error("not taken")
	}
	if err := os.Rename(s.dir, s.dir+".away"); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if s.shown("gw.test") == "" || !strings.Contains(s.log.String(), "cannot be read") {
		t.Error("forgotten")
	}
	if err := os.Rename(s.dir+".away", s.dir); err != nil {
		t.Fatal(err)
	}
}

// The whole way, watched as in a gateway.
func TestFilesWatched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pairFor(t, filepath.Join(dir, "gw.test"), day, "gw.test")
	l, _ := logger(t)
	cfg := Config{Mode: ModeFiles, CertDir: dir, Domain: "gw.test", Logger: l}
	m := mustNew(t, cfg)
	if !m.Ready("gw.test") || m.Ready("app.gw.test") {
		t.Error(m.Ready("gw.test"), m.Ready("app.gw.test"))
	}
	pairFor(t, filepath.Join(dir, "_wildcard.gw.test"), day, "*.gw.test")
	eventually(t, "the wildcard", func() bool { return m.Ready("app.gw.test") })

	put(t, filepath.Join(dir, "bad.crt"), nil)
	var levels []Level
	for _, line := range mustReport(t, cfg) {
		levels = append(levels, line.Level)
	}
	if len(levels) != 3 || levels[0] != OK || levels[1] != Fail || levels[2] != OK {
		t.Error(levels)
	}
}

func TestFilesMissing(t *testing.T) {
	t.Parallel()
	m, err := New(Config{Mode: ModeFiles, CertDir: filepath.Join(t.TempDir(), "none"), Domain: "gw.test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err == nil {
		t.Error("started")
	}
	if lines := m.Report(t.Context()); lines[0].Level != Fail {
		t.Errorf("%+v", lines)
	}
}
