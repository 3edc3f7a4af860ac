package vhost

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// inUse is how many connections to the service are counted, for how many
// visitors.
func (b *Backend) inUse() (conns, holders int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.held {
		conns += n
	}
	return conns, len(b.held)
}

// slowBody begins a request whose body does not come, over HTTP/1.1.
func slowBody(c *client) {
	c.send("POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx")
}

// TestOneVisitorsShare: who keeps connections to the service busy, by bodies
// that do not come or by WebSockets, has half of them, and others get in. They
// may have the other half, and who has ended may have some again.
func TestOneVisitorsShare(t *testing.T) {
	for name, begin := range map[string]func(c *client){
		"slow body": slowBody,
		"WebSocket": func(c *client) {
			c.send("GET /hold HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			c.r.ReadString('\n')
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := front(t, httpOrigin(t, hold), func(o *BackendOptions) { o.MaxConns = 6 })
			var busy []*client
			used := func(n int) {
				t.Helper()
				until(t, "connections in use", func() bool { conns, _ := g.backend.inUse(); return conns == n })
			}
			fill := func(ip string) {
				t.Helper()
				for range 3 {
					c := g.dialFrom(ip)
					begin(c)
					busy = append(busy, c)
				}
				used(len(busy))
			}
			fill("127.0.0.2")
			g.gets(t, "127.0.0.2", 503)
			g.gets(t, "127.0.0.3", 200)
			g.gets(t, "127.0.0.1", 200)
			until(t, "the others' are idle", func() bool { all, idle := g.backend.sizes(); return all-idle == 3 })
			fill("127.0.0.3")
			g.gets(t, "127.0.0.1", 503)
			for _, c := range busy {
				c.Close()
			}
			until(t, "the end of all", func() bool { conns, holders := g.backend.inUse(); return conns+holders == 0 })
			g.gets(t, "127.0.0.2", 200)
		})
	}
}

// hold answers /hold when its visitor has gone, or switches.
func hold(w http.ResponseWriter, q *http.Request) {
	if q.Header.Get("Upgrade") != "" {
		c, rw, _ := http.NewResponseController(w).Hijack()
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(io.Discard, rw)
		return
	}
	io.Copy(io.Discard, q.Body)
	if q.URL.Path == "/hold" && q.ContentLength == 0 {
		<-q.Context().Done()
	}
}

// gets fails unless a visitor from ip gets the given status, with a word on
// when to come again if it is 503.
func (g *gate) gets(t *testing.T, ip string, status int) {
	t.Helper()
	c := g.dialFrom(ip)
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, _ := c.response("GET")
	if resp.StatusCode != status || (status == 503) != (resp.Header.Get("Retry-After") != "") {
		t.Errorf("%s gets %v", ip, resp)
	}
	c.Close()
}

// TestOneVisitorsShareFramed: streams count as connections do, those of all
// connections together, and for services that speak HTTP/2 too.
func TestOneVisitorsShareFramed(t *testing.T) {
	for name, start := range services {
		t.Run(name, func(t *testing.T) {
			addr, option := start(t, hold)
			g := frontTLS(t, addr, option, func(o *BackendOptions) { o.MaxConns = 20 })
			var crowd []*rawHTTP2
			for range 3 {
				c := g.dialHTTP2()
				for i := range uint32(4) {
					c.open(2*i+1, true, pseudo("GET", "/hold")...)
				}
				crowd = append(crowd, c)
			}
			until(t, "its share", func() bool { conns, holders := g.backend.inUse(); return conns == 10 && holders == 1 })
			last := crowd[0]
			last.open(9, true, pseudo("GET", "/")...)
			if got, _ := last.outcome(9); got != "503" {
				t.Errorf("and one more: %s", got)
			}
			for _, c := range crowd {
				c.conn.Close()
			}
			until(t, "the end of all", func() bool { conns, holders := g.backend.inUse(); return conns+holders == 0 })
			g.serves(t)
		})
	}
}

// TestSharesBehindProxy: of those who come through a trusted proxy each has a
// share of their own.
func TestSharesBehindProxy(t *testing.T) {
	b := NewBackend(BackendOptions{Dial: dialTo(httpOrigin(t, hold)), MaxConns: 4})
	defer b.Close(nil)
	g := start(t, &Router{
		Resolve:      func(context.Context, *Request) (*Backend, *Page) { return b, nil },
		TrustedProxy: func(netip.Addr) bool { return true },
	})
	from := func(visitor string) *client {
		c := g.dial()
		c.send("GET /hold HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %s\r\n\r\n", visitor)
		return c
	}
	for _, visitor := range []string{"2001:db8::1", "2001:db8::2"} {
		from(visitor)
	}
	until(t, "two of one network", func() bool { conns, holders := b.inUse(); return conns == 2 && holders == 1 })
	if resp, _ := from("2001:db8::3").response("GET"); resp.StatusCode != 503 {
		t.Errorf("a third of it: %v", resp)
	}
	from("2001:db8:0:1::1")
	until(t, "one of another", func() bool { conns, holders := b.inUse(); return conns == 3 && holders == 2 })
}

// TestHolders counts.
func TestHolders(t *testing.T) {
	var h holders
	a, nobody := netip.MustParsePrefix("192.0.2.1/32"), netip.Prefix{}
	for i, expect := range strings.Split("yes yes no", " ") {
		if h.add(a, 3) != (expect == "yes") {
			t.Errorf("%d: not %s", i, expect)
		}
	}
	for range 5 {
		if !h.add(nobody, 1) {
			t.Error("who has no address is counted")
		}
		h.remove(nobody)
	}
	h.remove(a)
	h.remove(a)
	if len(h) != 0 || !h.add(a, 1) || h.add(a, 1) {
		t.Errorf("%v", h)
	}
}
