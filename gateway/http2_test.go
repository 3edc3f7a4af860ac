package gateway

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// framed is a visitor who writes HTTP/2's frames by hand.
type framed struct {
	*http2.Framer
	conn *tls.Conn
	text bytes.Buffer
	enc  *hpack.Encoder
	got  map[uint32]*answer
}

// answer is what a stream has brought.
type answer struct {
	status, retryAfter, body string
	reset, ended             bool
}

// dialHTTP2 opens a connection for a name, with both prefaces done.
func (g *running) dialHTTP2(name string, settings ...http2.Setting) (*framed, error) {
	return g.dialHTTP2From("127.0.0.1", name, settings...)
}

// dialHTTP2From is dialHTTP2 from another address of this machine.
func (g *running) dialHTTP2From(ip, name string, settings ...http2.Setting) (*framed, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	plain, err := d.Dial("tcp", g.lns.https[0].Addr().String())
	if err != nil {
		return nil, err
	}
	plain.SetDeadline(time.Now().Add(2 * time.Minute))
	conn := tls.Client(plain, &tls.Config{ServerName: name, NextProtos: []string{"h2"}, InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		plain.Close()
		return nil, err
	}
	io.WriteString(conn, http2.ClientPreface)
	c := &framed{Framer: http2.NewFramer(conn, conn), conn: conn, got: map[uint32]*answer{}}
	c.enc = hpack.NewEncoder(&c.text)
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return c, c.WriteSettings(settings...)
}

// mustHTTP2 is dialHTTP2 for a visitor who is to be let in.
func (g *running) mustHTTP2(name string) *framed {
	g.t.Helper()
	return g.mustHTTP2From("127.0.0.1", name)
}

func (g *running) mustHTTP2From(ip, name string) *framed {
	g.t.Helper()
	c, err := g.dialHTTP2From(ip, name)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.conn.Close() })
	return c
}

// ask begins a request on stream id.
func (c *framed) ask(id uint32, authority, path string) error {
	c.text.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", authority}, {":path", path}} {
		c.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.text.Bytes(), EndStream: true, EndHeaders: true})
}

// read takes one frame.
func (c *framed) read() error {
	f, err := c.ReadFrame()
	if err != nil {
		return err
	}
	a := c.got[f.Header().StreamID]
	if a == nil {
		a = &answer{}
		c.got[f.Header().StreamID] = a
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.WriteSettingsAck()
		}
	case *http2.RSTStreamFrame:
		a.reset = true
	case *http2.MetaHeadersFrame:
		a.status, a.ended = f.PseudoValue("status"), f.StreamEnded()
		for _, field := range f.RegularFields() {
			if field.Name == "retry-after" {
				a.retryAfter = field.Value
			}
		}
	case *http2.DataFrame:
		a.body, a.ended = a.body+string(f.Data()), f.StreamEnded()
	}
	return nil
}

// await reads until stream id has its whole answer.
func (c *framed) await(t *testing.T, id uint32) *answer {
	t.Helper()
	for {
		if a := c.got[id]; a != nil && (a.ended || a.reset) {
			return a
		}
		if err := c.read(); err != nil {
			t.Fatalf("stream %d: %v", id, err)
		}
	}
}

