package vhost

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"adit/tcp"
)

// TestDialErrors: each way of not being reached has its page.
func TestDialErrors(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("open: %w", syscall.ECONNREFUSED), 502}, {os.ErrDeadlineExceeded, 504}, {context.DeadlineExceeded, 504},
		{net.ErrClosed, 503}, {errors.New("else"), 502},
	} {
		seen := make(chan Exchange, 1)
		g := front(t, "", func(o *BackendOptions) {
			o.Dial = func(context.Context, net.Addr) (net.Conn, error) { return nil, test.err }
			o.Observe = func(x *Exchange) { seen <- *x }
		})
		c := g.dial()
		for range 2 {
			c.send("GET /p HTTP/1.1\r\nHost: A.\r\nX-Request-Id: i\r\n\r\n")
			if resp, _ := c.response("GET"); resp.StatusCode != test.status || (resp.Header.Get("Retry-After") != "") != (test.status == 503) {
				t.Errorf("%v: %v", test.err, resp)
			}
			x := <-seen
			if x.Status != test.status || test.status != 503 && !errors.Is(x.Err, test.err) || x.ID != "i" || x.Host != "a" || x.Target != "/p" {
				t.Errorf("observed %+v", x)
			}
		}
	}
}

// TestObserve counts what passed.
func TestObserve(t *testing.T) {
	seen := make(chan Exchange, 1)
	g := front(t, httpOrigin(t, echo), func(o *BackendOptions) { o.Observe = func(x *Exchange) { seen <- *x } })
	for _, size := range []int{0, 10, 100_000} {
		c := g.dial()
		c.send("POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
		c.response("POST")
		x := <-seen
		if x.Method != "POST" || x.Target != "/x?y" || x.Status != 200 || x.Err != nil || x.BytesIn != int64(size) || x.BytesOut != int64(size) ||
			x.Visitor.String() != c.LocalAddr().String() || x.Start.IsZero() || x.Duration <= 0 || x.ID == "" {
			t.Errorf("%+v", x)
		}
	}
}

// TestSlowHead: the service has the request and does not answer.
func TestSlowHead(t *testing.T) {
	for name, request := range map[string]string{
		"GET": "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"long POST": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000),
	} {
		o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
		g := front(t, o.addr, func(o *BackendOptions) { o.ResponseTimeout = 50 * time.Millisecond })
		c := g.dial()
		c.send("%s", request)
		if resp, _ := c.response("GET"); resp.StatusCode != 504 {
			t.Errorf("%s: %v", name, resp)
		}
	}
}

// TestStalledService takes nothing: the body cannot be sent. It is told so, and
// not that a connection was closed, also where its answer has begun.
func TestStalledService(t *testing.T) {
	for begun, want := range map[string]string{"": "HTTP/1.1 504", "HTTP/1.1 200 OK\r\n\r\nx": "HTTP/1.1 200"} {
		o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
			c.(*net.TCPConn).SetReadBuffer(4096)
			io.CopyN(io.Discard, r, 1)
			io.WriteString(c, begun)
			c.SetDeadline(time.Now().Add(patience))
			<-t.Context().Done()
		})
		seen := make(chan error, 1)
		g := front(t, o.addr, func(o *BackendOptions) {
			o.StallTimeout, o.Observe = 100*time.Millisecond, func(x *Exchange) { seen <- x.Err }
		})
		c := g.dial()
		go io.Copy(c.Conn, io.LimitReader(zeros{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n"}, 100<<20))
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
		if err := <-seen; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: observed %v", begun, err)
		}
		c.Close()
	}
}

// zeros yields a head and then its last byte for ever.
type zeros struct{ head string }

func (z zeros) Read(p []byte) (int, error) {
	n := copy(p, z.head)
	for i := n; i < len(p); i++ {
		p[i] = '0'
	}
	return len(p), nil
}

// TestStalledVisitor takes nothing of its response: it is cut, and the service
// with it.
func TestStalledVisitor(t *testing.T) {
	ended := make(chan error, 1)
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		_, err := io.Copy(c, io.LimitReader(zeros{}, 1e9))
		ended <- err
	})
	g := front(t, o.addr, func(o *BackendOptions) { o.StallTimeout = 100 * time.Millisecond })
	c := g.dial()
	c.Conn.(*net.TCPConn).SetReadBuffer(4096)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a gigabyte went nowhere")
		}
	case <-time.After(patience):
		t.Error("never cut")
	}
}

