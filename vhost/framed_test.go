package vhost

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestFramedRules is what a service gets to see of a request in frames.
func TestFramedRules(t *testing.T) {
	seen := make(chan http.Header, 1)
	everywhere(t, func(w http.ResponseWriter, q *http.Request) {
		q.Header.Set("Host", q.Host)
		seen <- q.Header
	}, func(t *testing.T, g *secureGate, version string, c *http.Client) {
		q := named(g.request(version, "GET", "/", nil), "Blog.Example.com:1")
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Forwarded", "X-Real-Ip", "True-Client-Ip",
			"Cf-Connecting-Ip", "X_forwarded_for", "Client-Ip", "X-Original-Url", "X-Rewrite-Url", "Proxy-Authorization", "Http2-Settings", "Proxy"} {
			q.Header.Set(name, "6.6.6.6")
		}
		q.Header["Cookie"] = []string{"a=1", "b=2"}
		q.Header["X-B"] = []string{"2", "1"}
		q.Header.Set("X-Request-Id", "my-id")
		q.Header.Set("User-Agent", "")
		do(t, c, q)
		got := <-seen
		if !validTrace([]byte(got.Get("Traceparent"))) {
			t.Errorf("%v", got)
		}
		got.Del("Traceparent")
		want := http.Header{"Host": {"Blog.Example.com:1"}, "X-Forwarded-For": {"127.0.0.1"}, "X-Real-Ip": {"127.0.0.1"}, "X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host": {"Blog.Example.com:1"}, "X-Request-Id": {"my-id"}, "X-B": {"2", "1"}, "Cookie": {"a=1; b=2"}}
		if version == "HTTP/1.1" {
			got["Cookie"] = []string{strings.Join(got["Cookie"], "; ")}
		}
		if version == "HTTP/3.0" {
			got.Del("User-Agent") // quic-go sends one whatever it is told
		}
		if a, b := comparable(got), comparable(want); a != b {
			t.Errorf("got\n%s\nwant\n%s", a, b)
		}
	})
}

