package vhost

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// trusted are the proxies of these tests.
func trusted(a netip.Addr) bool {
	return a == netip.MustParseAddr("127.0.0.1") || netip.MustParsePrefix("10.0.0.0/8").Contains(a) ||
		netip.MustParsePrefix("fd00::/8").Contains(a)
}

// TestVisitorBehindProxies: the walk ends at the first stranger, and at what
// cannot be read.
func TestVisitorBehindProxies(t *testing.T) {
	p := (&Router{TrustedProxy: trusted}).proxyAt(Request{Visitor: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7}})
	for _, test := range []struct{ fields, want string }{
		{"", "127.0.0.1:7"},
		{"X-Forwarded-For: 203.0.113.9", "203.0.113.9:0"},
		{"x-forwarded-for: 203.0.113.9", "203.0.113.9:0"},
		{"X-Forwarded-For: 6.6.6.6, 203.0.113.9", "203.0.113.9:0"},
		{"X-Forwarded-For: 6.6.6.6, 203.0.113.9 ,\t10.1.2.3,10.9.9.9", "203.0.113.9:0"},
		{"X-Forwarded-For: 6.6.6.6, 203.0.113.9\nX-Forwarded-For: 10.1.2.3", "203.0.113.9:0"},
		{"X-Forwarded-For: 203.0.113.9\nX-Other: 1\nX-Forwarded-For: \nX-Forwarded-For: , ,", "203.0.113.9:0"},
		{"X-Forwarded-For: 10.5.5.5, 10.1.2.3", "10.5.5.5:0"},
		{"X-Forwarded-For: 203.0.113.9:4711", "203.0.113.9:4711"},
		{"X-Forwarded-For: 2001:db8::9", "[2001:db8::9]:0"},
		{"X-Forwarded-For: [2001:db8::9]", "[2001:db8::9]:0"},
		{"X-Forwarded-For: [2001:db8::9]:4711, fd00::1%eth0", "[2001:db8::9]:4711"},
		{"X-Forwarded-For: ::ffff:203.0.113.9, ::ffff:10.1.2.3", "203.0.113.9:0"},
		{"X-Forwarded-For: 203.0.113.9, unknown, 10.1.2.3", "10.1.2.3:0"},
		{"X-Forwarded-For: 6.6.6.6, \"10.1.2.3\"", "127.0.0.1:7"},
		{"X-Forwarded-For: 6.6.6.6, []", "127.0.0.1:7"},
		{"X_Forwarded_For: 6.6.6.6\nX-Forwarded-Fo: 6.6.6.6\nX-Real-IP: 6.6.6.6\nForwarded: for=6.6.6.6", "127.0.0.1:7"},
	} {
		var q request
		head := "GET / HTTP/1.1\r\nHost: a\r\n" + strings.ReplaceAll(test.fields+"\n", "\n", "\r\n") + "\r\n"
		head = strings.Replace(head, "\r\n\r\n\r\n", "\r\n\r\n", 1)
		if err := q.parse([]byte(head)); err != nil {
			t.Fatalf("%q: %v", test.fields, err)
		}
		if got := p.visitor(&q).String(); got != test.want {
			t.Errorf("%q: %s, want %s", test.fields, got, test.want)
		}
	}
}

// seen is what Resolve and the service are told of a visitor.
func seen(r *Request, q *http.Request) string {
	fields := []string{fmt.Sprint(r.TLS), clientIP(r.Visitor)}
	for _, name := range []string{"For", "Proto", "Host"} {
		fields = append(fields, strings.Join(q.Header.Values("X-Forwarded-"+name), "|"))
	}
	return strings.Join(append(fields, q.Header.Get("X-Real-Ip"), q.Host), " ")
}

// TestTrustedProxy: a proxy's word counts request by request, over each version
// of HTTP alike, and nobody else's does.
func TestTrustedProxy(t *testing.T) {
	for _, trust := range []bool{true, false} {
		var last atomic.Pointer[Request]
		b := NewBackend(BackendOptions{Dial: dialTo(httpOrigin(t, func(w http.ResponseWriter, q *http.Request) {
			io.WriteString(w, seen(last.Load(), q))
		}))})
		defer b.Close(nil)
		r := &Router{AltSvc: `h3=":443"`, Resolve: func(_ context.Context, q *Request) (*Backend, *Page) {
			asked := *q
			last.Store(&asked)
			return b, nil
		}}
		if trust {
			r.TrustedProxy = trusted
		}
		g := startTLS(t, r)
		g.each(t, func(t *testing.T, version string, c *http.Client) {
			for _, test := range []struct{ xff, proto, host, want string }{
				{"6.6.6.6, 203.0.113.9, 10.1.1.1", "http", "shop.example", "false 203.0.113.9 203.0.113.9 http shop.example 203.0.113.9 HOST"},
				{"", "", "", "true 127.0.0.1 127.0.0.1 https HOST 127.0.0.1 HOST"},
				{"2001:db8::9", "HTTPS, http", "shop.example:8443, other.example", "true 2001:db8::9 2001:db8::9 https shop.example:8443 2001:db8::9 HOST"},
				{"nonsense", "gopher", "a b", "true 127.0.0.1 127.0.0.1 https HOST 127.0.0.1 HOST"},
				{"203.0.113.9", "ws", "", "false 203.0.113.9 203.0.113.9 http HOST 203.0.113.9 HOST"},
			} {
				q := g.request(version, "GET", "/", nil)
				for name, value := range map[string]string{"For": test.xff, "Proto": test.proto, "Host": test.host} {
					if value != "" {
						q.Header.Set("X-Forwarded-"+name, value)
					}
				}
				want := test.want
				if !trust {
					want = "true 127.0.0.1 127.0.0.1 https HOST 127.0.0.1 HOST"
				}
				resp, got := do(t, c, q)
				if want = strings.ReplaceAll(want, "HOST", q.Host); got != want {
					t.Errorf("trusted %v, %+v:\ngot  %s\nwant %s", trust, test, got, want)
				}
				if has := resp.Header.Get("Alt-Svc") != ""; has == (trust || version == "HTTP/3.0") {
					t.Errorf("trusted %v: Alt-Svc %v", trust, resp.Header["Alt-Svc"])
				}
			}
		})
	}
}

// TestTrustedProxyPlain: a proxy that speaks to the HTTP port may speak for
// visitors of https, on a connection that it shares among them.
func TestTrustedProxyPlain(t *testing.T) {
	observed := make(chan string, 2)
	b := NewBackend(BackendOptions{
		Dial:    dialTo(rawOrigin(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).addr),
		Observe: func(x *Exchange) { observed <- clientIP(x.Visitor) },
	})
	defer b.Close(nil)
	g := start(t, &Router{TrustedProxy: trusted, Resolve: func(_ context.Context, q *Request) (*Backend, *Page) {
		if !q.TLS {
			return nil, &Page{Status: 308, Location: "https://a/"}
		}
		return b, nil
	}})
	c := g.dial()
	for _, test := range []struct {
		proto  string
		status int
	}{{"X-Forwarded-Proto: https\r\n", 200}, {"", 308}, {"X-Forwarded-Proto: https\r\n", 200}} {
		c.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n%s\r\n", test.proto)
		if resp, _ := c.response("GET"); resp.StatusCode != test.status {
			t.Errorf("%q: %d", test.proto, resp.StatusCode)
		}
	}
	for range 2 {
		if got := <-observed; got != "203.0.113.9" {
			t.Errorf("observed %s", got)
		}
	}
}
