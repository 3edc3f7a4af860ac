package vhost

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// TestHosts: the canonical name is what is resolved, the sent one what the
// service sees; nothing of it comes back in a page.
func TestHosts(t *testing.T) {
	back := NewBackend(BackendOptions{Dial: dialTo(httpOrigin(t, func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, q.Host) }))})
	defer back.Close(nil)
	g := start(t, &Router{Proto: "https", Resolve: func(_ context.Context, r *Request) (*Backend, *Page) {
		switch {
		case r.Host == "blog.localhost" && r.TLS && r.Visitor != nil:
			return back, nil
		case r.Host == "localhost" && r.Path() == "/known_hosts" && r.Method == "GET":
			return nil, &Page{Status: 200, ContentType: "text/plain", Body: []byte("keys\n")}
		case r.Host == "old.localhost":
			return nil, &Page{Status: 308, Location: "https://old.localhost" + r.Target()}
		}
		return nil, nil
	}})
	for _, test := range []struct {
		host, path, want string
		status           int
	}{
		{"blog.localhost", "/", "blog.localhost", 200}, {"BLOG.localhost.:7080", "/", "BLOG.localhost.:7080", 200},
		{"localhost:1", "/known_hosts?x", "keys\n", 200}, {"localhost", "/", "404", 404}, {"a.blog.localhost", "/", "404", 404},
		{"127.0.0.1", "/", "404", 404}, {"[::1]:80", "/", "404", 404}, {"xn--evil", "/<script>", "404", 404}, {"old.localhost", "/a?b", "308", 308},
		{"old.localhost", "/ü?b", "308", 308},
	} {
		c := g.dial()
		c.send("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", test.path, test.host)
		resp, body := c.response("GET")
		if resp.StatusCode != test.status || !strings.HasPrefix(body, test.want) || strings.Contains(body, "evil") || strings.Contains(body, "script") {
			t.Errorf("%s%s: %d %q", test.host, test.path, resp.StatusCode, body)
		}
		if l := resp.Header.Get("Location"); test.status == 308 && l != "https://old.localhost"+strings.ReplaceAll(test.path, "ü", "%C3%BC") {
			t.Errorf("Location %q", l)
		}
	}
}

// TestPages are HTML for who asks for it, text otherwise, and load nothing.
func TestPages(t *testing.T) {
	g := start(t, &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { return nil, &Page{Status: 503, RetryAfter: 7} }})
	c := g.dial()
	for _, accept := range []string{"text/html,*/*", "*/*"} {
		c.send("GET / HTTP/1.1\r\nHost: a\r\nAccept: %s\r\n\r\n", accept)
		resp, body := c.response("GET")
		h := resp.Header
		if h.Get("Content-Security-Policy") == "" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" || h.Get("Retry-After") != "7" {
			t.Errorf("%v", h)
		}
		if html := strings.HasPrefix(accept, "text/html"); strings.HasPrefix(h.Get("Content-Type"), "text/html") != html || strings.Contains(body, "<p>") != html {
			t.Errorf("%s: %v %q", accept, h, body)
		}
	}
	c.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.0\r\nHost: a\r\n\r\n")
	for _, method := range []string{"HEAD", "POST", "GET"} {
		if resp, _ := c.response(method); resp.StatusCode != 503 {
			t.Errorf("%s: %v", method, resp)
		}
	}
	c.ended()
	got := g.once("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\nabc")
	if status(got) != 503 || !bytes.Contains(got, []byte("Connection: close")) {
		t.Errorf("with a body that is still coming: %q", got)
	}
}

// TestClientIP is in the form that services expect.
func TestClientIP(t *testing.T) {
	for _, test := range []struct {
		addr net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 1}, "192.0.2.1"},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.1"), Port: 1}, "192.0.2.1"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"}, "fe80::1"},
		{&net.UnixAddr{Name: "x"}, "unknown"}, {nil, "unknown"},
		{net.UDPAddrFromAddrPort(netip.MustParseAddrPort("198.51.100.7:9")), "198.51.100.7"},
	} {
		if got := clientIP(test.addr); got != test.want {
			t.Errorf("%v: %q", test.addr, got)
		}
	}
}