// One connection, opened for one name, is good for every name that is served
// here: each request goes by its own authority, whatever SNI said and whatever
// went before it. A name whose TLS is passed through is not served here.
func TestManyAuthoritiesOnOneConnection(t *testing.T) {
	g := start(t, newState(t), withHTTPS)
	ann, bob := g.login("ann"), g.login("bob")
	for u, names := range map[*user][]bind{ann: {{"a", 80}, {"raw", 443}, {"raw", 80}}, bob: {{"b", 80}}} {
		for _, b := range names {
			if _, ok := u.forward(b.Addr, b.Port); !ok {
				t.Fatal(u.why())
			}
		}
	}
	g.served("a", "ann")
	g.served("b", "bob")
	g.served("raw", "ann")
	eventually(t, "raw:443 is live", func() bool { s := g.registry.lookup("raw:443"); return s != nil && s.live.Load() != nil })
	for _, sni := range []string{"a.localhost", "b.localhost", "nobody.localhost", "localhost"} {
		c := g.mustHTTP2(sni)
		wants := []struct{ authority, status, body string }{
			{"a.localhost", "200", "ann"}, {"b.localhost", "200", "bob"}, {"raw.localhost", "421", ""}, {"A.localhost:7443", "200", "ann"},
			{"nobody.localhost", "404", ""}, {"evil.example", "404", ""}, {"b.localhost", "200", "bob"}, {"localhost", "200", ""},
		}
		for i, want := range wants { // all under way at once
			if err := c.ask(uint32(2*i+1), want.authority, "/"); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range wants {
			a := c.await(t, uint32(2*i+1))
			if a.status != want.status || want.body != "" && a.body != want.body {
				t.Errorf("SNI %s, %s: %s %.50q", sni, want.authority, a.status, a.body)
			}
			if want.status != "200" && strings.Contains(a.body, want.authority) {
				t.Errorf("%s: the page names it: %q", want.authority, a.body)
			}
		}
	}
	c := g.mustHTTP2("b.localhost")
	bob.cancel("b", 80)
	for i, want := range []string{"503", "200"} { // b's user is away, and a is as it was
		if err := c.ask(uint32(2*i+1), []string{"b.localhost", "a.localhost"}[i], "/"); err != nil {
			t.Fatal(err)
		}
		if a := c.await(t, uint32(2*i+1)); a.status != want {
			t.Errorf("after b's end: %s, want %s", a.status, want)
		}
	}
}

// holder is a local service that answers /hold when it is released.
type holder struct {
	now, most atomic.Int32
	release   chan struct{}
}

func newHolder() *holder { return &holder{release: make(chan struct{})} }

func (h *holder) handle(q *http.Request) {
	if q.URL.Path != "/hold" {
		return
	}
	n := h.now.Add(1)
	for most := h.most.Load(); n > most && !h.most.CompareAndSwap(most, n); most = h.most.Load() {
	}
	<-h.release
	h.now.Add(-1)
}

// attacks are what a visitor sends again and again, i counting.
var attacks = map[string]func(c *framed, i uint32) error{
	"rapid reset": func(c *framed, i uint32) error {
		return errors.Join(c.ask(2*i+1, "a.localhost", "/hold"), c.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	},
	"SETTINGS":      func(c *framed, i uint32) error { return c.WriteSettings() },
	"PING":          func(c *framed, i uint32) error { return c.WritePing(false, [8]byte{byte(i)}) },
	"closed window": func(c *framed, i uint32) error { return c.ask(2*i+1, "a.localhost", "/") },
	"250 streams":   func(c *framed, i uint32) error { return c.ask(2*i+1, "a.localhost", "/hold") },
}

// Floods of HTTP/2 on one tunnel: the others answer every request meanwhile, and
// when the flood is over it is as it was.
func TestHTTP2FloodsHurtNobodyElse(t *testing.T) {
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			g := start(t, newState(t), withHTTPS)
			ann, bob, h := g.login("ann"), g.login("bob"), newHolder()
			ann.handle = h.handle
			for u, name := range map[*user]string{ann: "a", bob: "b"} {
				if _, ok := u.forward(name, 80); !ok {
					t.Fatal(u.why())
				}
			}
			g.served("a", "ann")
			g.served("b", "bob")
			stop := make(chan struct{})
			var wait sync.WaitGroup
			for range 2 {
				wait.Go(func() { g.flood(attack, stop) })
			}
			for range 20 {
				if status, body := g.get("b"); status != 200 || body != "bob" {
					t.Fatalf("the other tunnel: %d %q", status, body)
				}
			}
			close(stop)
			wait.Wait()
			close(h.release)
			g.served("a", "ann")
		})
	}
}

