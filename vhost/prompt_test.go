package vhost

import (
	"bufio"
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
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	before := promptly.Load()
	for i := range 100 {
		size := []int{0, 1, 1000, 5000, 20000, 40000, 300000}[i%7]
		method, query := []string{"GET", "GET", "HEAD"}[i%3], []string{"", "?chunked"}[i/7%2]
		fmt.Fprintf(c, "%s /%d%s HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n", method, size, query)
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%s %d%s: %v", method, size, query, err)
		}
		b, err := io.ReadAll(res.Body)
		want := size
		if method == "HEAD" {
			want = 0
		}
		if err != nil || len(b) != want {
			t.Fatalf("%s %d%s: %d bytes, %v", method, size, query, len(b), err)
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
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := "GET /%d HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n"
	fmt.Fprintf(c, request, 1)
	<-asked
	fmt.Fprintf(c, request, 2)
	close(go1)
	r := bufio.NewReader(c)
	for _, want := range []string{"/1", "/2"} {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); string(b) != want || err != nil {
			t.Fatalf("%q, %v; want %q", b, err, want)
		}
	}
}

// A visitor that takes its answers slowly gets every byte of them.
func TestPromptToASlowVisitor(t *testing.T) {
	g := front(t, sizedOrigin(t))
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetReadBuffer(64 << 10)
	const requests, size = 300, 30000
	go func() {
		for range requests {
			if _, err := fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n", size); err != nil {
				return
			}
			time.Sleep(time.Millisecond) // so that they come one by one, as far as that goes
		}
	}()
	r := bufio.NewReader(c)
	time.Sleep(200 * time.Millisecond) // until the answers have nowhere to go
	for i := range requests {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(i, err)
		}
		if b, err := io.ReadAll(res.Body); len(b) != size || err != nil {
			t.Fatal(i, len(b), err)
		}
	}
}

// A visitor that has ended its sending direction gets the answer to what it
// asked.
func TestPromptToAHalfClosedVisitor(t *testing.T) {
	g := front(t, sizedOrigin(t))
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /10 HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n")
	c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); !strings.HasSuffix(string(b), "\r\n\r\naaaaaaaaaa") || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// An idle visitor holds nothing of the exchange that was answered promptly, and
// its next request is answered as the first.
func TestPromptThenIdle(t *testing.T) {
	g := front(t, sizedOrigin(t))
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for range 3 {
		io.WriteString(c, "GET /10 HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(res.Body); len(b) != 10 || err != nil {
			t.Fatal(len(b), err)
		}
		time.Sleep(3 * lull) // the visitor's goroutine is roused meanwhile
		if _, idle := g.backend.sizes(); idle != 1 {
			t.Error("idle connections to the service:", idle)
		}
	}
}
