package tcp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"
)

// header is a version 2 header of that command and family, with length bytes of
// zeros for the address block.
func header(command, family byte, length int) []byte {
	h := append(bytes.Clone(proxyproto.SIGV2), command, family, byte(length>>8), byte(length))
	return append(h, make([]byte, length)...)
}

// made is a header as the library writes it.
func made(t testing.TB, version byte, from, to string, tlvs ...proxyproto.TLV) []byte {
	t.Helper()
	address := func(text string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text)) }
	h := proxyproto.HeaderProxyFromAddrs(version, address(from), address(to))
	if err := h.SetTLVs(tlvs); err != nil {
		t.Fatal(err)
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReadProxy: whatever pieces a header comes in, what follows is untouched.
func TestReadProxy(t *testing.T) {
	const own = "" // the connection's own address
	for name, test := range map[string]struct {
		raw  []byte
		want string
	}{
		"1, IPv4":            {made(t, 1, "203.0.113.7:5555", "192.0.2.1:80"), "203.0.113.7:5555"},
		"1, IPv6":            {made(t, 1, "[2001:db8::7]:5555", "[2001:db8::1]:80"), "[2001:db8::7]:5555"},
		"1, mapped":          {[]byte("PROXY TCP6 ::ffff:203.0.113.7 ::1 5555 80\r\n"), "203.0.113.7:5555"},
		"1, as nginx":        {[]byte("PROXY TCP6 203.0.113.7 ::1 5555 80\r\n"), "203.0.113.7:5555"},
		"1, unknown":         {[]byte("PROXY UNKNOWN\r\n"), own},
		"1, unknown, longer": {[]byte("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"), own},
		"2, IPv4":            {made(t, 2, "203.0.113.7:5555", "192.0.2.1:80"), "203.0.113.7:5555"},
		"2, IPv6":            {made(t, 2, "[2001:db8::7]:5555", "[2001:db8::1]:80"), "[2001:db8::7]:5555"},
		"2, more":            {made(t, 2, "203.0.113.7:5555", "192.0.2.1:80", proxyproto.TLV{Type: 0xe0, Value: make([]byte, 4000)}), "203.0.113.7:5555"},
		"2, local":           {header(0x20, 0x00, 0), own},
		"2, local, longer":   {header(0x20, 0x11, 12), own},
		"2, nothing known":   {header(0x21, 0x00, 0), own},
		"2, datagrams":       {header(0x21, 0x12, 12), own},
		"2, Unix":            {header(0x21, 0x31, 216), own},
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			client, server := tcpPair(t)
			go func() {
				sendBy(client, append(bytes.Clone(test.raw), "PROXY and the rest"...), size)
				client.(*net.TCPConn).CloseWrite()
			}()
			c, err := ReadProxy(server)
			if err != nil {
				t.Errorf("%s by %d: %v", name, size, err)
				continue
			}
			want := test.want
			if want == own {
				want = client.LocalAddr().String()
			}
			if got := c.RemoteAddr().String(); got != want {
				t.Errorf("%s by %d: %s", name, size, got)
			}
			if rest, err := io.ReadAll(c); string(rest) != "PROXY and the rest" || err != nil {
				t.Errorf("%s by %d: then %q, %v", name, size, rest, err)
			}
			if s, ok := SocketOf(c); !ok || s.TCPConn != server {
				t.Errorf("%s: below is %v", name, s)
			}
		}
	}
}

// sendBy writes raw in pieces.
func sendBy(c net.Conn, raw []byte, size int) {
	for len(raw) > 0 {
		n := min(size, len(raw))
		c.Write(raw[:n])
		raw = raw[n:]
	}
}

