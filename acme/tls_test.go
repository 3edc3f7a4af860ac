package acme

import (
	"crypto/tls"
	"encoding/base32"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// recordHello is the first record that a client who asks for host sends.
func recordHello(t testing.TB, host string) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer b.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(a, &tls.Config{ServerName: host, CurvePreferences: []tls.CurveID{tls.X25519}}).Handshake()
		a.Close()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(b, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(b, body); err != nil {
		t.Fatal(err)
	}
	b.Close()
	<-done
	return append(head, body...)
}

// shake gives all that a server answers to hello.
func shake(t testing.TB, cfg *tls.Config, hello []byte) []byte {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Server(a, cfg).Handshake()
		a.Close()
	}()
	_ = b.SetDeadline(time.Now().Add(patience))
	if _, err := b.Write(hello); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	<-done
	return answer
}

// randomLabel is a label of ten characters, another for every n.
func randomLabel(n int) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(n)*0x9e3779b97f4a7c15)
	return strings.ToLower(base32.StdEncoding.EncodeToString(b)[:10])
}

func TestOldTLS(t *testing.T) {
	t.Parallel()
	m := mustNew(t, Config{Mode: ModeInternal, State: t.TempDir(), Domain: "localhost"})
	for _, c := range []struct {
		name string
		cfg  *tls.Config
		ok   bool
	}{
		{"1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		{"1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		{"1.2 with CBC", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
		{"1.3", &tls.Config{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = tls.Server(a, m.TLSConfig()).Handshake()
				a.Close()
			}()
			c.cfg.ServerName, c.cfg.InsecureSkipVerify = "app.localhost", true
			_ = b.SetDeadline(time.Now().Add(patience))
			if err := tls.Client(b, c.cfg).Handshake(); err == nil != c.ok {
				t.Error(err)
			}
			b.Close()
			<-done
		})
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"App.Example.COM": "app.example.com", "app.example.com.": "app.example.com", "a:443": "a", "xn--e1afmkfd.test": "xn--e1afmkfd.test",
		"": "", ".": "", "a..b": "", "-a": "", "a-": "", "a b": "", "a_b": "", "*.a": "", "1.2.3.4": "", "[::1]:443": "", "::1": "",
		strings.Repeat("a", 64): "", strings.Repeat("a.", 127) + "a": "", "a/b": "", "a\x00": "", "ä": "",
	} {
		got, ok := hostname(in)
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q %v", in, got, ok)
		}
	}
}

func FuzzHostname(f *testing.F) {
	for _, s := range []string{"a.b", "A.", "a:1", "[::1]", "..", "xn--a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, ok := hostname(s)
		if !ok {
			return
		}
		if again, ok := hostname(name); !ok || again != name {
			t.Errorf("%q: %q, then %q", s, name, again)
		}
		if strings.ContainsAny(name, "/\\ \n_*") || len(name) > 253 {
			t.Errorf("%q: %q", s, name)
		}
	})
}

// The token and the name must both be the pending ones: nothing of the request
// is ever repeated.
func FuzzHTTPChallenge(f *testing.F) {
	f.Add("app.gw.test", "/.well-known/acme-challenge/token")
	f.Add("APP.gw.test.:80", "/.well-known/acme-challenge/token")
	f.Add("gw.test", "/.well-known/acme-challenge/../token")
	f.Fuzz(func(t *testing.T, host, path string) {
		s := newSolvers()
		s.tokens["app.gw.test/.well-known/acme-challenge/token"] = "token.thumbprint"
		body, ok := s.http(host, path)
		name, _ := hostname(host)
		if want := name == "app.gw.test" && path == "/.well-known/acme-challenge/token"; ok != want {
			t.Errorf("%q %q: %q", host, path, body)
		}
	})
}
