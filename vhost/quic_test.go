package vhost

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/testutils/simnet"
)

// datagrams is a Router on a UDP port of a network in memory, for a test on a
// synthetic clock. Its visitors may have any address.
type datagrams struct {
	*Router
	net  simnet.PerfectRouter
	addr *net.UDPAddr
	t    *testing.T
}

// overQUIC runs test in a bubble, whose timers nobody else may use.
func overQUIC(t *testing.T, r *Router, test func(t *testing.T, d *datagrams)) {
	server, _ := testTLS()
	streams = sync.Pool{New: streams.New}
	defer func() { streams = sync.Pool{New: streams.New} }()
	synctest.Test(t, func(t *testing.T) {
		d := &datagrams{Router: r, addr: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}, t: t}
		served := make(chan error, 1)
		go func() { served <- r.ServeQUIC(simnet.NewSimConn(d.addr, &d.net), server) }()
		defer func() {
			if err := r.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}()
		synctest.Wait()
		test(t, d)
	})
}

// tap is where a visitor's packets arrive: it counts those that are a Retry
// (RFC 9000 17.2.5), and drops all if it is deaf.
type tap struct {
	simnet.PacketReceiver
	deaf    bool
	retries atomic.Int32
}

func (p *tap) RecvPacket(packet simnet.Packet) {
	if packet.Data[0]>>4 == 0xf {
		p.retries.Add(1)
	}
	if !p.deaf {
		p.PacketReceiver.RecvPacket(packet)
	}
}

// dial begins a connection from ip, with a port of its own.
func (d *datagrams) dial(ctx context.Context, ip string, port int, deaf bool) (*quic.Conn, *tap, error) {
	from := &net.UDPAddr{IP: net.ParseIP(ip), Port: port}
	pc := simnet.NewSimConn(from, &d.net)
	p := &tap{PacketReceiver: pc, deaf: deaf}
	d.net.AddNode(from, p)
	tr := &quic.Transport{Conn: pc}
	d.t.Cleanup(func() { tr.Close(); pc.Close() })
	_, client := testTLS()
	client = client.Clone()
	client.NextProtos = []string{http3.NextProtoH3}
	conn, err := tr.Dial(ctx, d.addr, client, &quic.Config{KeepAlivePeriod: awaitedVisitor, MaxIdleTimeout: time.Hour})
	return conn, p, err
}

// mustDial is dial for one that is to be let in.
func (d *datagrams) mustDial(ip string, port int) *quic.Conn {
	d.t.Helper()
	conn, _, err := d.dial(d.t.Context(), ip, port, false)
	if err != nil {
		d.t.Fatalf("%s: %v", ip, err)
	}
	return conn
}

