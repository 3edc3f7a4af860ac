package sshd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// drainAll reads until the other end is closed.
func drainAll(nc net.Conn) { io.Copy(io.Discard, nc) }

func TestLoginGrace(t *testing.T) {
	tests := []struct {
		name string
		play func(t *testing.T, nc net.Conn)
	}{
		{"says nothing", func(*testing.T, net.Conn) {}},
		{"half a version line", func(_ *testing.T, nc net.Conn) { io.WriteString(nc, "SSH-2.0-") }},
		{"a version line and nothing else", func(_ *testing.T, nc net.Conn) { io.WriteString(nc, "SSH-2.0-x\r\n") }},
		{"KEXINIT and nothing else", func(t *testing.T, nc net.Conn) { greet(t, nc).write(kexInit(nil)) }},
		{"one byte a second", func(_ *testing.T, nc net.Conn) {
			for _, err := nc.Write([]byte("S")); err == nil; _, err = nc.Write([]byte("S")) {
				time.Sleep(time.Second)
			}
		}},
		{"never logs in", func(t *testing.T, nc net.Conn) {
			c := greet(t, nc)
			c.exchange()
			c.service()
			for {
				c.send(pubkeyRequest("me", "ann", false)) // the answer is always yes
				if p, err := c.read(); err != nil || p[0] == msgDisconnect {
					return
				}
				time.Sleep(time.Second)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ts := newServer(t, script{}, func(s *Server) { s.LoginGrace = 20 * time.Second })
				nc := ts.connect()
				began := time.Now()
				played := make(chan struct{})
				go func() { tt.play(t, nc); close(played) }()
				// The other half of the pipe tells when the server has let go.
				eventuallyClosed(nc.(*pipe))
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("closed after %v", took)
				}
				nc.Close()
				<-played
			})
		})
	}
}

// eventuallyClosed waits until nobody reads what p sends.
func eventuallyClosed(p *pipe) {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	for !p.out.broken {
		p.out.cond.Wait()
	}
}

// Whoever has logged in is not under the grace any more, also one that sends
// nothing after it.
func TestGraceEndsWithTheLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newServer(t, script{}, func(s *Server) { s.LoginGrace = 5 * time.Second })
		c := ts.dial("ann")
		time.Sleep(time.Hour)
		if !c.forward("blog", 80) {
			t.Error("gone")
		}
	})
}

// A crowd of half-open connections, over real sockets, costs only itself.
func TestHalfOpenCrowd(t *testing.T) {
	ts := newServer(t, script{}, func(s *Server) { s.MaxStartups = 50 })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- ts.Serve(ln) }()
	old := dialTCP(t, ln, "ann")
	var crowd []net.Conn
	closed := make(chan struct{}, 300)
	for range 300 {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, nc)
		go func() { drainAll(nc); closed <- struct{}{} }()
	}
	for range 250 { // the newest 50 stay
		within(t, closed)
	}
	for range 3 {
		dialTCP(t, ln, "bob")
	}
	if ok, _, err := old.SendRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80})); !ok || err != nil {
		t.Error("who was in before the crowd:", ok, err)
	}
	for _, nc := range crowd {
		nc.Close()
	}
	ts.StopAccepting()
	if err := within(t, served); !errors.Is(err, net.ErrClosed) {
		t.Error("Serve:", err)
	}
}

