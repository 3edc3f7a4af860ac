package gateway

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// deaf lets so many writes through, and swallows the others.
type deaf struct {
	net.Conn
	writes int
}

func (c *deaf) Write(p []byte) (int, error) {
	if c.writes == 0 {
		return len(p), nil
	}
	c.writes--
	return c.Conn.Write(p)
}

// Whoever stops in the midst of the first bytes or of the handshake is let go,
// on every path of the HTTPS port.
func TestStallsAreLetGo(t *testing.T) {
	const opened, asSSH = 15 * time.Second, 35 * time.Second // with a parting alert
	hello := clientHello(t, "blog.localhost", "h2")
	say := func(b []byte) func(net.Conn) { return func(c net.Conn) { c.Write(b) } }
	for name, tt := range map[string]struct {
		stall func(net.Conn)
		limit time.Duration
	}{
		"silent":              {say(nil), asSSH},
		"SSH's version":       {say([]byte("SSH-2.0-x\r\n")), asSSH},
		"half of SSH":         {say([]byte("SS")), opened},
		"one byte":            {say(hello[:1]), opened},
		"a byte every 5 s":    {func(c net.Conn) { drip(c, hello, 5*time.Second) }, opened},
		"half a ClientHello":  {say(hello[:len(hello)/2]), opened},
		"half of its records": {say(inRecords(hello, 25)[:len(hello)/2]), opened},
		"no Finished":         {func(c net.Conn) { greet(&deaf{c, 1}, "blog.localhost") }, opened},
		"plain":               {say([]byte("G")), opened},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { letGo(t, tt.stall, tt.limit) })
		})
	}
}

// letGo has a client stall before the HTTPS port of a gateway.
func letGo(t *testing.T, stall func(net.Conn), limit time.Duration) {
	cfg := config(newState(t))
	withHTTPS(&cfg)
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	var wait sync.WaitGroup
	wait.Go(func() {
		stall(near)
		io.Copy(io.Discard, near)
	})
	began := time.Now()
	g.visitHTTPS(far)
	if d := time.Since(began); d > limit {
		t.Errorf("let go after %v", d)
	}
	near.Close()
	wait.Wait()
	g.http.Shutdown(context.Background())
	g.ssh.Close()
	g.Close()
}

// drip writes a byte at a time.
func drip(c net.Conn, b []byte, pause time.Duration) {
	for len(b) > 0 {
		if _, err := c.Write(b[:1]); err != nil {
			return
		}
		b = b[1:]
		time.Sleep(pause)
	}
}

// greet is a client's part of a handshake.
func greet(c net.Conn, name string) {
	tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
}

// inRecords is a ClientHello in n records (RFC 8446, section 5.1).
func inRecords(hello []byte, n int) (out []byte) {
	rest := hello[5:]
	for ; n > 0; n-- {
		part := rest[:len(rest)/n]
		rest = rest[len(part):]
		out = append(append(out, hello[0], hello[1], hello[2], byte(len(part)>>8), byte(len(part))), part...)
	}
	return out
}

// piecemeal sends its first write, a ClientHello, in 25 records.
type piecemeal struct {
	net.Conn
	once sync.Once
}

func (c *piecemeal) Write(p []byte) (n int, err error) {
	n = -1
	c.once.Do(func() {
		n = len(p)
		_, err = c.Conn.Write(inRecords(p, 25))
	})
	if n < 0 {
		return c.Conn.Write(p)
	}
	return n, err
}

// A ClientHello over many records is opened like any other.
func TestManyRecords(t *testing.T) {
	g := start(t, newState(t), withHTTPS)
	u := g.login("ann")
	if _, ok := u.forward("blog", 80); !ok {
		t.Fatal(u.why())
	}
	g.served("blog", "ann")
	c := g.secureClient()
	tr := c.Transport.(*http.Transport)
	dial := tr.DialContext
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &piecemeal{Conn: conn}, err
	}
	resp, err := c.Get("https://blog.localhost/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "ann" {
		t.Errorf("%q", b)
	}
}

// A session's ticket is good for the kind of connection that gave it: what is
// learnt over TCP resumes nothing over QUIC.
func TestTicketsStayApart(t *testing.T) {
	g := start(t, newState(t), withHTTPS)
	cache := tls.NewLRUClientSessionCache(1)
	resumed := func(server *tls.Config, proto string) bool {
		a, b := net.Pipe()
		defer a.Close()
		go func() {
			defer b.Close()
			if s := tls.Server(b, server); s.Handshake() == nil {
				s.Write([]byte("x"))
			}
		}()
		c := tls.Client(a, &tls.Config{ServerName: "localhost", NextProtos: []string{proto}, ClientSessionCache: cache, InsecureSkipVerify: true})
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n != 1 {
			t.Fatal(proto, err)
		}
		return c.ConnectionState().DidResume
	}
	tcp := g.certs.TLSConfig()
	if resumed(tcp, "h2") || !resumed(tcp, "h2") {
		t.Error("nothing is resumed on TCP")
	}
	if resumed(http3.ConfigureTLSConfig(g.quicTLS()), "h3") {
		t.Error("a ticket of TCP's was good for QUIC")
	}
}