// flood sends and reads nothing, on one connection after the other, until stop
// is closed.
func (g *running) flood(attack func(*framed, uint32) error, stop <-chan struct{}) {
	for {
		c, err := g.dialHTTP2("a.localhost", http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		for i := uint32(0); err == nil && i < 250; i++ {
			err = attack(c, i)
		}
		select {
		case <-stop:
		case <-time.After(50 * time.Millisecond): // with its requests under way
		}
		if c != nil {
			c.conn.NetConn().Close()
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

// late is how many streams of requests that were answered before may not be over
// yet when a crowd comes.
const late = 4

// visitor is the address of the nth one of a crowd.
func visitor(n int) string { return fmt.Sprintf("127.0.0.%d", n+2) }

// Two tunnels of one SSH connection share its streams: where one has most of
// them, visitors of the other are told to come back, and not that its service
// is broken.
func TestConnectionOfManyStreams(t *testing.T) {
	g := start(t, newState(t), withHTTPS)
	ann, h := g.login("ann"), newHolder()
	ann.handle = h.handle
	for _, name := range []string{"a", "b"} {
		if _, ok := ann.forward(name, 80); !ok {
			t.Fatal(ann.why())
		}
		g.served(name, "ann")
	}
	released := sync.OnceFunc(func() { close(h.release) })
	defer released()
	const most = 1024 // sshd's limit
	counts := map[string]int{}
	var crowd []*framed
	for n := range 12 {
		c := g.mustHTTP2From(visitor(n), "a.localhost")
		crowd = append(crowd, c)
		for i := range uint32(100) {
			if err := c.ask(2*i+1, []string{"a", "b"}[n%2]+".localhost", "/hold"); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "the connection has all it may have", func() bool { return h.now.Load() >= most-late })
	released()
	for _, c := range crowd {
		for i := range uint32(100) {
			counts[c.await(t, 2*i+1).status]++
		}
	}
	if counts["200"]+counts["503"] != 1200 || counts["200"] < most-late || h.most.Load() > most {
		t.Errorf("answers: %v", counts)
	}
}

// A crowd of visitors of one tunnel gets what a tunnel may have, and the rest
// is told to come back; the tunnels beside it, on the same connection of SSH
// and on another one, do not feel it.
func TestCrowdOfVisitors(t *testing.T) {
	const conns, streams = 50, 100
	g := start(t, newState(t), withHTTPS)
	ann, bob, h := g.login("ann"), g.login("bob"), newHolder()
	ann.handle = h.handle
	for _, f := range []struct {
		u    *user
		name string
	}{{ann, "a"}, {ann, "beside"}, {bob, "b"}} {
		if _, ok := f.u.forward(f.name, 80); !ok {
			t.Fatal(f.u.why())
		}
		g.served(f.name, f.u.who)
	}
	released := sync.OnceFunc(func() { close(h.release) })
	defer released()
	var crowd []*framed
	for n := range conns {
		c := g.mustHTTP2From(visitor(n), "a.localhost")
		crowd = append(crowd, c)
		for i := range uint32(streams) {
			if err := c.ask(2*i+1, "a.localhost", "/hold"); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "the tunnel has all it may have", func() bool { return h.now.Load() >= maxStreams-late })
	for range 20 {
		for name, who := range map[string]string{"beside": "ann", "b": "bob"} {
			if status, body := g.get(name); status != 200 || body != who {
				t.Fatalf("%s: %d %q", name, status, body)
			}
		}
	}
	released()
	counts := map[string]int{}
	for _, c := range crowd {
		for i := range uint32(streams) {
			a := c.await(t, 2*i+1)
			counts[a.status]++
			if a.status == "503" && a.retryAfter == "" {
				t.Fatal("503 without Retry-After")
			}
		}
	}
	if counts["200"]+counts["503"] != conns*streams || counts["200"] < maxStreams-late {
		t.Errorf("answers: %v", counts)
	}
	if most := h.most.Load(); most > maxStreams {
		t.Errorf("%d requests at once", most)
	}
	g.served("a", "ann")
}

// A crowd that comes from one address has half of what a tunnel may have, and
// everybody else goes on being served.
func TestOneVisitorsCrowd(t *testing.T) {
	const conns, streams = 11, 100
	g := start(t, newState(t), withHTTPS)
	ann, h := g.login("ann"), newHolder()
	ann.handle = h.handle
	if _, ok := ann.forward("a", 80); !ok {
		t.Fatal(ann.why())
	}
	g.served("a", "ann")
	released := sync.OnceFunc(func() { close(h.release) })
	defer released()
	for range conns {
		c := g.mustHTTP2From("127.0.0.200", "a.localhost")
		for i := range uint32(streams) {
			if err := c.ask(2*i+1, "a.localhost", "/hold"); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "the address has its share", func() bool { return h.now.Load() >= maxStreams/2-late })
	for n := range 20 {
		c := g.mustHTTP2From(visitor(n), "a.localhost")
		c.ask(1, "a.localhost", "/")
		if a := c.await(t, 1); a.status != "200" || a.body != "ann" {
			t.Fatalf("another visitor: %s %q", a.status, a.body)
		}
	}
	released()
	if most := h.most.Load(); most > maxStreams/2 {
		t.Errorf("%d requests at once", most)
	}
}