func dialTCP(t *testing.T, ln net.Listener, name string) ssh.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, chans, reqs, err := ssh.NewClientConn(nc, "test", clientConfig(name))
	if err != nil {
		t.Fatal("login beside the crowd:", err)
	}
	go drain(chans, reqs)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestStartupsVictims(t *testing.T) {
	at := func(host string) *socket {
		p, _ := newPipe()
		p.addr = &net.TCPAddr{IP: net.ParseIP(host), Port: 1}
		return &socket{Conn: p}
	}
	isClosed := func(s *socket) bool {
		p := s.Conn.(*pipe)
		p.in.mu.Lock()
		defer p.in.mu.Unlock()
		return p.in.closed
	}
	s := &startups{max: 3}
	a1, b1, a2 := at("192.0.2.1"), at("192.0.2.2"), at("192.0.2.1")
	for _, p := range []*socket{a1, b1, a2} {
		s.enter(p)
	}
	b2 := at("192.0.2.2")
	leave := s.enter(b2)
	if !isClosed(b1) || isClosed(a1) || isClosed(a2) || isClosed(b2) {
		t.Error("not the oldest of the newcomer's own address")
	}
	s.enter(at("192.0.2.3"))
	if !isClosed(a1) || isClosed(a2) {
		t.Error("not the oldest of all")
	}
	leave()
	leave() // no effect
	s.closeAll()
	late := at("192.0.2.4")
	s.enter(late)
	if !isClosed(a2) || isClosed(b2) || !isClosed(late) {
		t.Error("closeAll")
	}
}

// Who gets on is let get on: of those that have as many connections it is the
// mute who go, then the silent, and then who came last.
func TestStartupsThatGetOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &startups{max: 4}
		var in []*socket
		enter := func(say bool) *socket {
			p, _ := newPipe()
			p.addr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, byte(len(in))), Port: 1}
			sock := &socket{Conn: p}
			s.enter(sock)
			if in = append(in, sock); say {
				sock.heard.Store(time.Now().UnixNano())
			}
			return sock
		}
		gone := func(what string, want ...*socket) {
			t.Helper()
			for i, sock := range in {
				if sock.dead.Load() != slices.Contains(want, sock) {
					t.Errorf("%s: number %d: gone %v", what, i, sock.dead.Load())
				}
			}
		}
		silent, old, mute, young := enter(true), enter(true), enter(false), enter(true)
		enter(true)
		gone("a mute one", mute)
		fifth := in[4]
		late := enter(true)
		gone("nobody but the last", mute, late)
		time.Sleep(patience)
		for _, sock := range []*socket{old, young, fifth} {
			sock.heard.Store(time.Now().UnixNano())
		}
		enter(true)
		gone("a silent one", mute, late, silent)
		for _, sock := range []*socket{old, young, fifth, in[6]} {
			sock.begun.Store(true)
		}
		stranger := enter(true)
		gone("before those who log in", mute, late, silent, stranger)
		for range overstay / patience { // they drip
			time.Sleep(patience - 1)
			for _, sock := range []*socket{old, young, fifth, in[6]} {
				sock.heard.Store(time.Now().UnixNano())
			}
		}
		enter(true)
		gone("one who takes too long", mute, late, silent, stranger, old)
	})
}

// What does not begin as SSH is let go at once, though SSH may come behind it,
// and whether its ciphers are chosen for it or not.
func TestOnlySSHBefore(t *testing.T) {
	for _, ciphers := range [][]string{nil, Ciphers()} {
		ts := newServer(t, script{}, func(s *Server) { s.Ciphers = ciphers })
		for _, first := range []string{"PROXY TCP4 6.6.6.6 192.0.2.1 5555 22\r\n", "\r\n", "GET / HTTP/1.1\r\n\r\n", "ssh-2.0-x\r\n", "S", "SS"} {
			nc := ts.connect()
			for i := range first { // a byte at a time
				io.WriteString(nc, first[i:i+1])
			}
			io.WriteString(nc, "SSH-2.0-x\r\n")
			if said, err := io.ReadAll(nc); err != nil || string(said) != "SSH-2.0-test\r\n" {
				t.Errorf("%q: %q, %v", first, said, err)
			}
		}
		ts.dial("ann")
	}
}

