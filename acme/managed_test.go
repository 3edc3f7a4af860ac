package acme

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

func TestObtain(t *testing.T) {
	for _, kind := range []string{HTTP01, TLSALPN01} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "gw.test", func(w *world) { w.cfg.Challenges = []string{kind} })
			m := w.start()
			w.ready("gw.test")
			if s := m.Ensure("app.gw.test", "ann"); s.Ready || s.Err != nil {
				t.Fatal(s)
			}
			w.ready("app.gw.test")
			eventually(t, "word of it", func() bool { err, told := w.news("app.gw.test"); return told && err == nil })
			for _, host := range []string{"gw.test", "app.gw.test"} {
				if _, err := w.visit(host); err != nil {
					t.Error(host, err)
				}
			}
			if s := m.Ensure("APP.gw.test.", "ann"); !s.Ready {
				t.Error(s)
			}
			if n := w.ca.ordered(""); n != 2 {
				t.Error(n, "orders")
			}
		})
	}
}

// Nothing that is stored may be read by others, and no key reaches the log.
func TestSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	w.start()
	w.ready("gw.test")
	w.stop()
	keys := 0
	err := filepath.WalkDir(w.cfg.State, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if strings.HasSuffix(path, ".key") {
			keys++
			block, _ := pem.Decode(read(t, path))
			inner := strings.Split(string(pem.EncodeToMemory(block)), "\n")[1]
			if strings.Contains(w.log.String(), inner) {
				t.Errorf("%s is in the log", path)
			}
		}
		return nil
	})
	if err != nil || keys != 2 || strings.Contains(w.log.String(), "PRIVATE KEY") {
		t.Error(keys, err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	w.start().Ensure("app.gw.test", "ann")
	w.ready("gw.test")
	w.ready("app.gw.test")
	before, err := w.visit("app.gw.test")
	if err != nil {
		t.Fatal(err)
	}
	w.stop()

	w.ca.failing(hangUp) // what is stored needs no CA
	m := w.start()
	if !m.Ready("gw.test") || m.Ready("app.gw.test") {
		t.Error("loaded at start:", m.Ready("gw.test"), m.Ready("app.gw.test"))
	}
	if s := m.Ensure("app.gw.test", "bob"); !s.Ready {
		t.Error(s)
	}
	after, err := w.visit("app.gw.test")
	if err != nil || !after.Equal(before) {
		t.Error("another certificate, or none:", err)
	}
	if n := w.ca.ordered(""); n != 2 {
		t.Error(n, "orders")
	}
}

// A kill between the writing of a key and its certificate.
func TestTornPair(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	m := w.start()
	w.ready("gw.test")
	issuer := m.from.(*managed).issuer.IssuerKey()
	w.stop()
	key, err := certmagic.StandardKeyGenerator{KeyType: certmagic.P256}.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := certmagic.PEMEncodePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.cfg.State, "certificates", filepath.FromSlash(certmagic.StorageKeys.SitePrivateKey(issuer, "gw.test")))
	if err := os.WriteFile(file, other, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.ready("gw.test")
	if _, err := w.visit("gw.test"); err != nil || w.ca.ordered("") != 2 {
		t.Error(err, w.ca.ordered(""), "orders")
	}
}

// What the disk does not take is served all the same, ordered once, and stored
// when there is room again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test", func(w *world) { w.cfg.renewEvery = 20 * time.Millisecond })
	m, err := New(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	store := m.from.(*managed).store
	disk := &fullDisk{Storage: store.disk}
	disk.full.Store(true)
	store.disk = disk
	if err := m.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.m = m
	w.current.Store(m)
	t.Cleanup(w.stop)
	w.ready("gw.test")
	if _, err := w.visit("gw.test"); err != nil {
		t.Error(err)
	}
	if !strings.Contains(w.log.String(), "no space left") {
		t.Error("nobody was told")
	}
	disk.full.Store(false)
	eventually(t, "it to be stored", func() bool { return strings.Contains(w.log.String(), "stored again") })
	w.stop()
	w.start()
	if !w.m.Ready("gw.test") || w.ca.ordered("") != 1 {
		t.Error(w.ca.ordered(""), "orders")
	}
}

// The account is made anew at a CA that forgot it, without a person's help.
func TestAccountForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	m := w.start()
	w.ready("gw.test")
	w.ca.reset(t, w.options)
	m.Ensure("app.gw.test", "ann")
	w.ready("app.gw.test")
}

