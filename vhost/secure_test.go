package vhost

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// testTLS is httptest's certificate, for example.com and 127.0.0.1, and the
// configuration of clients that trust it.
var testTLS = sync.OnceValues(func() (server, client *tls.Config) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates}, &tls.Config{RootCAs: roots, ServerName: "example.com"}
})

// secureGate is a Router on a TCP and a UDP port.
type secureGate struct {
	*gate
	udp string
}

// startTLS serves r over TLS and QUIC until the test ends.
func startTLS(t testing.TB, r *Router) *secureGate {
	t.Helper()
	server, _ := testTLS()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 2)
	go func() { served <- r.ServeTLS(ln, server) }()
	go func() { served <- r.ServeQUIC(pc, server) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		for range 2 {
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
		}
	})
	return &secureGate{&gate{Router: r, addr: ln.Addr().String(), t: t}, pc.LocalAddr().String()}
}

// frontTLS is a secureGate before the service at addr.
func frontTLS(t testing.TB, addr string, change ...func(*BackendOptions)) *secureGate {
	t.Helper()
	o := BackendOptions{Dial: dialTo(addr)}
	for _, f := range change {
		f(&o)
	}
	b := NewBackend(o)
	t.Cleanup(func() { b.Close(nil) })
	g := startTLS(t, &Router{
		Resolve:      func(context.Context, *Request) (*Backend, *Page) { return b, nil },
		CookieDomain: "gw.example.com", AltSvc: `h3=":443"`,
	})
	g.backend = b
	return g
}

// versions are the protocols a visitor may speak.
var versions = []string{"HTTP/1.1", "HTTP/2.0", "HTTP/3.0"}

// client returns one that speaks the given version to g.
func (g *secureGate) client(version string) *http.Client {
	_, conf := testTLS()
	conf = conf.Clone()
	if version == "HTTP/3.0" {
		tr := &http3.Transport{TLSClientConfig: conf, DisableCompression: true}
		g.t.Cleanup(func() { tr.Close() })
		return &http.Client{Transport: tr, CheckRedirect: asItIs, Timeout: patience}
	}
	var p http.Protocols
	p.SetHTTP1(version == "HTTP/1.1")
	p.SetHTTP2(version == "HTTP/2.0")
	tr := &http.Transport{TLSClientConfig: conf, Protocols: &p, DisableCompression: true}
	g.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: asItIs, Timeout: patience}
}

func asItIs(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// request is one to g, with the target as it is written.
func (g *secureGate) request(version, method, target string, body io.Reader) *http.Request {
	addr := g.addr
	if version == "HTTP/3.0" {
		addr = g.udp
	}
	q, err := http.NewRequest(method, "https://"+addr+"/", body)
	if err != nil {
		g.t.Fatal(err)
	}
	q.URL = &url.URL{Scheme: "https", Host: addr, Opaque: "//" + addr + target}
	if version == "HTTP/1.1" && !strings.HasPrefix(target, "//") { // else net/http makes it absolute
		q.URL.Opaque = target
	}
	q.Host = addr
	return q
}

// named is q for another host.
func named(q *http.Request, host string) *http.Request {
	q.URL.Opaque = strings.Replace(q.URL.Opaque, q.Host, host, 1)
	q.Host = host
	return q
}

// each runs f for every version a visitor may speak.
func (g *secureGate) each(t *testing.T, f func(t *testing.T, version string, c *http.Client)) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) { f(t, version, g.client(version)) })
	}
}

// do sends a request, and reads the whole response.
func do(t testing.TB, c *http.Client, q *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("body: %v (after %.100q)", err, body)
	}
	return resp, string(body)
}

// services are the ways to speak to one.
var services = map[string]func(testing.TB, http.HandlerFunc) (string, func(*BackendOptions)){
	"HTTP/1.1": func(t testing.TB, h http.HandlerFunc) (string, func(*BackendOptions)) {
		return httpOrigin(t, h), func(*BackendOptions) {}
	},
	"h2c": func(t testing.TB, h http.HandlerFunc) (string, func(*BackendOptions)) {
		return h2cOrigin(t, h), func(o *BackendOptions) { o.H2C = true }
	},
}

// h2cOrigin is a net/http service that speaks HTTP/2 in clear only.
func h2cOrigin(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: &p}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); <-done })
	return ln.Addr().String()
}

// everywhere runs f for each pair of a visitor's and a service's version.
func everywhere(t *testing.T, h http.HandlerFunc, f func(t *testing.T, g *secureGate, version string, c *http.Client)) {
	for name, start := range services {
		t.Run("to "+name, func(t *testing.T) {
			addr, option := start(t, h)
			g := frontTLS(t, addr, option)
			g.each(t, func(t *testing.T, version string, c *http.Client) { f(t, g, version, c) })
		})
	}
}