// TestSlowVisitor takes its response slowly, which is no stall, however much of
// it could be sent at once.
func TestSlowVisitor(t *testing.T) {
	const stall = 3 * time.Second
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		io.Copy(c, io.LimitReader(zeros{}, 1e9))
	})
	server, client := testTLS()
	for name, secure := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := front(t, o.addr, func(o *BackendOptions) { o.StallTimeout = stall })
			lns, err := tcp.Listen([]string{"127.0.0.1"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			var c net.Conn
			if c, err = net.Dial("tcp", lns[0].Addr().String()); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if secure {
				go g.ServeTLS(lns[0], server)
				c = tls.Client(c, client)
			} else {
				go g.Serve(lns[0])
			}
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
			buf := make([]byte, 16<<10)
			for began := time.Now(); time.Since(began) < 3*stall; time.Sleep(stall / 50) {
				if _, err := io.ReadFull(c, buf); err != nil {
					t.Fatalf("after %v: %v", time.Since(began), err)
				}
			}
		})
	}
}

// TestStaleConnection: a service that closes idle connections is asked again,
// if that is safe, and the visitor notices nothing.
func TestStaleConnection(t *testing.T) {
	var requests atomic.Int32
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.Copy(io.Discard, q.Body)
		requests.Add(1)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") // and closes, without a word
	})
	c := front(t, o.addr).dial()
	for i := range 30 {
		c.send([]string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"}[i%2])
		if resp, _ := c.response([]string{"GET", "HEAD"}[i%2]); resp.StatusCode != 200 {
			t.Fatalf("%d: %v", i, resp)
		}
	}
	if n := requests.Load(); n != 30 {
		t.Errorf("%d requests seen", n)
	}
}

// deafConn hides that anything has arrived, so that a dead connection is found
// out by using it.
type deafConn struct{ net.Conn }

func (deafConn) Quiet() bool { return true }

// TestNoSecondPost: what the service may have acted on is not sent again.
func TestNoSecondPost(t *testing.T) {
	var requests atomic.Int32
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for n := 0; ; n++ {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, q.Body)
			requests.Add(1)
			if n == 1 {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	g := front(t, o.addr, func(o *BackendOptions) {
		dial := o.Dial
		o.Dial = func(ctx context.Context, a net.Addr) (net.Conn, error) {
			c, err := dial(ctx, a)
			return deafConn{c}, err
		}
	})
	c := g.dial()
	for _, test := range []struct {
		method string
		status int
		seen   int32
	}{{"POST", 200, 1}, {"POST", 502, 2}, {"GET", 200, 3}, {"GET", 200, 5}} { // the last: once in vain, once again
		c.send("%s / HTTP/1.1\r\nHost: a\r\n\r\n", test.method)
		if resp, _ := c.response(test.method); resp.StatusCode != test.status || requests.Load() != test.seen {
			t.Fatalf("%s: %v after %d requests", test.method, resp, requests.Load())
		}
	}
}

// TestUnsolicited: bytes that no request asked for must not become the next
// visitor's response.
func TestUnsolicited(t *testing.T) {
	sent := make(chan bool)
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
		<-sent
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		sent <- true
		readHead(r)
	})
	g := front(t, o.addr, func(b *BackendOptions) { b.Dial = dialPlain(o.addr) }) // where what was sent has come
	for range 3 {
		c := g.dial()
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, body := c.response("GET"); body != "good" {
			t.Fatalf("%q", body)
		}
		sent <- true
		<-sent
	}
	if o.accepted() != 3 {
		t.Errorf("%d connections", o.accepted())
	}
}