func TestExternalAccount(t *testing.T) {
	t.Parallel()
	key := "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	w := newWorld(t, "gw.test", func(w *world) {
		w.options.eab = map[string]string{"kid:1": key}
		w.cfg.EAB = "kid:1:" + key + "==" // as some CAs hand them out
	})
	w.start()
	w.ready("gw.test")
	if strings.Contains(w.log.String(), key) {
		t.Error("the key is in the log")
	}
	w.stop()

	for eab, want := range map[string]error{"": errNoBinding, "kid:1:" + key[4:]: errBinding, "other:" + key: errBinding} {
		w.cfg.EAB, w.cfg.State = eab, t.TempDir()
		w.forget("gw.test")
		w.start()
		eventually(t, "a refusal", func() bool { err, _ := w.news("gw.test"); return errors.Is(err, want) })
		w.stop()
	}
}

// pebble's whims: nonces it gave out are refused, validation is slow, nothing
// is remembered, the chain is long and there are others.
func TestChaos(t *testing.T) {
	for key, value := range map[string]string{
		"PEBBLE_WFE_NONCEREJECT": "60", "PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": "2", "PEBBLE_AUTHZREUSE": "0",
	} {
		t.Setenv(key, value)
	}
	w := newWorld(t, "gw.test", func(w *world) { w.options.chain, w.options.alternates = 3, 1 })
	m := w.start()
	m.Ensure("app.gw.test", "ann")
	w.ready("gw.test")
	w.ready("app.gw.test")
	if _, err := w.visit("app.gw.test"); err != nil {
		t.Error(err)
	}
}

// A visitor's offer never selects the validation's profile by accident, and a
// validation that is not pending gets nothing.
func TestValidationProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	m := w.start()
	w.ready("gw.test")
	if m.Pending("gw.test") {
		t.Error("still pending")
	}
	if _, ok := m.HTTPChallenge("gw.test", challengePath+"x"); ok {
		t.Error("answered")
	}
	for _, c := range []struct{ offer, want string }{{"acme-tls/1", ""}, {"acme-tls/1,h2", "h2"}, {"h2,acme-tls/1", "h2"}} {
		conn, err := tls.Dial("tcp", w.tls.Addr().String(),
			&tls.Config{ServerName: "gw.test", InsecureSkipVerify: true, NextProtos: strings.Split(c.offer, ",")})
		if err != nil {
			if c.want != "" {
				t.Error(c, err)
			}
			continue
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != c.want || c.want == "" {
			t.Error(c, got)
		}
		conn.Close()
	}
}

func TestReportACME(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test")
	fresh := mustReport(t, w.cfg)
	if len(fresh) != 2 || fresh[0].Level != OK || fresh[1].Level != Warn {
		t.Errorf("%+v", fresh)
	}
	if _, err := os.Stat(w.cfg.State); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a report made the state folder")
	}
	w.start()
	w.ready("gw.test")
	lines := mustReport(t, w.cfg) // beside a running one
	if len(lines) != 2 || lines[1].Level != OK || !strings.Contains(lines[1].Text, "renewed from") {
		t.Errorf("%+v", lines)
	}
}

// A certificate that nobody needs any more runs out, and that is no failure.
func TestReportExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "gw.test", func(w *world) { w.options.life = 5 })
	m := w.start()
	w.ready("gw.test")
	m.Ensure("app.gw.test", "ann")
	w.ready("app.gw.test")
	w.stop()
	w.refuse("app.gw.test", true)
	eventually(t, "the end of both", func() bool {
		lines := mustReport(t, w.cfg)
		return strings.HasPrefix(lines[1].Text, "expired ") && strings.HasPrefix(lines[2].Text, "expired ")
	})
	lines := mustReport(t, w.cfg)
	if lines[1].What != "certificate app.gw.test" || lines[1].Level != Warn || lines[2].Level != Fail {
		t.Errorf("%+v", lines)
	}
}

// mustReport is the report of a Manager that is not started.
func mustReport(t *testing.T, cfg Config) []Line {
	t.Helper()
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if a, ok := m.from.(*managed); ok {
			a.issuer.http.CloseIdleConnections()
		}
	}()
	return m.Report(t.Context())
}
