package vhost

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// serves fails unless an ordinary visitor is served, in each version.
func (g *secureGate) serves(t *testing.T) {
	t.Helper()
	for _, version := range versions {
		if resp, _ := do(t, g.client(version), g.request(version, "GET", "/good", nil)); resp.StatusCode != 200 {
			t.Errorf("an ordinary visitor gets %v", resp)
		}
	}
}

// TestRapidReset opens streams and resets them at once (CVE-2023-44487): the
// service sees no more of them at a time than it is meant to.
func TestRapidReset(t *testing.T) {
	var now, most atomic.Int32
	g := frontTLS(t, httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		if q.URL.Path != "/good" {
			<-q.Context().Done()
		}
	}), func(o *BackendOptions) { o.MaxConns = 20 })
	c := g.dialHTTP2()
	go io.Copy(io.Discard, c.conn)
	for id := uint32(1); id < 20_000; id += 2 {
		if c.open(id, true, pseudo("GET", "/")...) != nil || c.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // sent away
		}
	}
	c.conn.NetConn().Close()
	until(t, "the end of all", func() bool { return now.Load() == 0 })
	if n := most.Load(); n > 20 {
		t.Errorf("%d requests at once", n)
	}
	g.serves(t)
}

// TestTooManyStreams: those beyond the limit are refused, the others served.
func TestTooManyStreams(t *testing.T) {
	hold := make(chan bool)
	g := frontTLS(t, httpOrigin(t, func(w http.ResponseWriter, q *http.Request) { <-hold }))
	c := g.dialHTTP2()
	for {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			c.WriteSettingsAck()
			if n, _ := s.Value(http2.SettingMaxConcurrentStreams); n != mostStreams {
				t.Errorf("%d streams", n)
			}
			break
		}
	}
	for i := range uint32(mostStreams + 1) {
		c.open(2*i+1, true, pseudo("GET", "/")...)
	}
	if got, _ := c.outcome(2*mostStreams + 1); got != "REFUSED_STREAM" && got != "PROTOCOL_ERROR" {
		t.Errorf("one too many: %s", got)
	}
	close(hold)
	if got, _ := c.outcome(1); got != "200" {
		t.Errorf("the first: %s", got)
	}
}

// TestFloods are visitors who send frames that cost them nothing, and read
// nothing: nobody else notices, and what would have to be kept is not.
func TestFloods(t *testing.T) {
	t.Parallel()
	g := frontTLS(t, httpOrigin(t, echo))
	for name, send := range map[string]func(c *rawHTTP2, i uint32) error{
		"PING":     func(c *rawHTTP2, _ uint32) error { return c.WritePing(false, [8]byte{}) },
		"SETTINGS": func(c *rawHTTP2, _ uint32) error { return c.WriteSettings() },
		"CONTINUATION": func(c *rawHTTP2, i uint32) error {
			if i == 0 {
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(pseudo("GET", "/")...)})
			}
			return c.WriteContinuation(1, false, c.block("a", strings.Repeat("b", 1000)))
		},
		"empty CONTINUATION": func(c *rawHTTP2, i uint32) error {
			if i == 0 {
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(pseudo("GET", "/")...)})
			}
			return c.WriteContinuation(1, false, nil)
		},
		"empty DATA": func(c *rawHTTP2, i uint32) error {
			if i == 0 {
				return c.open(1, false, pseudo("POST", "/")...)
			}
			return c.WriteData(1, false, nil)
		},
		"bomb": func(c *rawHTTP2, i uint32) error {
			// One entry of the table, named over and over (RFC 7541 7.3).
			block := c.block(append(pseudo("GET", "/"), "a", strings.Repeat("b", 3000))...)
			for range 10_000 {
				block = append(block, c.block("a", strings.Repeat("b", 3000))...)
			}
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block, EndStream: true, EndHeaders: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := g.dialHTTP2()
			c.conn.NetConn().(*net.TCPConn).SetReadBuffer(4096)
			limit := 150 * time.Millisecond
			if name == "CONTINUATION" {
				limit = patience // it is the one that must end before
			}
			c.conn.SetWriteDeadline(time.Now().Add(limit))
			var err error
			for i := uint32(0); err == nil && i < 1e6; i++ {
				err = send(c, i)
			}
			g.serves(t)
			if name == "CONTINUATION" && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)) {
				t.Errorf("let it all pass: %v", err)
			}
		})
	}
}

// TestClosedWindows: visitors who ask much and take nothing hold the service
// no longer than the stall timeout.
func TestClosedWindows(t *testing.T) {
	body := strings.Repeat("x", 100_000)
	g := frontTLS(t, httpOrigin(t, func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, body[:len(q.URL.Path)*1000]) }),
		func(o *BackendOptions) { o.StallTimeout = 200 * time.Millisecond })
	c := g.dialHTTP2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for i := range uint32(50) {
		c.open(2*i+1, true, pseudo("GET", "/"+strings.Repeat("p", int(i)))...)
	}
	for resets := 0; resets < 50; {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatalf("after %d resets: %v", resets, err)
		}
		if _, ok := f.(*http2.RSTStreamFrame); ok {
			resets++
		}
	}
	until(t, "the service to be free", func() bool { all, idle := g.backend.sizes(); return all == idle })
	g.serves(t)
}