// TestBodiesEverywhere goes both ways in every size and framing, with trailers.
func TestBodiesEverywhere(t *testing.T) {
	t.Parallel()
	everywhere(t, echo, func(t *testing.T, g *secureGate, version string, c *http.Client) {
		for _, size := range []int{0, 1, 100, 4096, 5000, 100_000, 1 << 20} {
			for _, unknown := range []bool{false, true} {
				data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
				var body io.Reader = bytes.NewReader(data)
				if unknown {
					body = io.MultiReader(body) // hides the length
				}
				q := g.request(version, "POST", "/p?q", body)
				if unknown && size > 0 {
					q.Trailer = http.Header{"X-Sum": {"42"}}
				}
				resp, got := do(t, c, q)
				if got != string(data) || resp.Header.Get("X-Method") != "POST /p?q" || resp.Proto != version {
					t.Fatalf("%d %v: %d bytes, %v", size, unknown, len(got), resp)
				}
				if version == "HTTP/1.1" && resp.ContentLength >= 0 {
					resp.Trailer = make(http.Header)
					resp.Trailer.Set("X-Length", fmt.Sprint(size)) // an h2c service sends both; HTTP/1.1 cannot
				}
				if (resp.Header.Get("X-Sent-Trailer") == "42") != (unknown && size > 0) || resp.Trailer.Get("X-Length") != fmt.Sprint(size) {
					t.Fatalf("%d %v: trailers %v %v", size, unknown, resp.Header, resp.Trailer)
				}
			}
		}
	})
}

// odd answers in ways that a relay might be tempted to improve.
func odd(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("X-Target", q.Method+" "+q.RequestURI)
	w.Header()["X-Order"] = []string{"2", "1", "3"}
	switch path, _, _ := strings.Cut(q.RequestURI, "?"); path {
	case "/untyped":
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "<html>")
	case "/gzip":
		w.Header().Set("Content-Encoding", "gzip")
		w.Write([]byte{0x1f, 0x8b, 8, 0})
	case "/range":
		http.ServeContent(w, q, "x.bin", time.Unix(1e9, 0), strings.NewReader(strings.Repeat("range", 1000)))
	case "/moved":
		http.Redirect(w, q, "/else?a=1;b=%zz", http.StatusFound)
	case "/204":
		w.WriteHeader(204)
	case "/304":
		w.Header().Set("Etag", `"x"`)
		w.WriteHeader(304)
	case "/early":
		w.Header().Add("Link", "</a>")
		w.WriteHeader(103)
		io.WriteString(w, "late")
	case "/cookies":
		w.Header()["Set-Cookie"] = []string{"a=1; Path=/", "b=2; Domain=blog.gw.example.com"}
	case "/empty":
	case "/status":
		w.WriteHeader(599)
	case "/under_score":
		w.Header()["x_y"] = []string{"1"}
	}
}

// TestTransparentEverywhere compares what a service's own visitor gets with
// what comes through.
func TestTransparentEverywhere(t *testing.T) {
	direct := &http.Client{Transport: &http.Transport{DisableCompression: true}, CheckRedirect: asItIs}
	defer direct.CloseIdleConnections()
	plain := httpOrigin(t, odd)
	everywhere(t, odd, func(t *testing.T, g *secureGate, version string, c *http.Client) {
		for _, target := range []string{"/untyped", "/gzip", "/range", "/moved", "/204", "/304", "/early", "/cookies", "/empty", "/status", "/under_score",
			"//a/../b/%2F?a=1;b=%zz&c=\\|{}^\"<>", "/ü?ü=\xe2\x82\xac", "/?", "/a;b=c/./d/"} {
			for _, method := range []string{"GET", "HEAD", "PROPFIND"} {
				q, _ := http.NewRequest(method, "http://"+plain, nil)
				q.URL.Opaque = target
				q.Header.Set("Range", "bytes=100-2000")
				want, wantBody := do(t, direct, q)
				q = g.request(version, method, target, nil)
				q.Header.Set("Range", "bytes=100-2000")
				got, gotBody := do(t, c, q)
				if seen := got.Header.Get("X-Target"); seen != method+" "+target {
					t.Errorf("%s %s became %s", method, target, seen)
				}
				if got.StatusCode != want.StatusCode || gotBody != wantBody {
					t.Errorf("%s %s: %d %.100q, directly %d %.100q", method, target, got.StatusCode, gotBody, want.StatusCode, wantBody)
				}
				if a, b := comparable(got.Header), comparable(want.Header); a != b {
					t.Errorf("%s %s:\ngot  %s\nwant %s", method, target, a, b)
				}
			}
		}
	})
}

// comparable is a header as text, without what is ours to add, or tells the
// framing.
func comparable(h http.Header) string {
	var lines []string
	for name, values := range h {
		switch name {
		case "X-Target", "Date", "Alt-Svc", "Content-Length", "Transfer-Encoding", "Connection":
		default:
			lines = append(lines, strings.ToLower(name)+": "+strings.Join(values, "|"))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