// Whoever fills every place from one address, or from one customer's network,
// fights with themselves: others log in, several at once and slowly.
func TestOneSourcesCrowd(t *testing.T) {
	crowds := map[string]func(i int) string{
		"address": func(int) string { return "192.0.2.1" },
		"network": func(i int) string { return fmt.Sprintf("2001:db8:0:1::%x", i) },
	}
	for name, address := range crowds {
		t.Run(name, func(t *testing.T) {
			ts := newServer(t, script{}, func(s *Server) { s.MaxStartups = 20 })
			from := func(ip string) net.Conn {
				near, far := newPipe()
				far.addr = &net.TCPAddr{IP: net.ParseIP(ip), Port: 40000}
				go ts.ServeConn(far)
				t.Cleanup(func() { near.Close() })
				return near
			}
			n := 0
			crowd := func() {
				for range 40 {
					c := from(address(n))
					n++
					c.Read(make([]byte, 1)) // it is among those in their handshake now
				}
			}
			crowd()
			var slow []*raw
			for range 5 {
				slow = append(slow, greet(t, from("198.51.100.7")), greet(t, from("2001:db8:0:2::7")))
				crowd()
			}
			for _, c := range slow {
				c.exchange()
				c.service()
				c.sign("me", "ann")
				c.want(msgUserAuthOK)
			}
		})
	}
}

func TestGarbageBeforeLogin(t *testing.T) {
	var log lockedBuffer
	ts := newServer(t, script{}, func(s *Server) {
		s.LoginGrace = 10 * time.Second
		s.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	control := ts.dial("bob")
	baseline := runtime.NumGoroutine()
	packet := func(length uint32, rest string) func(*raw) {
		return func(c *raw) { io.WriteString(c.nc, str(length, rest)) }
	}
	afterKex := func(f func(*raw)) func(*raw) {
		return func(c *raw) {
			c.exchange()
			f(c)
		}
	}
	plays := map[string]func(*raw){
		"length zero":          packet(0, "\x00"),
		"length one":           packet(1, "\x00\x00"),
		"length of 4 GiB":      packet(huge, strings.Repeat("x", 64)),
		"length of 256 KiB+1":  packet(256<<10+1, strings.Repeat("x", 64)),
		"padding over length":  packet(12, "\xff"+strings.Repeat("\x14", 11)),
		"no payload":           packet(12, "\x0b"+strings.Repeat("\x00", 11)),
		"an unknown message":   func(c *raw) { c.write([]byte{200}) },
		"NEWKEYS first":        func(c *raw) { c.write([]byte{msgNewKeys}) },
		"a channel before kex": func(c *raw) { c.send(channelOpen("session")) },
		"KEXINIT cut short":    func(c *raw) { c.write(kexInit(nil)[:30]) },
		"KEXINIT that lies":    func(c *raw) { c.write(append(kexInit(nil)[:17], "\xff\xff\xff\xff"...)) },
		"no common algorithm":  func(c *raw) { c.write(kexInit(map[int]string{0: "none"})) },
		"two KEXINITs":         func(c *raw) { c.write(kexInit(nil)); c.write(kexInit(nil)) },
		"bad tag":              afterKex(func(c *raw) { io.WriteString(c.nc, str(16, strings.Repeat("x", 32))) }),
		"a channel":            afterKex(func(c *raw) { c.send(channelOpen("session")) }),
		"a forwarded channel":  afterKex(func(c *raw) { c.send(channelOpen("forwarded-tcpip")) }),
		"a global request":     afterKex(func(c *raw) { c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80})) }),
		"channel data":         afterKex(func(c *raw) { c.write([]byte{msgChannelData, 0, 0, 0, 0, 0, 0, 0, 0}) }),
		"a reply":              afterKex(func(c *raw) { c.write([]byte{msgRequestSuccess}) }),
		"a channel in auth":    afterKex(func(c *raw) { c.service(); c.send(channelOpen("session")) }),
		"a request in auth": afterKex(func(c *raw) {
			c.service()
			c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80}))
		}),
		"auth cut short":  afterKex(func(c *raw) { c.service(); c.write([]byte{msgUserAuthReq, 0, 0}) }),
		"another service": afterKex(func(c *raw) { c.send(serviceRequest("ssh-connection")) }),
		"auth for another service": afterKex(func(c *raw) {
			c.service()
			r := pubkeyRequest("me", "ann", false)
			r.Service = "\x1b[2J"
			c.send(r)
		}),
		"a key of lies": afterKex(func(c *raw) {
			c.service()
			r := pubkeyRequest("me", "ann", true)
			r.Key = []byte(str(huge, "ssh-ed25519"))
			c.send(r)
		}),
		"a bad signature": afterKex(func(c *raw) {
			c.service()
			c.session = append([]byte("x"), c.session...)
			c.sign("me", "ann")
		}),
	}
	for name, play := range plays {
		t.Run(name, func(t *testing.T) {
			c := greet(t, ts.connect())
			play(c)
			c.nc.(*pipe).CloseWrite() // what is incomplete stays so
			for _, n := range c.closed() {
				if n == msgUserAuthOK || n >= msgGlobalRequest {
					t.Error("answered with", n)
				}
			}
			c.nc.Close()
		})
	}
	for _, line := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "SSH-1.5-old\r\n", strings.Repeat("x\r\n", 2000),
		strings.Repeat("y", 1<<20), "SSH-2.0-" + strings.Repeat("z", 300) + "\r\n", "SSH-2.0-\x1b[2J\r\n", "\x00", "\r\n"} {
		nc := ts.connect()
		go func() { io.WriteString(nc, line); nc.(*pipe).CloseWrite() }()
		drainAll(nc)
		nc.Close()
	}
	select {
	case <-ts.conns:
		t.Error("somebody is in")
	default:
	}
	alive(t, control, baseline)
	for line := range strings.Lines(log.String()) {
		if len(line) > 600 || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			t.Errorf("a log line of %d bytes: %q", len(line), line)
		}
	}
}

