package vhost

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// h2spec gives up a handshake that takes too long, and leaves this behind.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/summerwind/h2spec/spec.(*Conn).handshakeAsClient.func1"))
}

// patience bounds what a test waits for; nothing is measured by it.
const patience = 10 * time.Second

// gate is a Router on a loopback port, with one backend for every name.
type gate struct {
	*Router
	addr    string
	backend *Backend
	t       testing.TB
}

// start serves r until the test ends, and shuts it down then.
func start(t testing.TB, r *Router) *gate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return &gate{Router: r, addr: ln.Addr().String(), t: t}
}

// front is a gate before the service at addr.
func front(t testing.TB, addr string, change ...func(*BackendOptions)) *gate {
	t.Helper()
	o := BackendOptions{Dial: dialTo(addr)}
	for _, f := range change {
		f(&o)
	}
	b := NewBackend(o)
	t.Cleanup(func() { b.Close(nil) })
	g := start(t, &Router{
		Resolve:      func(context.Context, *Request) (*Backend, *Page) { return b, nil },
		CookieDomain: "gw.example.com",
	})
	g.backend = b
	return g
}

// sizes are the numbers of all connections to the service, and of idle ones.
func (b *Backend) sizes() (all, idle int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count, len(b.idle)
}

// dialTo dials connections that can be lent, as an SSH channel can, so that
// every test is one of prompt answers too.
func dialTo(addr string) Dial { return dialLending(addr) }

// dialPlain dials connections that cannot.
func dialPlain(addr string) Dial {
	return func(ctx context.Context, _ net.Addr) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

// origin is a service on a loopback port: each connection is given to serve,
// with a reader, and closed when serve returns.
type origin struct {
	addr  string
	mu    sync.Mutex
	conns int
}

// accepted is the number of connections so far.
func (o *origin) accepted() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.conns
}

func rawOrigin(t testing.TB, serve func(c net.Conn, r *bufio.Reader)) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{addr: ln.Addr().String()}
	var wait sync.WaitGroup
	var open sync.Map
	wait.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns++
			o.mu.Unlock()
			open.Store(c, true)
			wait.Go(func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		wait.Wait()
	})
	return o
}

// httpOrigin is a net/http service.
func httpOrigin(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); <-done })
	return ln.Addr().String()
}

// readHead reads a head up to and with its empty line.
func readHead(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String(), err
		}
	}
}

// answering serves every request's head (and a Content-Length body) with the
// same bytes.
func answering(answer string) func(net.Conn, *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		for {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, q.Body)
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
		}
	}
}

// client is a raw connection to a gate.
type client struct {
	net.Conn
	r *bufio.Reader
	t testing.TB
}

func (g *gate) dial() *client {
	g.t.Helper()
	return g.dialFrom("127.0.0.1")
}

// dialFrom is dial from another address of this machine.
func (g *gate) dialFrom(ip string) *client {
	g.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	g.t.Cleanup(func() { c.Close() })
	return &client{c, bufio.NewReader(c), g.t}
}

func (c *client) send(format string, args ...any) {
	c.t.Helper()
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	if _, err := io.WriteString(c.Conn, format); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// response reads one response and its body.
func (c *client) response(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("response: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("body: %v (after %q)", err, body)
	}
	return resp, string(body)
}

// ended fails unless the connection has ended, and returns what came before.
func (c *client) ended() []byte {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatalf("connection still open after %q", rest)
	}
	return rest
}

// once sends one request on a connection of its own and returns all that
// comes back.
func (g *gate) once(payload string) []byte {
	g.t.Helper()
	c := g.dial()
	c.send("%s", payload)
	return c.ended()
}

// status is the status code of a raw response, 0 if it is none.
func status(raw []byte) (n int) {
	fmt.Sscanf(string(bytes.TrimPrefix(raw, []byte("HTTP/1.1 "))), "%d", &n)
	return n
}

// until polls for cond.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