// framedHostile are requests in frames that are refused, and how: with a
// status, or by a reset of the stream.
var framedHostile = []struct {
	name   string
	fields []string
	want   string
}{
	{"CONNECT", []string{":method", "CONNECT", ":authority", "a:443"}, "PROTOCOL_ERROR 405"},
	{"extended CONNECT", []string{":method", "CONNECT", ":scheme", "https", ":authority", "a", ":path", "/", ":protocol", "websocket"}, "PROTOCOL_ERROR 405"},
	{"TRACE", pseudo("TRACE", "/"), "405"},
	{"lower-case method", pseudo("get", "/"), "501"},
	{"method with a space", pseudo("GET /x", "/"), "400"},
	{"method with CRLF", pseudo("GET / HTTP/1.1\r\nX: y\r\n", "/"), "400 PROTOCOL_ERROR"},
	{"PRI", pseudo("PRI", "*"), "400"},
	{"path with a space", pseudo("GET", "/a b"), "400 PROTOCOL_ERROR"},
	{"path with CRLF", pseudo("GET", "/ HTTP/1.1\r\nX: y\r\n"), "400 PROTOCOL_ERROR"},
	{"fragment", pseudo("GET", "/a#b"), "400"},
	{"backslash", pseudo("GET", "/a\\b"), "400"},
	{"malformed escape", pseudo("GET", "/%zz"), "400 PROTOCOL_ERROR"},
	{"relative path", pseudo("GET", "a"), "400 PROTOCOL_ERROR"},
	{"absolute path", pseudo("GET", "https://a/"), "400"},
	{"star", pseudo("GET", "*"), "400"},
	{"empty path", pseudo("GET", ""), "400 PROTOCOL_ERROR"},
	{"no authority", []string{":method", "GET", ":scheme", "https", ":path", "/"}, "400"},
	{"authority list", []string{":method", "GET", ":scheme", "https", ":authority", "a,b", ":path", "/"}, "400"},
	{"authority with user", []string{":method", "GET", ":scheme", "https", ":authority", "u@a", ":path", "/"}, "400 PROTOCOL_ERROR"},
	{"authority with CRLF", []string{":method", "GET", ":scheme", "https", ":authority", "a\r\nX: y", ":path", "/"}, "400 PROTOCOL_ERROR"},
	{"authority with a space", []string{":method", "GET", ":scheme", "https", ":authority", "a b", ":path", "/"}, "400 PROTOCOL_ERROR"},
	{"Host differs", append(pseudo("GET", "/"), "host", "b"), "400"},
	{"two Hosts", append(pseudo("GET", "/"), "host", "a", "host", "a"), "400"},
	{"Connection", append(pseudo("GET", "/"), "connection", "x-real-ip"), "400 PROTOCOL_ERROR"},
	{"Transfer-Encoding", append(pseudo("POST", "/"), "transfer-encoding", "chunked"), "400 PROTOCOL_ERROR"},
	{"Upgrade", append(pseudo("GET", "/"), "upgrade", "websocket"), "400 PROTOCOL_ERROR"},
	{"TE", append(pseudo("GET", "/"), "te", "gzip"), "400 PROTOCOL_ERROR"},
	{"upper-case name", append(pseudo("GET", "/"), "X-A", "b"), "400 PROTOCOL_ERROR"},
	{"name with a colon", append(pseudo("GET", "/"), "a: b", "c"), "400 PROTOCOL_ERROR"},
	{"name with CRLF", append(pseudo("GET", "/"), "a\r\nb", "c"), "400 PROTOCOL_ERROR"},
	{"empty name", append(pseudo("GET", "/"), "", "c"), "400 PROTOCOL_ERROR"},
	{"value with CRLF", append(pseudo("GET", "/"), "a", "b\r\nContent-Length: 5"), "400 PROTOCOL_ERROR"},
	{"value with LF", append(pseudo("GET", "/"), "a", "b\nc"), "400 PROTOCOL_ERROR"},
	{"value with NUL", append(pseudo("GET", "/"), "a", "b\x00"), "400 PROTOCOL_ERROR"},
	{"value with ESC", append(pseudo("GET", "/"), "a", "b\x1b[2J"), "400 PROTOCOL_ERROR"},
	{"length without body", append(pseudo("POST", "/"), "content-length", "5"), "400"},
	{"two lengths", append(pseudo("POST", "/"), "content-length", "0", "content-length", "0"), "400"},
	{"length with a sign", append(pseudo("POST", "/"), "content-length", "+0"), "400"},
	{"expectation", append(pseudo("POST", "/"), "expect", "tea"), "417"},
	{"long path", pseudo("GET", "/"+strings.Repeat("a", longestTarget)), "414"},
	{"long head", append(pseudo("GET", "/"), "a", strings.Repeat("b", 33<<10)), "431"},
	{"path longer than a head", pseudo("GET", "/"+strings.Repeat("a", 35<<10)), "414"},
	{"very long path", pseudo("GET", "/"+strings.Repeat("~", 64<<10)), "414"},
	{"very long field", append(pseudo("GET", "/"), "a", strings.Repeat("~", 64<<10)), "431"},
	{"many fields", append(pseudo("GET", "/"), strings.Split(strings.Repeat("a,b,", mostFields), ",")[:2*mostFields]...), "431"},
	{"pseudo after regular", append(pseudo("GET", "/")[:6], "a", "b", ":path", "/"), "400 PROTOCOL_ERROR"},
	{"two paths", append(pseudo("GET", "/"), ":path", "/b"), "400 PROTOCOL_ERROR"},
	{"unknown pseudo", append(pseudo("GET", "/"), ":x", "y"), "400 PROTOCOL_ERROR"},
}

// TestFramedHostile: none reaches the service, and the connection serves on.
func TestFramedHostile(t *testing.T) {
	var reached atomic.Int32
	g := frontTLS(t, httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/good" {
			reached.Add(1)
		}
	}))
	for _, test := range framedHostile {
		t.Run(test.name, func(t *testing.T) {
			c := g.dialHTTP2()
			c.open(1, true, test.fields...)
			got, _ := c.outcome(1)
			if !strings.Contains(test.want, got) || got == "" {
				t.Fatalf("%s, want %s", got, test.want)
			}
			c.open(3, true, pseudo("GET", "/good")...)
			if got, _ := c.outcome(3); got != "200" {
				t.Errorf("and then %s", got)
			}
		})
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("%d reached the service", n)
	}
}