// asks returns the status that a request over conn gets.
func (d *datagrams) asks(conn *quic.Conn) int {
	d.t.Helper()
	status, err := visit(new(http3.Transport).NewClientConn(conn), "/", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	return status
}

// visit sends a request over conn.
func visit(conn *http3.ClientConn, path string, body io.Reader) (status int, err error) {
	q, _ := http.NewRequest("POST", "https://example.com"+path, body)
	resp, err := conn.RoundTrip(q)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// counts are the connections that are counted, and of these the unproven.
func (a *arrivals) counts() (all, unproven, sources int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all, a.unproven, len(a.of)
}

// greeting is a Router that answers everything by itself.
func greeting() *Router {
	return &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { return nil, &Page{Status: 200} }}
}

// TestHalfOpenQUIC: of those who begin a handshake and never read what comes
// back, no more than so many are kept, and after that everybody is asked to
// prove the address first, which costs an ordinary visitor a round trip.
func TestHalfOpenQUIC(t *testing.T) {
	overQUIC(t, greeting(), func(t *testing.T, d *datagrams) {
		visits := func(port int, asked bool) {
			t.Helper()
			conn, p, err := d.dial(t.Context(), "198.51.100.1", port, false)
			if err != nil || d.asks(conn) != 200 {
				t.Fatalf("an ordinary visitor: %v", err)
			}
			if n := p.retries.Load(); n > 0 != asked {
				t.Errorf("an ordinary visitor is asked for a proof %d times", n)
			}
			conn.CloseWithError(0, "")
		}
		visits(1, false)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mute sync.WaitGroup
		for i := range mostUnproven + 20 {
			mute.Go(func() { d.dial(ctx, fmt.Sprintf("10.0.0.%d", i), 1, true) })
			synctest.Wait()
		}
		if all, unproven, _ := d.arrivals.counts(); all != mostUnproven || unproven != mostUnproven {
			t.Errorf("%d are kept, %d of them unproven", all, unproven)
		}
		visits(2, true)
		mute.Wait()
		time.Sleep(2 * handshakeLimit)
		if all, unproven, sources := d.arrivals.counts(); all+unproven+sources != 0 {
			t.Errorf("%d are left, %d unproven, of %d sources", all, unproven, sources)
		}
		visits(3, false)
	})
}

// TestMaxQUIC: one address has its share of the connections, and all have no
// more than there may be. Where one ends the next gets in.
func TestMaxQUIC(t *testing.T) {
	r := greeting()
	r.MaxQUIC = 8
	overQUIC(t, r, func(t *testing.T, d *datagrams) {
		refused := func(ip string) {
			t.Helper()
			_, _, err := d.dial(t.Context(), ip, 9, false)
			if e, ok := errors.AsType[*quic.TransportError](err); !ok || e.ErrorCode != quic.ConnectionRefused {
				t.Errorf("%s: %v", ip, err)
			}
			synctest.Wait() // for what it has sent besides, as there may soon be room
		}
		first := d.mustDial("10.0.0.1", 1)
		d.mustDial("10.0.0.1", 2)
		refused("10.0.0.1")
		d.mustDial("2001:db8::1", 1)
		d.mustDial("2001:db8::2", 1)
		refused("2001:db8::3")
		for i := range 4 {
			if conn := d.mustDial(fmt.Sprintf("10.0.1.%d", i), 1); d.asks(conn) != 200 {
				t.Error("who is let in is not served")
			}
		}
		refused("10.0.2.1")
		first.CloseWithError(0, "")
		synctest.Wait()
		d.mustDial("10.0.2.1", 1)
		refused("10.0.1.1")
	})
}

// TestSlowHeadQUIC: a request's head has the time that it has over HTTP/1.1,
// and a connection without requests ends when its time is over, whatever its
// other streams have said. What is slow behind its head is not cut.
func TestSlowHeadQUIC(t *testing.T) {
	overQUIC(t, greeting(), func(t *testing.T, d *datagrams) {
		conn := d.mustDial("10.0.0.1", 1)
		for _, said := range []string{"\x01", "\x01\x40\x80", "\x01\x40\x80\x00\x00", "\x21"} {
			str, err := conn.OpenStreamSync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			str.SetDeadline(began.Add(2 * headLimit))
			str.Write([]byte(said))
			_, err = str.Read(make([]byte, 1))
			if e, ok := errors.AsType[*quic.StreamError](err); !ok || e.ErrorCode != quic.StreamErrorCode(http3.ErrCodeRequestIncomplete) {
				t.Errorf("after %q: %v", said, err)
			}
			if d := time.Since(began); d < headLimit || d > headLimit+time.Second {
				t.Errorf("after %q: %v", said, d)
			}
		}
		if d.asks(conn) != 200 {
			t.Error("the connection serves no more")
		}
		began := time.Now()
		select {
		case <-conn.Context().Done():
		case <-time.After(2 * idleLimit):
		}
		if d := time.Since(began); d < idleLimit || d > idleLimit+time.Second {
			t.Errorf("idle for %v", d)
		}
	})
}

// TestSlowBodyQUIC: a body may pause for longer than a head may take.
func TestSlowBodyQUIC(t *testing.T) {
	b := NewBackend(BackendOptions{Dial: func(context.Context, net.Addr) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(there, bufio.NewReader(there))
		}()
		return here, nil
	}})
	r := &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { return b, nil }}
	overQUIC(t, r, func(t *testing.T, d *datagrams) {
		defer b.Close(nil)
		body, in := io.Pipe()
		go func() {
			for range 3 {
				io.WriteString(in, "x")
				time.Sleep(2 * headLimit)
			}
			in.Close()
		}()
		if status, err := visit(new(http3.Transport).NewClientConn(d.mustDial("10.0.0.1", 1)), "/", body); status != 200 {
			t.Error(status, err)
		}
	})
}

// TestClosingQUIC: what is asked for once the Router closes is rejected, and what
// was asked for before is answered.
func TestClosingQUIC(t *testing.T) {
	hold := make(chan bool)
	r := &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { <-hold; return nil, &Page{Status: 200} }}
	overQUIC(t, r, func(t *testing.T, d *datagrams) {
		hold = make(chan bool) // of the bubble
		conn := new(http3.Transport).NewClientConn(d.mustDial("10.0.0.1", 1))
		first := make(chan int, 1)
		go func() {
			status, _ := visit(conn, "/", nil)
			first <- status
		}()
		synctest.Wait()
		go r.Shutdown(context.Background())
		synctest.Wait()
		_, err := visit(conn, "/", nil)
		if e, ok := errors.AsType[*http3.Error](err); !ok || e.ErrorCode != http3.ErrCodeRequestRejected {
			t.Error(err)
		}
		close(hold)
		if status := <-first; status != 200 {
			t.Error(status)
		}
	})
}

// TestQUICForgotten: nothing keeps a connection in memory that has ended, while
// others come and go.
func TestQUICForgotten(t *testing.T) {
	overQUIC(t, greeting(), func(t *testing.T, d *datagrams) {
		visitor := d.mustDial("10.0.0.1", 1)
		time.Sleep(time.Second)
		var conn weak.Pointer[quic.Conn]
		d.mu.Lock()
		for v := range d.visitors {
			conn = weak.Make(v.(*quicVisitor).conn)
		}
		d.mu.Unlock()
		if conn.Value() == nil {
			t.Fatal("there is none")
		}
		visitor.CloseWithError(0, "")
		time.Sleep(10 * time.Second) // in which QUIC remembers it
		for range 3 {
			runtime.GC()
		}
		if conn.Value() != nil {
			t.Error("it is kept")
		}
	})
}