// TestRefusedUpload: who sends a long body that nobody takes can send on for a
// while, and so comes to read the answer.
func TestRefusedUpload(t *testing.T) {
	full := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	for want, g := range map[int]*gate{
		404: start(t, &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { return nil, nil }}),
		413: front(t, full.addr),
	} {
		c := g.dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n%s", strings.Repeat("x", 12<<20))
		if resp, _ := c.response("POST"); resp.StatusCode != want || !resp.Close {
			t.Errorf("%d: %v", want, resp)
		}
	}
}

// TestEarlyAnswerKept: after an answer that came before the whole body nobody
// knows where the next request begins, so there is none.
func TestEarlyAnswerKept(t *testing.T) {
	g := front(t, rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, benchResponse)
		io.Copy(io.Discard, r)
	}).addr)
	c := g.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
	c.response("POST")
	if rest := c.ended(); len(rest) > 0 {
		t.Errorf("and then %q", rest)
	}
}

// TestUsedOnce: a connection whose service says that it is the last time, or says
// more than it was asked, is not used again, though it stays open.
func TestUsedOnce(t *testing.T) {
	for name, answer := range map[string]string{
		"close":         "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngood",
		"1.0":           "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ngood",
		"another":       "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"a byte":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\nx",
		"body of a 304": "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil",
	} {
		o := rawOrigin(t, answering(answer))
		c := front(t, o.addr).dial()
		for range 3 {
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			if _, body := c.response("GET"); body != "good" && name != "body of a 304" {
				t.Errorf("%s: %q", name, body)
			}
		}
		if o.accepted() != 3 {
			t.Errorf("%s: %d connections for 3 requests", name, o.accepted())
		}
	}
}

// unreading is a service that answers a request with its path and does not read
// its body, which it then takes for the next request, as python's http.server
// does.
func unreading(c net.Conn, r *bufio.Reader) {
	for {
		head, err := readHead(r)
		if err != nil {
			return
		}
		path := strings.Fields(head)[1]
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(path), path)
	}
}

// TestUnreadBody: the beginning of a request in a body that the service leaves
// unread is put before nobody else's request. The visitor whose body it was may
// hurt itself, and the connection is not lost to it.
func TestUnreadBody(t *testing.T) {
	const evil = "GET /evil HTTP/1.1\r\nHost: a\r\nX: "
	for _, method := range []string{"GET", "POST"} {
		o := rawOrigin(t, unreading)
		g := front(t, o.addr)
		attacker := g.dial()
		attacker.send("%s /first HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", method, len(evil), evil)
		if _, body := attacker.response(method); body != "/first" {
			t.Fatalf("%s: %q", method, body)
		}
		until(t, "it is idle", func() bool { _, idle := g.backend.sizes(); return idle == 1 })
		victim := g.dial()
		victim.send("GET /victim HTTP/1.1\r\nHost: a\r\nCookie: secret\r\n\r\n")
		if _, body := victim.response("GET"); body != "/victim" {
			t.Errorf("%s: another visitor was answered with %q", method, body)
		}
		attacker.send("GET /own HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, body := attacker.response("GET"); body != "/own" && body != "/evil" {
			t.Errorf("%s: the attacker was answered with %q", method, body)
		}
		if n := o.accepted(); n != 2 {
			t.Errorf("%s: %d connections, want 2", method, n)
		}
	}
}

