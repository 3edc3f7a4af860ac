package vhost

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestRequestRules is what the service gets to see, beside the fields that are
// made afresh for each request.
func TestRequestRules(t *testing.T) {
	const ours = "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: Blog.localhost:80\r\n"
	heads := make(chan string, 1)
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			head, err := readHead(r)
			if err != nil {
				return
			}
			heads <- head
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	c := front(t, o.addr).dial()
	const ids = "X-Request-Id: my-id\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
	for _, test := range []struct{ name, fields, want string }{
		{"order and spelling", "b: 1\r\nA:2\r\nb:  3 \r\nCookie: x\r\n", "b: 1\r\nA: 2\r\nb: 3\r\nCookie: x\r\n"},
		{"forwarding", "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\n" +
			"X-Forwarded-Client-Cert: x\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\nCF-Connecting-IP: 6.6.6.6\r\nClient-IP: 6.6.6.6\r\nX-Client-IP: 6.6.6.6\r\n" +
			"X-Original-URL: /admin\r\nX-Original-Host: evil\r\nX-Rewrite-URL: /admin\r\nX-Cluster-Client-IP: 6.6.6.6\r\nX-Forwarded-By-A-Very-Long-Name-That-Goes-On: x\r\n", ""},
		{"underscores", "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_For: 6.6.6.6\r\nContent_Length: 5\r\nmy_header: x\r\n", ""},
		{"hop by hop", "Connection: close-ish, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nProxy: x\r\nTE: gzip\r\nX-Stays: 1\r\n", "X-Stays: 1\r\n"},
		{"nominated", "Connection: X-Forwarded-For, Cookie, Host, X-Real-IP, Content-Type, Authorization, X-Request-Id\r\nCookie: a\r\nContent-Type: b\r\nAuthorization: c\r\n",
			"Cookie: a\r\nContent-Type: b\r\nAuthorization: c\r\n"},
		{"TE trailers", "TE: gzip;q=0.5, trailers\r\n", "Connection: TE\r\nTE: trailers\r\n"},
		{"h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n", ""},
		{"other upgrade", "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n", ""},
		{"two upgrades", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", ""},
		{"upgrade unconnected", "Upgrade: websocket\r\n", ""},
		{"encoding kept", "Accept-Encoding: br\r\n", "Accept-Encoding: br\r\n"},
	} {
		c.send("GET //a/../b/%%2F?a=1;b=%%zz&ü HTTP/1.1\r\nHost: Blog.localhost:80\r\n%s%s\r\n", ids, test.fields)
		want := "GET //a/../b/%2F?a=1;b=%zz&ü HTTP/1.1\r\nHost: Blog.localhost:80\r\n" + test.want
		head := <-heads
		framing := ""
		if i := strings.Index(want, "Connection: TE"); i >= 0 {
			want, framing = want[:i], want[i:]
		}
		if want += framing + ours + ids + "\r\n"; head != want {
			t.Errorf("%s:\ngot  %q\nwant %q", test.name, head, want)
		}
		c.response("GET")
	}
}

// TestRequestTrailers: what may not stand in a head may not come behind a body,
// nor what frames or routes.
func TestRequestTrailers(t *testing.T) {
	got := make(chan string, 1)
	c := front(t, rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		body, _ := readHead(r)
		got <- body
		io.WriteString(c, benchResponse)
	}).addr).dial()
	c.send(chunkedPost + "1\r\nx\r\n0\r\nX-Sum: 1\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Length: 5\r\nHost: evil\r\nTE: x\r\n\r\n")
	c.response("POST")
	if body := <-got; body != "1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n" {
		t.Errorf("%q", body)
	}
}

// TestOldExpect: HTTP/1.0 knows no 100 and no upgrades, so neither is asked for
// (RFC 9110 7.8 and 10.1.1).
func TestOldExpect(t *testing.T) {
	got := make(chan string, 1)
	g := front(t, rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		head, _ := readHead(r)
		got <- head
		io.WriteString(c, benchResponse)
	}).addr)
	for _, request := range []string{
		"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
		"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	} {
		g.once(request)
		if head := <-got; strings.Contains(head, "Expect") || strings.Contains(head, "Upgrade") {
			t.Errorf("%q", head)
		}
	}
}

// TestMadeIDs replaces what is malformed, and a tracestate that then belongs to
// nothing.
func TestMadeIDs(t *testing.T) {
	addr := httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		h := q.Header
		if !validID([]byte(h.Get("X-Request-Id"))) || !validTrace([]byte(h.Get("Traceparent"))) || h["Tracestate"] != nil ||
			len(h["X-Request-Id"]) != 1 || len(h["Traceparent"]) != 1 {
			t.Errorf("%v", h)
		}
	})
	c := front(t, addr).dial()
	for _, fields := range []string{"", "X-Request-Id: a b\r\ntraceparent: 00-x\r\ntracestate: a=b\r\n",
		"X-Request-Id: a\r\nX-Request-Id: b\r\ntraceparent: \r\n"} {
		c.send("GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields)
		c.response("GET")
	}
}