func channelOpen(kind string) any {
	return struct {
		Kind           string `sshtype:"90"`
		ID, Window, Mx uint32
	}{kind, 0, 1 << 20, 32 << 10}
}

func serviceRequest(name string) any {
	return struct {
		S string `sshtype:"5"`
	}{name}
}

// With strict key exchange agreed on, nothing but its own messages may come
// before NEWKEYS: that is what keeps a prefix from being cut (Terrapin).
func TestStrictKeyExchange(t *testing.T) {
	ts := newServer(t, script{}, func(s *Server) { s.LoginGrace = 10 * time.Second })
	for _, strict := range []bool{true, false} {
		c := greet(t, ts.connect())
		kex := "curve25519-sha256"
		if strict {
			kex += ",kex-strict-c-v00@openssh.com"
		}
		c.write(kexInit(map[int]string{0: kex}))
		c.want(msgKexInit)
		c.send(struct {
			S string `sshtype:"2"`
		}{"ignored"})
		c.send(struct {
			Q []byte `sshtype:"30"`
		}{append(make([]byte, 31), 9)})
		seen := c.until(31)
		if answered := bytes.IndexByte(seen, 31) >= 0; answered == strict {
			t.Errorf("strict %v: answered with %v", strict, seen)
		}
		c.nc.Close()
	}
}

// until gives the numbers of the messages up to one of that number.
func (c *raw) until(number byte) (seen []byte) {
	for {
		p, err := c.read()
		if err != nil {
			return seen
		}
		if seen = append(seen, p[0]); p[0] == number {
			return seen
		}
	}
}

func TestServeAfterClose(t *testing.T) {
	ts := newServer(t, script{})
	ts.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ts.Serve(ln); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	near, far := newPipe()
	ts.ServeConn(far)
	drainAll(near)
}

// Close does not wait for who has not logged in, nor for who has.
func TestCloseCutsEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newServer(t, script{})
		for range 5 {
			greet(t, ts.connect())
		}
		c := ts.dial("ann")
		c.forward("blog", 80)
		began := time.Now()
		ts.Close()
		if took := time.Since(began); took != 0 {
			t.Error("took", took)
		}
		if err := c.ended(); !errors.Is(err, net.ErrClosed) {
			t.Error("cause:", err)
		}
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