// TestIdleOfOthers: connections that are idle for other visitors alone do not
// keep one out.
func TestIdleOfOthers(t *testing.T) {
	o := rawOrigin(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"))
	g := front(t, o.addr, func(o *BackendOptions) { o.MaxConns = 4 })
	for i := range 10 {
		c := g.dial()
		c.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
		if resp, _ := c.response("GET"); resp.StatusCode != 200 {
			t.Errorf("visitor %d: %s", i, resp.Status)
		}
	}
}

// TestBackendsApart: connections of one backend never serve another.
func TestBackendsApart(t *testing.T) {
	addr := httpOrigin(t, func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, q.RemoteAddr) })
	backends := map[string]*Backend{}
	for _, name := range []string{"a", "b"} {
		backends[name] = NewBackend(BackendOptions{Dial: dialTo(addr)})
		defer backends[name].Close(nil)
	}
	g := start(t, &Router{Resolve: func(_ context.Context, r *Request) (*Backend, *Page) { return backends[r.Host], nil }})
	c := g.dial()
	from := map[string]string{}
	for i := range 20 {
		name := []string{"a", "b"}[i%2]
		c.send("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", name)
		_, body := c.response("GET")
		if was := from[name]; was != "" && was != body {
			t.Errorf("%s changed its connection", name)
		}
		from[name] = body
	}
	if from["a"] == from["b"] {
		t.Error("one connection for two backends")
	}
}

// TestMaxConns: beyond the limit there is an answer at once.
func TestMaxConns(t *testing.T) {
	hold := make(chan bool)
	addr := httpOrigin(t, func(w http.ResponseWriter, q *http.Request) { <-hold })
	g := front(t, addr, func(o *BackendOptions) { o.MaxConns = 2 })
	var busy []*client
	for _, ip := range []string{"127.0.0.2", "127.0.0.3"} {
		c := g.dialFrom(ip)
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		busy = append(busy, c)
	}
	until(t, "two connections", func() bool { all, _ := g.backend.sizes(); return all == 2 })
	c := g.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if resp, _ := c.response("GET"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%v", resp)
	}
	close(hold)
	for _, c := range append(busy, c) {
		if c != busy[0] && c != busy[1] {
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		}
		if resp, _ := c.response("GET"); resp.StatusCode != 200 {
			t.Errorf("%v", resp)
		}
	}
}

// TestBackendCloses in the middle of a request: 502 if the service has it, the
// next backend if it has not.
func TestBackendCloses(t *testing.T) {
	reached := make(chan bool)
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) { readHead(r); reached <- true; io.Copy(io.Discard, r) })
	seen := make(chan Exchange, 1)
	g := front(t, o.addr, func(o *BackendOptions) { o.Observe = func(x *Exchange) { seen <- *x } })
	c := g.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
	<-reached
	gone := errors.New("tunnel lost")
	g.backend.Close(gone)
	if resp, _ := c.response("POST"); resp.StatusCode != 502 {
		t.Errorf("%v", resp)
	}
	if x := <-seen; !errors.Is(x.Err, gone) {
		t.Errorf("%v", x.Err)
	}
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") // the resolver goes on naming it
	if resp, _ := c.response("GET"); resp.StatusCode != 503 {
		t.Errorf("%v", resp)
	}
}

// TestResolvedAgain: a request that a closed backend has not got goes to the
// next one, its body too.
func TestResolvedAgain(t *testing.T) {
	dead, live := NewBackend(BackendOptions{Dial: dialTo("")}), NewBackend(BackendOptions{Dial: dialTo(httpOrigin(t, echo))})
	defer live.Close(nil)
	dead.Close(nil)
	var asked atomic.Int32
	g := start(t, &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) {
		if asked.Add(1)%2 == 1 {
			return dead, nil
		}
		return live, nil
	}})
	c := g.dial()
	for _, size := range []int{0, 10, 100_000} {
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
		if resp, body := c.response("POST"); resp.StatusCode != 200 || len(body) != size {
			t.Errorf("%d: %v, %d bytes", size, resp, len(body))
		}
	}
}

// TestMalformedUpload: a body that goes wrong on the way is the visitor's
// fault, and the service must not take it for whole.
func TestMalformedUpload(t *testing.T) {
	whole := make(chan error, 1)
	g := front(t, httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		_, err := io.Copy(io.Discard, q.Body)
		whole <- err
	}))
	c := g.dial()
	c.send(chunkedPost+"186a0\r\n%s\r\nnonsense\r\n", strings.Repeat("x", 100_000))
	if got := c.ended(); status(got) != 400 {
		t.Errorf("%q", got)
	}
	if <-whole == nil {
		t.Error("the service took the body for whole")
	}
}
