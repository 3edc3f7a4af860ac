package vhost

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// moody is a service that answers with what it was asked, in any framing, now
// and then slowly, early, or not to the end.
func moody(c net.Conn, r *bufio.Reader) {
	for {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		mood := rand.IntN(20)
		if mood != 0 { // else answer early, and leave the body
			if _, err := io.Copy(io.Discard, q.Body); err != nil {
				return
			}
		}
		if mood == 1 {
			time.Sleep(lull + time.Duration(rand.IntN(50))*time.Millisecond)
		}
		body := strings.Repeat(q.URL.Path+" ", rand.IntN(3000)+1)
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		if mood%2 == 0 {
			head = fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		}
		if mood == 2 || mood == 3 {
			head = head[:rand.IntN(len(head))]
		}
		io.WriteString(c, head)
		if mood < 4 {
			return
		}
	}
}

// TestChaos: whatever happens around it, a visitor gets its own answer whole,
// or an error that cannot be taken for one.
func TestChaos(t *testing.T) {
	t.Parallel()
	o := rawOrigin(t, moody)
	var mu sync.Mutex
	back := NewBackend(BackendOptions{Dial: dialTo(o.addr)})
	g := start(t, &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { mu.Lock(); defer mu.Unlock(); return back, nil }})
	var wait sync.WaitGroup
	for i := range 12 {
		wait.Go(func() { g.pester(i) })
	}
	for range 20 {
		time.Sleep(20 * time.Millisecond)
		mu.Lock()
		old := back
		back = NewBackend(BackendOptions{Dial: dialTo(o.addr)})
		mu.Unlock()
		old.Close(nil)
	}
	wait.Wait()
	back.Close(nil)
}

// pester sends requests, a few on each connection, and leaves when it likes.
func (g *gate) pester(id int) {
	for i := range 25 {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			g.t.Error(err)
			return
		}
		c.SetDeadline(time.Now().Add(patience))
		r := bufio.NewReader(c)
		for j := range rand.IntN(6) + 1 {
			path := fmt.Sprintf("/%d/%d/%d", id, i, j)
			body := strings.Repeat("x", rand.IntN(2)*rand.IntN(60_000))
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
			if rand.IntN(15) == 0 || !g.heard(r, path) {
				break
			}
		}
		c.Close()
	}
}

// heard checks one answer, and reports whether another may follow.
func (g *gate) heard(r *bufio.Reader, path string) bool {
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return false
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == 200 && strings.Trim(strings.ReplaceAll(string(body), path, ""), " ") != "" {
		g.t.Errorf("%s got %.100q", path, body)
	}
	if err == nil && resp.StatusCode != 200 && resp.StatusCode != 502 && resp.StatusCode != 503 {
		g.t.Errorf("%s got %d", path, resp.StatusCode)
	}
	return err == nil && !resp.Close
}

// TestTLS: a visitor's connection may be any net.Conn, here one whose Close and
// deadlines are more than a socket's.
func TestTLS(t *testing.T) {
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS()
	defer certs.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certs.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	back := NewBackend(BackendOptions{Dial: dialTo(httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			time.Sleep(2 * lull)
		}
		w.Header().Set("X-Proto", q.Header.Get("X-Forwarded-Proto"))
		echo(w, q)
	}))})
	defer back.Close(nil)
	r := &Router{Proto: "https", Resolve: func(context.Context, *Request) (*Backend, *Page) { return back, nil }}
	served := make(chan error)
	go func() { served <- r.Serve(ln) }()
	client := certs.Client()
	for _, path := range []string{"/", "/slow", "/"} {
		for _, size := range []int{0, 100, 200_000} {
			data := bytes.Repeat([]byte("x"), size)
			resp, err := client.Post("https://"+ln.Addr().String()+path, "text/plain", bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, data) || resp.Header.Get("X-Proto") != "https" {
				t.Errorf("%s %d: %d bytes, %v, %v", path, size, len(got), err, resp.Header)
			}
		}
	}
	client.CloseIdleConnections()
	r.Shutdown(context.Background())
	<-served
}
