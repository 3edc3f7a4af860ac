package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func internalConfig(t *testing.T) Config {
	log, _ := logger(t)
	return Config{
		Mode: ModeInternal, State: t.TempDir(), Domain: "localhost", Logger: log,
		Allow: func(_ context.Context, host string) error {
			if host == "custom.example" {
				return nil
			}
			return errors.New("no")
		},
	}
}

// rootOf are the roots that who trusts m has.
func rootOf(t *testing.T, m *Manager) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(read(t, m.InternalRoot())) {
		t.Fatal("no root")
	}
	return pool
}

// serveTLS is an https server of m; host:port.
func serveTLS(t *testing.T, m *Manager, address string) string {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err) // there may be no IPv6
	}
	hello := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }
	s := &http.Server{Handler: http.HandlerFunc(hello), TLSConfig: m.TLSConfig(), ErrorLog: log.New(io.Discard, "", 0)}
	run(t, func() { _ = s.ServeTLS(ln, "", "") }, s.Close)
	return ln.Addr().String()
}

func TestInternal(t *testing.T) {
	t.Parallel()
	m := mustNew(t, internalConfig(t))
	roots := rootOf(t, m)
	addr := serveTLS(t, m, "127.0.0.1:0")
	for _, host := range []string{"localhost", "app.localhost", "a.b.localhost", "custom.example", "127.0.0.1"} {
		c, err := visit(addr, host, roots)
		if err != nil {
			t.Error(host, err)
			continue
		}
		if life := c.NotAfter.Sub(c.NotBefore); life > leafLife+backdate || c.IsCA {
			t.Error(host, life, c.IsCA)
		}
	}
	if _, err := visit(addr, "other.example", roots); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Error(err)
	}
	for host, want := range map[string]bool{"app.localhost": true, "custom.example": true, "other.example": false} {
		if m.Ready(host) != want || m.Ensure(host, "ann").Ready != want {
			t.Error(host)
		}
	}
	if _, ok := m.HTTPChallenge("localhost", challengePath+"x"); ok || m.Pending("localhost") {
		t.Error("there are no challenges here")
	}
}

func TestInternalIPv6(t *testing.T) {
	t.Parallel()
	m := mustNew(t, internalConfig(t))
	addr := serveTLS(t, m, "[::1]:0")
	if _, err := visit(addr, "::1", rootOf(t, m)); err != nil {
		t.Error(err)
	}
}

// curl is who the start block's words are for.
func TestInternalCurl(t *testing.T) {
	t.Parallel()
	need(t, "curl", "curl")
	m := mustNew(t, internalConfig(t))
	_, port, _ := net.SplitHostPort(serveTLS(t, m, "127.0.0.1:0"))
	for _, host := range []string{"app.localhost", "127.0.0.1"} {
		out, err := exec.Command("curl", "-sS", "--noproxy", "*", "--cacert", m.InternalRoot(), "--resolve", host+":"+port+":127.0.0.1",
			"https://"+net.JoinHostPort(host, port)).CombinedOutput()
		if err != nil || string(out) != "hello" {
			t.Errorf("%s: %s %v", host, out, err)
		}
	}
}

// need skips the test without program, and fails it where nothing may be
// skipped.
func need(t *testing.T, program, debian string) string {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: apt-get install %s", program, debian)
	}
	t.Skipf("%s is missing: apt-get install %s", program, debian)
	return ""
}

// A client that names an address, as wrk does, gets what one gets that names
// nothing (RFC 6066, section 3: an address is no name).
func TestAddressAsName(t *testing.T) {
	t.Parallel()
	get := mustNew(t, internalConfig(t)).TLSConfig().GetCertificate
	for _, name := range []string{"", "127.0.0.1", "::1"} {
		if c, err := get(&tls.ClientHelloInfo{ServerName: name}); err != nil || c == nil || c.Leaf.DNSNames[0] != "localhost" {
			t.Errorf("%q: %v, %v", name, c, err)
		}
	}
}