// echo answers with what it got: method, target, content, trailers.
func echo(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	w.Header().Set("X-Method", q.Method+" "+q.RequestURI)
	w.Header().Set("X-Sent-Trailer", q.Trailer.Get("X-Sum"))
	w.Header().Set("Trailer", "X-Length")
	w.Write(body)
	w.Header().Set("X-Length", fmt.Sprint(len(body)))
}

// TestBodies goes both ways in every size and framing, on one connection.
func TestBodies(t *testing.T) {
	g := front(t, httpOrigin(t, echo))
	c := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, DisableCompression: true}}
	defer c.CloseIdleConnections()
	for _, size := range []int{0, 1, 100, 2000, 4096, 5000, 32 << 10, 32<<10 + 1, 100_000, 5 << 20} {
		for _, chunked := range []bool{false, true} {
			data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			var body io.Reader = bytes.NewReader(data)
			if chunked {
				body = io.MultiReader(body) // hides the length
			}
			q, _ := http.NewRequest("POST", "http://"+g.addr+"/p?q", body)
			if chunked && size > 0 {
				q.Trailer = http.Header{"X-Sum": {"42"}}
			}
			resp, err := c.Do(q)
			if err != nil {
				t.Fatal(size, chunked, err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, data) || resp.Header.Get("X-Method") != "POST /p?q" {
				t.Fatalf("%d %v: %d bytes, %v, %v", size, chunked, len(got), err, resp.Header)
			}
			if (resp.Header.Get("X-Sent-Trailer") == "42") != (chunked && size > 0) || resp.Trailer.Get("X-Length") != fmt.Sprint(size) {
				t.Fatalf("%d %v: trailers %v %v", size, chunked, resp.Header, resp.Trailer)
			}
		}
	}
	if c, _ := g.backend.sizes(); c != 1 {
		t.Errorf("%d connections to the service for requests in a row", c)
	}
}

// TestTransparent compares what net/http sends directly with what comes
// through: status, fields and body are the same.
func TestTransparent(t *testing.T) {
	addr := httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Path {
		case "/untyped":
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "<html>")
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			w.Write([]byte{0x1f, 0x8b, 8, 0})
		case "/range":
			http.ServeContent(w, q, "x.bin", time.Unix(1e9, 0), strings.NewReader(strings.Repeat("range", 1000)))
		case "/moved":
			http.Redirect(w, q, "/else?a=1;b", http.StatusFound)
		case "/204":
			w.WriteHeader(204)
		case "/early":
			w.Header().Add("Link", "</a>")
			w.WriteHeader(103)
			io.WriteString(w, "late")
		case "/cookies":
			w.Header()["Set-Cookie"] = []string{"a=1; Path=/", "b=2; Domain=blog.gw.example.com"}
		}
	})
	g := front(t, addr)
	for _, q := range []string{"GET /untyped", "GET /gzip", "GET /range", "HEAD /range", "GET /moved", "GET /204", "GET /early", "GET /cookies", "GET /none"} {
		raw := q + " HTTP/1.1\r\nHost: a\r\nRange: bytes=100-2000\r\nConnection: close\r\n\r\n"
		direct := (&gate{addr: addr, t: t}).once(raw)
		through := g.once(raw)
		if cut(direct) != cut(through) {
			t.Errorf("%s:\ndirect  %q\nthrough %q", q, direct, through)
		}
	}
}

