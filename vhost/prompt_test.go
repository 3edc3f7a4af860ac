package vhost

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sizedOrigin answers /SIZE with so many bytes, in chunks where asked.
func sizedOrigin(t testing.TB) string {
	return httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if r.URL.RawQuery != "chunked" {
			w.Header().Set("Content-Length", strconv.Itoa(n))
		}
		w.Write(bytes.Repeat([]byte("a"), n))
		if r.URL.RawQuery == "chunked" {
			w.(http.Flusher).Flush()
		}
	})
}

// A connection that carries answers of every kind, most of them prompt ones,
// gives each of them whole and in its turn.
func TestPromptAnswers(t *testing.T) {
	g := front(t, sizedOrigin(t))
	c := g.dial()
	before := promptly.Load()
	for i := range 100 {
		size := []int{0, 1, 1000, 5000, 20000, 40000, 300000}[i%7]
		method, query := []string{"GET", "GET", "HEAD"}[i%3], []string{"", "?chunked"}[i/7%2]
		c.send("%s /%d%s HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n", method, size, query)
		want := size
		if method == "HEAD" {
			want = 0
		}
		if _, b := c.response(method); len(b) != want {
			t.Fatalf("%s %d%s: %d bytes", method, size, query, len(b))
		}
	}
	if n := promptly.Load() - before; n < 30 {
		t.Errorf("%d answers were passed on by who had read them", n)
	}
}

// A request that is sent before the answer to the one before is answered
// second.
func TestPromptPipelined(t *testing.T) {
	asked, go1 := make(chan string, 2), make(chan bool)
	g := front(t, httpOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		if r.URL.Path == "/1" {
			<-go1
		}
		io.WriteString(w, r.URL.Path)
	}))
	c := g.dial()
	request := "GET /%d HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n"
	c.send(request, 1)
	<-asked
	c.send(request, 2)
	close(go1)
	for _, want := range []string{"/1", "/2"} {
		if _, b := c.response("GET"); b != want {
			t.Fatalf("%q, want %q", b, want)
		}
	}
}

// A visitor that takes its answers slowly gets every byte of them.
func TestPromptToASlowVisitor(t *testing.T) {
	g := front(t, sizedOrigin(t))
	c := g.dial()
	c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	const requests, size = 300, 30000
	go func() {
		for range requests {
			if _, err := fmt.Fprintf(c.Conn, "GET /%d HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n", size); err != nil {
				return
			}
			time.Sleep(time.Millisecond) // so that they come one by one, as far as that goes
		}
	}()
	time.Sleep(200 * time.Millisecond) // until the answers have nowhere to go
	for i := range requests {
		if _, b := c.response("GET"); len(b) != size {
			t.Fatal(i, len(b))
		}
	}
}

// A visitor that has ended its sending direction gets the answer to what it
// asked.
func TestPromptToAHalfClosedVisitor(t *testing.T) {
	g := front(t, sizedOrigin(t))
	c := g.dial()
	c.send("GET /10 HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n")
	c.Conn.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c.Conn); !strings.HasSuffix(string(b), "\r\n\r\naaaaaaaaaa") || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// An idle visitor holds nothing of the exchange that was answered promptly, and
// its next request is answered as the first.
func TestPromptThenIdle(t *testing.T) {
	g := front(t, sizedOrigin(t))
	c := g.dial()
	for range 3 {
		c.send("GET /10 HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n")
		if _, b := c.response("GET"); len(b) != 10 {
			t.Fatal(len(b))
		}
		time.Sleep(3 * lull) // the visitor's goroutine is roused meanwhile
		if _, idle := g.backend.sizes(); idle != 1 {
			t.Error("idle connections to the service:", idle)
		}
	}
}