// The root is made once: who trusts it need not do so again.
func TestInternalRootStays(t *testing.T) {
	t.Parallel()
	cfg := internalConfig(t)
	if lines := mustReport(t, cfg); len(lines) != 1 || lines[0].Level != OK || !strings.Contains(lines[0].Text, "first") || !strings.Contains(lines[0].Text, "to trust it: curl --cacert ") {
		t.Errorf("%+v", lines)
	}
	first := read(t, mustNew(t, cfg).InternalRoot())
	if second := read(t, mustNew(t, cfg).InternalRoot()); string(first) != string(second) {
		t.Error("another root")
	}
	dir := filepath.Join(cfg.State, "internal-ca")
	for file, mode := range map[string]os.FileMode{"": 0o700, "root.key": 0o600, "root.crt": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != mode {
			t.Error(file, info.Mode(), err)
		}
	}
	if lines := mustReport(t, cfg); lines[0].Level != OK || !strings.Contains(lines[0].Text, "; to trust it: curl --cacert "+filepath.Join(dir, "root.crt")+", ") {
		t.Errorf("%+v", lines)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Error(entries, err)
	}
}

func TestInternalRootDamaged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string // "" for none
	}{
		"key gone":      {func(t *testing.T, dir string) { remove(t, dir, "root.key") }, "restore it"},
		"root gone":     {func(t *testing.T, dir string) { remove(t, dir, "root.crt") }, ""},
		"key open":      {func(t *testing.T, dir string) { _ = os.Chmod(filepath.Join(dir, "root.key"), 0o640) }, "chmod 600"},
		"root empty":    {func(t *testing.T, dir string) { _ = os.WriteFile(filepath.Join(dir, "root.crt"), nil, 0o600) }, "no CERTIFICATE"},
		"another's key": {func(t *testing.T, dir string) { remove(t, dir, "root.key"); makeKey(filepath.Join(dir, "root.key")) }, "does not belong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := internalConfig(t)
			mustNew(t, cfg)
			c.damage(t, filepath.Join(cfg.State, "internal-ca"))
			m, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = m.Start(t.Context())
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Error(err)
			}
			if line := mustReport(t, cfg)[0]; (line.Level == OK) != (err == nil) || err != nil && !strings.Contains(err.Error(), line.Text) {
				t.Errorf("the report says %+v, and start %v", line, err)
			}
		})
	}
}

func remove(t *testing.T, dir, file string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, file)); err != nil {
		t.Fatal(err)
	}
}

// A leaf is shown again while it is fresh, and made anew long before its end.
func TestInternalLeafLife(t *testing.T) {
	cfg := internalConfig(t)
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, cfg)
		leafOf := func() *tls.Certificate { return m.from.certificate("app.localhost", nil) }
		first := leafOf()
		time.Sleep(15 * time.Hour)
		if leafOf() != first {
			t.Error("made anew early")
		}
		time.Sleep(2 * time.Hour)
		second := leafOf()
		if second == first || time.Until(second.Leaf.NotAfter) != leafLife {
			t.Error("not made anew:", second.Leaf.NotAfter)
		}
		time.Sleep(rootYears*365*24*time.Hour - 24*time.Hour) // the root's last days
		if last := leafOf(); last.Leaf.NotAfter.After(m.from.(*internal).root.cert.NotAfter) {
			t.Error("outlives its root")
		}
	})
}

func TestInternalBounded(t *testing.T) {
	t.Parallel()
	m := mustNew(t, internalConfig(t))
	in := m.from.(*internal)
	kept := m.from.certificate("kept.localhost", nil)
	for i := range maxLeaves + 200 {
		m.from.certificate(fmt.Sprintf("n%d.localhost", i), nil)
		if m.from.certificate("kept.localhost", nil) != kept {
			t.Fatal("the most recent went after", i)
		}
	}
	if len(in.leaves) != maxLeaves || in.recent.Len() != maxLeaves {
		t.Error(len(in.leaves), in.recent.Len())
	}
}