// TestLongHeads get the same answer in every version.
func TestLongHeads(t *testing.T) {
	g := frontTLS(t, httpOrigin(t, func(http.ResponseWriter, *http.Request) { t.Error("it reached the service") }))
	g.each(t, func(t *testing.T, version string, c *http.Client) {
		for _, size := range []int{33 << 10, 40 << 10, 64 << 10} {
			if resp, _ := do(t, c, g.request(version, "GET", "/"+strings.Repeat("a", size), nil)); resp.StatusCode != 414 {
				t.Errorf("a path of %d: %s", size, resp.Status)
			}
			q := g.request(version, "GET", "/", nil)
			q.Header.Set("X-A", strings.Repeat("a", size))
			if resp, _ := do(t, c, q); resp.StatusCode != 431 {
				t.Errorf("a field of %d: %s", size, resp.Status)
			}
		}
	})
}

// TestFramedBodies that are not what their head says must not look whole to
// the service.
func TestFramedBodies(t *testing.T) {
	for name, start := range services {
		whole := make(chan error, 1)
		addr, option := start(t, func(w http.ResponseWriter, q *http.Request) {
			_, err := io.Copy(io.Discard, q.Body)
			whole <- err
		})
		g := frontTLS(t, addr, option)
		for _, test := range []struct {
			name string
			send func(c *rawHTTP2)
		}{
			{"too short", func(c *rawHTTP2) {
				c.open(1, false, append(pseudo("POST", "/"), "content-length", "10")...)
				c.WriteData(1, false, []byte("hello"))
				c.WriteData(1, true, nil)
			}},
			{"too long", func(c *rawHTTP2) {
				c.open(1, false, append(pseudo("POST", "/"), "content-length", "10")...)
				c.WriteData(1, false, []byte("hello"))
				c.WriteData(1, true, []byte("hello world"))
			}},
			{"reset", func(c *rawHTTP2) {
				c.open(1, false, pseudo("POST", "/")...)
				c.WriteData(1, false, []byte("hello"))
				until(t, "the service", func() bool { all, _ := g.backend.sizes(); return all > 0 })
				c.WriteRSTStream(1, http2.ErrCodeCancel)
				until(t, "the end", func() bool { all, _ := g.backend.sizes(); return all == 0 })
			}},
			{"bad trailer", func(c *rawHTTP2) {
				c.open(1, false, append(pseudo("POST", "/"), "trailer", "x")...)
				c.WriteData(1, false, []byte("hello"))
				c.open(1, true, "x", strings.Repeat("b", longestTrailer))
			}},
			{"connection", func(c *rawHTTP2) {
				c.open(1, false, pseudo("POST", "/")...)
				c.WriteData(1, false, []byte("hello"))
				until(t, "the service", func() bool { all, _ := g.backend.sizes(); return all > 0 })
			}},
		} {
			c := g.dialHTTP2()
			test.send(c)
			if test.name == "reset" || test.name == "connection" {
				c.conn.NetConn().Close() // nothing more will come
			}
			if got, _ := c.outcome(1); got == "200" {
				t.Errorf("to %s, %s: %s", name, test.name, got)
			}
			until(t, "the end of the exchange", func() bool { all, _ := g.backend.sizes(); return all == 0 })
			select {
			case err := <-whole:
				if err == nil {
					t.Errorf("to %s, %s: taken for whole", name, test.name)
				}
			case <-time.After(50 * time.Millisecond): // it may not have got that far
			}
		}
	}
}

// TestTwoAuthorities on one connection are two hosts.
func TestTwoAuthorities(t *testing.T) {
	g := startTLS(t, &Router{Resolve: func(_ context.Context, r *Request) (*Backend, *Page) {
		return nil, &Page{Status: 200, Body: []byte(r.Host)}
	}})
	for _, version := range versions {
		c := g.client(version)
		for _, host := range []string{"a.example.com", "B.example.com:443", "a.example.com.", "c"} {
			want := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(host), ":443"), ".")
			if _, body := do(t, c, named(g.request(version, "GET", "/", nil), host)); body != want {
				t.Errorf("%s: %s is %s", version, host, body)
			}
		}
	}
}