// TestReadProxyRefuses: what is no header is nothing else either.
func TestReadProxyRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		raw string
		err error
	}{
		"nothing":        {"", io.EOF},
		"SSH":            {"SSH-2.0-x\r\n", ErrNoHeader},
		"HTTP":           {"GET / HTTP/1.1\r\n", ErrNoHeader},
		"P":              {"PUT / HTTP/1.1\r\n", ErrNoHeader},
		"a part":         {"PROXY TC", io.ErrUnexpectedEOF},
		"another word":   {"PROXYjunk TCP4 1.2.3.4 1.2.3.4 1 1\r\n", ErrNoHeader},
		"no line":        {"PROXY UNKNOWN" + strings.Repeat(" ", 200), proxyproto.ErrVersion1HeaderTooLong},
		"no return":      {"PROXY UNKNOWN\n", proxyproto.ErrLineMustEndWithCrlf},
		"a name":         {"PROXY TCP4 localhost 192.0.2.1 5555 80\r\n", proxyproto.ErrInvalidAddress},
		"a port":         {"PROXY TCP4 203.0.113.7 192.0.2.1 65536 80\r\n", proxyproto.ErrInvalidPortNumber},
		"half a block":   {string(header(0x21, 0x11, 12)[:20]), io.ErrUnexpectedEOF},
		"a short block":  {string(header(0x21, 0x11, 4)), proxyproto.ErrInvalidLength},
		"a long block":   {string(header(0x21, 0x11, 60_000)), proxyproto.ErrInvalidLength},
		"other command":  {string(header(0x22, 0x11, 12)), proxyproto.ErrUnsupportedProtocolVersionAndCommand},
		"version 3":      {string(header(0x31, 0x00, 0)), proxyproto.ErrUnsupportedProtocolVersionAndCommand},
		"unknown family": {string(header(0x21, 0x13, 12)), proxyproto.ErrUnsupportedAddressFamilyAndProtocol},
	} {
		client, server := tcpPair(t)
		go func() {
			io.WriteString(client, test.raw)
			client.(*net.TCPConn).CloseWrite()
		}()
		if c, err := ReadProxy(server); c != nil || !errors.Is(err, test.err) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

// TestReadProxyTime: a header that does not come to its end is not awaited for
// ever, and no deadline is left behind one that does.
func TestReadProxyTime(t *testing.T) {
	for _, pieces := range []string{"", "PROXY UNKNOWN", "\r\n\r\n\x00\r\nQUIT"} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			go func() {
				for i := range pieces {
					client.Write([]byte{pieces[i]})
					time.Sleep(time.Second)
				}
			}()
			began := time.Now()
			if _, err := ReadProxy(server); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != helloTime {
				t.Errorf("%q: %v after %v", pieces, err, time.Since(began))
			}
			server.Close()
			time.Sleep(time.Minute) // until the other side has found out
		})
	}
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		go func() {
			io.WriteString(client, "PROXY UNKNOWN\r\n")
			time.Sleep(time.Hour)
			io.WriteString(client, "x")
		}()
		c, err := ReadProxy(server)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("a deadline was left: %v", err)
		}
	})
}

// FuzzReadProxy: a header is what the library takes for one when it sees all
// of it at once, and what follows is read as it came.
func FuzzReadProxy(f *testing.F) {
	f.Add(made(f, 1, "203.0.113.7:5555", "192.0.2.1:80"), 3)
	f.Add(append(made(f, 2, "[2001:db8::7]:5555", "[2001:db8::1]:80"), "rest"...), 1)
	f.Add([]byte("PROXY UNKNOWN x\r\nrest"), 50)
	f.Add(header(0x20, 0x11, 0), 9)
	f.Add(header(0x21, 0x00, 7), 9)
	f.Fuzz(func(t *testing.T, raw []byte, step int) {
		c, err := ReadProxy(&bytesConn{data: raw, step: step})
		r := bufio.NewReaderSize(bytes.NewReader(raw), 8<<10)
		h, want := proxyproto.Read(r)
		if bytes.HasPrefix(raw, append(bytes.Clone(proxyproto.SIGV2), 0x21, 0x00)) {
			return // which the library has no use for
		}
		if (err == nil) != (want == nil) {
			t.Fatalf("%q: %v, and the library: %v", raw, err, want)
		}
		if err != nil {
			return
		}
		if from, _, ok := h.TCPAddrs(); ok && h.Command.IsProxy() && !from.IP.Equal(c.RemoteAddr().(*net.TCPAddr).IP) {
			t.Fatalf("%q: %v, and the library: %v", raw, c.RemoteAddr(), from)
		}
		rest, _ := io.ReadAll(c)
		if all, _ := io.ReadAll(r); !bytes.Equal(rest, all) {
			t.Fatalf("%q leaves %q, and the library %q", raw, rest, all)
		}
	})
}

