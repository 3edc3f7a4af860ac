package acme

import (
	"context"
	"strings"
	"testing"
	"time"
)

// benchManaged has one certificate, of a CA made here, for each of n names.
func benchManaged(b *testing.B, n int) *Manager {
	b.Helper()
	m, err := New(Config{
		Mode: ModeACME, Domain: "gw.test", State: b.TempDir(), CA: "https://127.0.0.1:1/", Logger: discard(),
		pause: func(int) time.Duration { return time.Hour },
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := m.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Close)
	in := newInternal(&Config{State: b.TempDir(), Domain: "gw.test", Logger: discard()})
	if err := in.start(context.Background()); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		c := in.certificate(randomLabel(i)+".gw.test", nil)
		if _, err := m.from.(*managed).magic.CacheUnmanagedTLSCertificate(b.Context(), *c, nil); err != nil {
			b.Fatal(err)
		}
	}
	return m
}

func BenchmarkReady(b *testing.B) {
	m := benchManaged(b, 1000)
	host := randomLabel(500) + ".gw.test"
	b.ReportAllocs()
	for b.Loop() {
		if !m.Ready(host) {
			b.Fatal("not ready")
		}
	}
}

// BenchmarkStranger is a handshake for a name that nobody has.
func BenchmarkStranger(b *testing.B) {
	m := benchManaged(b, 1000)
	hello := recordHello(b, "xxxxxxxxxx.gw.test")
	n := 1_000_000
	for b.Loop() {
		n++
		shake(b, m.TLSConfig(), []byte(strings.Replace(string(hello), "xxxxxxxxxx", randomLabel(n), 1)))
	}
}