// cut leaves out the Date, and sorts nothing else.
func cut(raw []byte) string {
	var kept []string
	for line := range strings.SplitSeq(string(raw), "\r\n") {
		if !strings.HasPrefix(line, "Date: ") && line != "Connection: close" {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\r\n")
}

// TestPipelined answers in order, bodies in between.
func TestPipelined(t *testing.T) {
	g := front(t, httpOrigin(t, echo))
	c := g.dial()
	var b strings.Builder
	for i := range 50 {
		fmt.Fprintf(&b, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
		fmt.Fprintf(&b, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n%05d", i, i)
		fmt.Fprintf(&b, "PUT /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n%05d\r\n0\r\n\r\n", i, i)
	}
	go io.WriteString(c.Conn, b.String())
	for i := range 50 {
		for _, m := range []string{"GET", "POST", "PUT"} {
			resp, body := c.response(m)
			if resp.Header.Get("X-Method") != fmt.Sprintf("%s /%d", m, i) || m != "GET" && body != fmt.Sprintf("%05d", i) {
				t.Fatalf("%s %d: %v %q", m, i, resp.Header, body)
			}
		}
	}
}

// TestPipelinedLongHead: a head is no longer for lying in the larger buffer that
// the body before it has earned.
func TestPipelinedLongHead(t *testing.T) {
	g := front(t, httpOrigin(t, echo))
	c := g.dial()
	body := strings.Repeat("b", 4*bigBuffer)
	go fmt.Fprintf(c.Conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%sGET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n",
		len(body), body, strings.Repeat("x", longestHead))
	if resp, got := c.response("POST"); resp.StatusCode != 200 || got != body {
		t.Errorf("%d, %d bytes", resp.StatusCode, len(got))
	}
	if resp, _ := c.response("GET"); resp.StatusCode != 431 {
		t.Error(resp.StatusCode)
	}
}

// TestExpect: the body comes after the service's 100, which is passed on.
func TestExpect(t *testing.T) {
	g := front(t, httpOrigin(t, echo))
	c := g.dial()
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		if line, _ := c.r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("got %q", line)
		}
		c.r.ReadString('\n')
		c.send("hello")
		if resp, body := c.response("POST"); resp.StatusCode != 200 || body != "hello" {
			t.Fatalf("%v %q", resp, body)
		}
	}
}

// TestExpectHeld: a body that the visitor sent without waiting waits here, so that
// the service is still asked.
func TestExpectHeld(t *testing.T) {
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		early := r.Buffered()
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		io.ReadFull(r, make([]byte, 5))
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", early)
	})
	c := front(t, o.addr).dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
	resp, err := finalResponse(c.r)
	if err != nil {
		t.Fatal(err)
	}
	if early, _ := io.ReadAll(resp.Body); string(early) != "0" {
		t.Errorf("%s bytes came unasked", early)
	}
}

// TestExpectIgnored: an old service never sends a 100, and gets the body all
// the same after a while.
func TestExpectIgnored(t *testing.T) {
	t.Parallel()
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.ReadFull(r, make([]byte, 5))
		io.WriteString(c, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	c := front(t, o.addr).dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
	if resp, body := c.response("POST"); resp.StatusCode != 200 || body != "ok" {
		t.Fatalf("%v %q", resp, body)
	}
}

// TestExpectRefused: a final answer instead of the 100 reaches the visitor
// without its body, and the connection ends, as nobody knows whether the body
// will come.
func TestExpectRefused(t *testing.T) {
	for name, addr := range map[string]string{
		"closes": httpOrigin(t, func(w http.ResponseWriter, q *http.Request) { http.Error(w, "no", http.StatusExpectationFailed) }),
		"stays": rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
			readHead(r)
		}).addr,
	} {
		g := front(t, addr)
		for range 5 {
			got := string(g.once("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"))
			if status([]byte(got)) != 417 || !strings.Contains(got, "\r\nConnection: close\r\n") {
				t.Fatalf("%s: %q", name, got)
			}
		}
	}
}

// TestEarlyAnswer: a service that refuses a large body is heard while the
// visitor is still sending.
func TestEarlyAnswer(t *testing.T) {
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	})
	c := front(t, o.addr).dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n%s", strings.Repeat("x", 10000))
	resp, body := c.response("POST")
	if resp.StatusCode != 413 || body != "big" || !resp.Close {
		t.Fatalf("%v %q", resp, body)
	}
	c.ended()
}

// TestStream: events reach the visitor one by one, as they are written.
func TestStream(t *testing.T) {
	next := make(chan string)
	addr := httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for event := range next {
			io.WriteString(w, event)
			w.(http.Flusher).Flush()
		}
	})
	c := front(t, addr).dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		event := fmt.Sprintf("data: %d\n\n", i)
		next <- event
		got := make([]byte, len(event))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != event {
			t.Fatalf("%q, %v", got, err)
		}
	}
	close(next)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// TestBothWays: a service may answer a body while it is still coming.
func TestBothWays(t *testing.T) {
	t.Parallel()
	end := make(chan bool)
	addr := httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		buf := make([]byte, 1)
		for {
			if n, err := q.Body.Read(buf); n == 0 && err != nil {
				<-end
				return
			}
			w.Write(buf)
			w.(http.Flusher).Flush()
		}
	})
	// The time for an answer is over once there is one.
	g := front(t, addr, func(o *BackendOptions) { o.ResponseTimeout = 500 * time.Millisecond })
	pr, pw := io.Pipe()
	q, _ := http.NewRequest("POST", "http://"+g.addr, pr)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 1)
	for c := byte('a'); c < 'z'; c++ {
		pw.Write([]byte{c})
		if _, err := io.ReadFull(resp.Body, buf); err != nil || buf[0] != c {
			t.Fatalf("%q, %v", buf, err)
		}
	}
	pw.Close()
	time.Sleep(time.Second)
	close(end)
	if _, err := io.ReadFull(resp.Body, buf); err != io.EOF {
		t.Error(err)
	}
}