// inFront is a listener behind the proxies that proxy tells.
func inFront(t *testing.T, proxy func(netip.Addr) bool) (ln net.Listener, refused chan error) {
	t.Helper()
	below, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused = make(chan error, 10)
	ln = Behind(below, proxy, func(_ net.Addr, err error) { refused <- err })
	t.Cleanup(func() { ln.Close() })
	return ln, refused
}

func dial(t *testing.T, ln net.Listener, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, text)
	return c
}

// TestBehind: one that says nothing keeps nobody waiting, one without a header
// is refused, and only a proxy's header is believed.
func TestBehind(t *testing.T) {
	var trusted atomic.Bool
	ln, refused := inFront(t, func(a netip.Addr) bool { return trusted.Load() && a == netip.MustParseAddr("127.0.0.1") })
	const line = "PROXY TCP4 203.0.113.7 192.0.2.1 5555 80\r\n"
	stranger := dial(t, ln, line)
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(line))
	if io.ReadFull(c, got); string(got) != line || c.RemoteAddr().String() != stranger.LocalAddr().String() {
		t.Errorf("from %v: %q", c.RemoteAddr(), got)
	}
	if _, ok := c.(*net.TCPConn); !ok {
		t.Errorf("a stranger's connection is a %T", c)
	}
	c.Close()

	trusted.Store(true)
	silent := dial(t, ln, "")
	bare := dial(t, ln, "GET / HTTP/1.1\r\n\r\n")
	if err := <-refused; !errors.Is(err, ErrNoHeader) {
		t.Error(err)
	}
	if _, err := bare.Read(make([]byte, 1)); err == nil {
		t.Error("one without a header is served")
	}
	dial(t, ln, "").Close()
	if err := <-refused; err != io.EOF {
		t.Error(err)
	}
	dial(t, ln, line+"hello")
	if c, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	if got := c.RemoteAddr().String(); got != "203.0.113.7:5555" {
		t.Error(got)
	}
	c.Close()
	ln.Close()
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the silent one: %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestBehindCloses: a listener that is closed, here or below, used or not,
// leaves nothing.
func TestBehindCloses(t *testing.T) {
	never, _ := inFront(t, func(netip.Addr) bool { return true })
	never.Close()
	never.Close()
	if _, err := never.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	ln, _ := inFront(t, func(netip.Addr) bool { return true })
	dial(t, ln, "PROXY UNKNOWN\r\n")
	if _, err := ln.Accept(); err != nil {
		t.Fatal(err)
	}
	waits := dial(t, ln, "PROXY UNKNOWN\r\n") // and nobody accepts
	ln.(*behind).Listener.Close()
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			break
		}
		c.Close()
	}
	if _, err := waits.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("who waited: %v", err)
	}
}

// TestSpliceBehind: packets go to a proxy's connection as they go to any other
// one.
func TestSpliceBehind(t *testing.T) {
	client, server := tcpPair(t)
	io.WriteString(client, "PROXY TCP4 203.0.113.7 192.0.2.1 5555 80\r\nGET")
	c, err := ReadProxy(server)
	if err != nil {
		t.Fatal(err)
	}
	far, near := tcpPair(t)
	service := &packeted{Conn: near}
	done := make(chan error, 1)
	go func() { _, _, err := Splice(c, service, time.Minute); done <- err }()
	got := make([]byte, 3)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "GET" {
		t.Errorf("%q, %v", got, err)
	}
	far.Close()
	if all, err := io.ReadAll(client); string(all) != "packet" || err != nil {
		t.Errorf("%q, %v", all, err)
	}
	client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// packeted has one packet, and can be read in no other way.
type packeted struct {
	net.Conn
	sent bool
}

func (p *packeted) Read([]byte) (int, error) { return 0, errors.New("read, not asked for packets") }
func (p *packeted) CloseWrite() error        { return p.Conn.(*net.TCPConn).CloseWrite() }
func (p *packeted) ReadBuffers(dst [][]byte) ([][]byte, error) {
	if p.sent {
		return dst, io.EOF
	}
	p.sent = true
	return append(dst, []byte("packet")), nil
}