// FuzzFramedRequest takes any request that a library might hand over: what is
// accepted says the same as text, field by field, and no more.
func FuzzFramedRequest(f *testing.F) {
	for _, h := range framedHostile {
		fields := map[string]string{}
		var name, value string
		for i := 0; i+1 < len(h.fields); i += 2 {
			if strings.HasPrefix(h.fields[i], ":") {
				fields[h.fields[i]] = h.fields[i+1]
			} else {
				name, value = h.fields[i], h.fields[i+1]
			}
		}
		f.Add(fields[":method"], fields[":path"], fields[":authority"], name, value, "Trailer-A")
	}
	f.Fuzz(func(t *testing.T, method, path, host, name, value, trailer string) {
		q := &http.Request{Method: method, RequestURI: path, Host: host, Header: http.Header{name: {value, value}}, Trailer: http.Header{trailer: nil}}
		text, err := appendRequestText(nil, q, q.Trailer, "")
		if err != nil {
			return
		}
		var r request
		if r.parse(text) != nil {
			return
		}
		if r.method != method || string(r.target) != path || string(r.hostValue) != host || r.hosts != 1 || r.chunked || r.coded {
			t.Fatalf("%q %q %q became %q", method, path, host, text)
		}
		for i := range r.fields {
			fd := &r.fields[i]
			switch {
			case fd.kind == kindHost, string(fd.name) == "Trailer" && string(fd.value) == trailer:
			case string(fd.name) == name && string(fd.value) == strings.Trim(value, " \t"):
			case name == "Cookie" && string(fd.value) == string(trim([]byte(value+"; "+value))):
			default:
				t.Fatalf("%q: %q became %q", name, value, text)
			}
		}
	})
}

// FuzzFramedResponse is the same of responses, and what is made of them must
// hold what a library may be given.
func FuzzFramedResponse(f *testing.F) {
	for _, e := range framedHostile {
		f.Add(200, e.fields[0], e.fields[1], "body")
		f.Add(304, e.fields[len(e.fields)-2], e.fields[len(e.fields)-1], "")
	}
	f.Fuzz(func(t *testing.T, status int, name, value, content string) {
		text, err := appendResponseText(nil, status, http.Header{name: {value}}, nil, "")
		var p response
		if err != nil || p.parse(text, false) != nil || p.status < 200 {
			return
		}
		w := httptest.NewRecorder()
		s := &stream{w: w}
		d := delivery{framed: true, keep: true, domain: "gw.example.com"}
		rest := s.writeHead(append(d.appendResponse(nil, &p), content...))
		if w.Code != p.status || string(rest) != content {
			t.Fatalf("%q became %d %q", text, w.Code, rest)
		}
		for key, values := range w.Header() {
			for _, v := range values {
				if kindOf([]byte(key)) == kindBad || strings.ContainsAny(v, "\r\n\x00") {
					t.Fatalf("%q became %q: %q", text, key, v)
				}
			}
		}
	})
}

// TestFramedEvil are responses that a library may have let through, and that no
// visitor may see.
func TestFramedEvil(t *testing.T) {
	for name, h := range map[string]http.Header{
		"two lengths": {"Content-Length": {"1", "2"}}, "length with a sign": {"Content-Length": {"+1"}},
		"Connection": {"Connection": {"X-Real-Ip"}}, "Transfer-Encoding": {"Transfer-Encoding": {"chunked"}}, "Upgrade": {"Upgrade": {"x"}},
		"CRLF": {"X": {"a\r\nSet-Cookie: b"}}, "LF": {"X": {"a\nb"}}, "ESC": {"X": {"\x1b[2J"}}, "name": {"X: a\r\nY": {"b"}}, "Host": {"Host": {"a"}},
		"many fields": {"X": slices.Repeat([]string{"a"}, mostResponseFields+1)},
	} {
		text, err := appendResponseText(nil, 200, h, nil, "")
		if err == nil {
			err = (&response{}).parse(text, false)
		}
		if err == nil {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// TestInterimFlood: more interim responses than anybody needs.
func TestInterimFlood(t *testing.T) {
	t.Parallel()
	everywhere(t, func(w http.ResponseWriter, q *http.Request) {
		for range 50 {
			w.WriteHeader(103)
		}
	}, func(t *testing.T, g *secureGate, version string, c *http.Client) {
		if resp, err := c.Do(g.request(version, "GET", "/", nil)); err == nil { // else the visitor has had enough
			resp.Body.Close()
			if resp.StatusCode != 502 {
				t.Errorf("%v", resp)
			}
		}
	})
}

// TestCallBody: an upload that breaks off is no end.
func TestCallBody(t *testing.T) {
	for _, whole := range []bool{true, false} {
		b := newCallBody()
		go func() {
			fmt.Fprint(b.in, "hello")
			b.whole.Store(whole)
			b.in.Close()
		}()
		got, err := io.ReadAll(b)
		if string(got) != "hello" || (err == nil) != whole {
			t.Errorf("%q, %v", got, err)
		}
	}
}