// TestNoHandshake: who connects and says nothing, or not enough, is gone after
// ten seconds.
func TestNoHandshake(t *testing.T) {
	for _, said := range []string{"", "\x16\x03\x01\x02\x00\x01\x00"} {
		synctest.Test(t, func(t *testing.T) {
			server, _ := testTLS()
			near, far := net.Pipe()
			r := &Router{}
			began := time.Now()
			go func() {
				io.WriteString(near, said)
				io.Copy(io.Discard, near)
			}()
			r.ServeConn(tls.Server(far, TLSConfig(server)))
			if d := time.Since(began); d < handshakeLimit || d > handshakeLimit+6*time.Second {
				t.Errorf("after %v", d)
			}
			near.Close()
			r.Shutdown(context.Background())
		})
	}
}

// TestOtherALPN: a connection for another protocol ends, without an answer that
// this protocol would misread.
func TestOtherALPN(t *testing.T) {
	server, client := testTLS()
	server, client = TLSConfig(server), client.Clone()
	server.NextProtos, client.NextProtos = []string{"acme-tls/1"}, []string{"acme-tls/1"}
	near, far := net.Pipe()
	r := &Router{}
	done := make(chan bool)
	go func() { defer close(done); r.ServeConn(tls.Server(far, server)) }()
	c := tls.Client(near, client)
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	near.Close()
	<-done
	r.Shutdown(context.Background())
}

// TestMaxVisitorsTLS turns the next one away, whatever it speaks, and lets one
// in again when there is room.
func TestMaxVisitorsTLS(t *testing.T) {
	g := startTLS(t, &Router{MaxVisitors: 1, Resolve: func(context.Context, *Request) (*Backend, *Page) { return nil, nil }})
	for _, first := range versions {
		c := g.client(first)
		do(t, c, g.request(first, "GET", "/", nil))
		for _, next := range versions {
			if resp, err := g.client(next).Do(g.request(next, "GET", "/", nil)); err == nil {
				resp.Body.Close()
				t.Errorf("%s after %s: %v", next, first, resp)
			}
		}
		c.CloseIdleConnections()
		if tr, ok := c.Transport.(io.Closer); ok {
			tr.Close()
		}
		until(t, "room", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.visitors) == 0 })
	}
}

// TestPanicInStream costs that stream only.
func TestPanicInStream(t *testing.T) {
	t.Parallel()
	g := startTLS(t, &Router{
		Logger: slog.New(slog.DiscardHandler),
		Resolve: func(_ context.Context, r *Request) (*Backend, *Page) {
			if r.Path() == "/panic" {
				panic("as asked")
			}
			return nil, &Page{Status: 200}
		},
	})
	for _, version := range versions[1:] {
		c := g.client(version)
		for range 2 {
			if resp, err := c.Do(g.request(version, "GET", "/panic", nil)); err == nil {
				resp.Body.Close()
				t.Errorf("%s: %v", version, resp)
			}
			if resp, _ := do(t, c, g.request(version, "GET", "/", nil)); resp.StatusCode != 200 {
				t.Errorf("%s: and then %v", version, resp)
			}
		}
	}
}

// TestShutdownStreams lets the requests in flight finish, and takes no more.
func TestShutdownStreams(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			reached, finish := make(chan bool), make(chan bool)
			g := frontTLS(t, httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
				reached <- true
				<-finish
				io.WriteString(w, strings.Repeat("x", 100_000))
			}))
			c := g.client(version)
			got := make(chan string)
			go func() {
				_, body := do(t, c, g.request(version, "GET", "/", nil))
				got <- body
			}()
			<-reached
			down := make(chan error, 1)
			go func() { down <- g.Shutdown(context.Background()) }()
			until(t, "closing", func() bool { return g.closing.Load() })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if resp, err := g.client(version).Do(g.request(version, "GET", "/", nil).WithContext(ctx)); err == nil {
				resp.Body.Close()
				t.Errorf("another one got %v", resp)
			}
			close(finish)
			if body := <-got; len(body) != 100_000 {
				t.Errorf("%d bytes", len(body))
			}
			if err := <-down; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestShutdownStreamsForced cuts what does not finish in time.
func TestShutdownStreamsForced(t *testing.T) {
	reached := make(chan bool)
	g := frontTLS(t, httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		reached <- true
		<-q.Context().Done()
	}))
	var wait sync.WaitGroup
	for _, version := range versions {
		c := g.client(version)
		wait.Go(func() {
			if resp, err := c.Do(g.request(version, "GET", "/", nil)); err == nil {
				resp.Body.Close()
				t.Errorf("%s: %v", version, resp)
			}
		})
		<-reached
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	wait.Wait()
}

// TestForeignServer: ServeHTTP serves a server that knows nothing of Routers.
func TestForeignServer(t *testing.T) {
	b := NewBackend(BackendOptions{Dial: dialTo(httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		io.WriteString(w, q.Header.Get("X-Forwarded-For")+" "+q.Header.Get("X-Forwarded-Proto"))
	}))})
	defer b.Close(nil)
	r := &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { return b, nil }}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, _ := testTLS()
	s := &http.Server{Handler: r, TLSConfig: TLSConfig(server)}
	served := make(chan error)
	go func() { served <- s.ServeTLS(ln, "", "") }()
	g := &secureGate{&gate{Router: r, addr: ln.Addr().String(), t: t}, ""}
	if _, body := do(t, g.client("HTTP/2.0"), g.request("HTTP/2.0", "GET", "/", nil)); body != "127.0.0.1 https" {
		t.Errorf("%q", body)
	}
	s.Close()
	<-served
}
