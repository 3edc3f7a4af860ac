package tcp

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// helloBytes is what a client's first flight looks like on the wire.
func helloBytes(t testing.TB, conf *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	conf.InsecureSkipVerify = true
	done := make(chan bool)
	go func() { defer close(done); tls.Client(client, conf).Handshake() }()
	defer func() { client.Close(); server.Close(); <-done }()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// fragment splits a hello over records of the given size.
func fragment(hello []byte, size int) []byte {
	var out []byte
	for rest := hello[5:]; len(rest) > 0; {
		n := min(size, len(rest))
		out = append(out, hello[0], hello[1], hello[2], byte(n>>8), byte(n))
		out = append(out, rest[:n]...)
		rest = rest[n:]
	}
	return out
}

func TestPeek(t *testing.T) {
	named := helloBytes(t, &tls.Config{ServerName: "Blog.Example.com", NextProtos: []string{"h2", "http/1.1"}})
	bare := helloBytes(t, &tls.Config{})
	old := helloBytes(t, &tls.Config{ServerName: "old.example.com", MaxVersion: tls.VersionTLS12})
	long := helloBytes(t, &tls.Config{ServerName: "a", NextProtos: strings.Split(strings.Repeat(strings.Repeat("x", 200)+" ", 70), " ")[:70]})
	blog := Hello{TLS, "blog.example.com", []string{"h2", "http/1.1"}}
	for name, test := range map[string]struct {
		raw  []byte
		want Hello
	}{
		"SSH":             {[]byte("SSH-2.0-OpenSSH_9.2\r\n"), Hello{Protocol: SSH}},
		"SSH only":        {[]byte("SSH-"), Hello{Protocol: SSH}},
		"HTTP":            {[]byte("GET / HTTP/1.1\r\n\r\n"), Hello{Protocol: Plain}},
		"HTTP with S":     {[]byte("SEARCH / HTTP/1.1\r\n\r\n"), Hello{Protocol: Plain}},
		"HTTP with SSH":   {[]byte("SSH / HTTP/1.1\r\n\r\n"), Hello{Protocol: Plain}},
		"h2 in clear":     {[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Hello{Protocol: Plain}},
		"one byte":        {[]byte("\n"), Hello{Protocol: Plain}},
		"TLS":             {named, blog},
		"TLS 1.2":         {old, Hello{Protocol: TLS, ServerName: "old.example.com"}},
		"TLS, no name":    {bare, Hello{Protocol: TLS}},
		"many records":    {fragment(named, 10), blog},
		"1-byte records":  {fragment(named, 1), blog},
		"14 KiB":          {fragment(long, 16<<10), Hello{TLS, "a", strings.Split(strings.Repeat(strings.Repeat("x", 200)+" ", 70), " ")[:70]}},
		"more behind":     {append(bytes.Clone(named), "\x17\x03\x03\x00\x01x"...), blog},
		"malformed":       {[]byte("\x16\x03\x01\x00\x04\x01\x00\x00\x00"), Hello{Protocol: TLS}},
		"no handshake":    {[]byte("\x16\x03\x01\x00\x04\x02\x00\x00\x00"), Hello{Protocol: TLS}},
		"SSLv2":           {[]byte("\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"), Hello{Protocol: TLS}},
		"oversize record": {[]byte("\x16\x03\x01\xff\xff\x01\x00\x00\x00"), Hello{Protocol: TLS}},
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			peekIn(t, name, test.raw, size, test.want)
		}
	}
}

// peekIn sends raw in pieces, and the end behind it.
func peekIn(t *testing.T, name string, raw []byte, size int, want Hello) {
	t.Helper()
	client, server := tcpPair(t)
	go func() {
		for rest := raw; len(rest) > 0; {
			n := min(size, len(rest))
			client.Write(rest[:n])
			rest = rest[n:]
		}
		client.(*net.TCPConn).CloseWrite()
	}()
	c, got, err := Peek(server, 10*time.Second)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%s by %d: %.200v, %v; want %.200v", name, size, got, err, want)
	}
	again, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(again, raw) {
		t.Errorf("%s by %d: read again %d bytes of %d, %v", name, size, len(again), len(raw), err)
	}
	if got := c.(*Peeked).CloseWrite(); got != nil {
		t.Error(got)
	}
	if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%s: half-close: %d, %v", name, n, err)
	}
	c.Close()
}

// tcpPair is the two ends of a TCP connection.
func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// TestPeekErrors: what ends inside, or never does.
func TestPeekErrors(t *testing.T) {
	endless := append([]byte("\x16\x03\x01\x40\x00\x01\x00\xff\xff"), make([]byte, 16<<10-4)...)
	for name, test := range map[string]struct {
		raw []byte
		err error
	}{
		"nothing":         {nil, io.EOF},
		"half of SSH":     {[]byte("SS"), io.EOF},
		"half a record":   {helloBytes(t, &tls.Config{})[:50], io.ErrUnexpectedEOF},
		"endless":         {append(bytes.Repeat(append([]byte("\x16\x03\x01\x40\x00"), endless[5:]...), 4), 0), errLongHello},
		"half a header":   {[]byte("\x16\x03"), io.ErrUnexpectedEOF},
		"half of records": {fragment(helloBytes(t, &tls.Config{}), 20)[:60], io.ErrUnexpectedEOF},
	} {
		client, server := tcpPair(t)
		go func() {
			client.Write(test.raw)
			client.(*net.TCPConn).CloseWrite()
		}()
		c, _, err := Peek(server, 10*time.Second)
		if c != nil || !errors.Is(err, test.err) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

// dead is a connection whose other end the kernel has given up.
type dead struct{ net.Conn }

func (dead) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
}

// TestPeekDead: nobody is there to be silent.
func TestPeekDead(t *testing.T) {
	_, server := tcpPair(t)
	if c, h, err := Peek(dead{server}, time.Second); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("%v, %+v, %v", c, h, err)
	}
}

// TestPeekTime: silence is an answer, slowness an error.
func TestPeekTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		began := time.Now()
		c, h, err := Peek(server, time.Second)
		if err != nil || h.Protocol != Silent || time.Since(began) != time.Second {
			t.Fatalf("%+v, %v after %v", h, err, time.Since(began))
		}
		go func() { time.Sleep(time.Hour); client.Write([]byte("x")) }()
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("a deadline was left: %v", err)
		}
		go func() {
			for _, b := range []byte("\x16\x03\x01\x02\x00\x01\x00") {
				client.Write([]byte{b})
				time.Sleep(3 * time.Second)
			}
		}()
		began = time.Now()
		if _, _, err := Peek(c, time.Second); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != helloTime {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		server.Close()
		time.Sleep(time.Minute)
	})
}

// TestPeekThenServe opens TLS on a peeked connection, and splices another.
func TestPeekThenServe(t *testing.T) {
	client, server := tcpPair(t)
	toService, service := tcpPair(t)
	done := make(chan error, 1)
	go func() {
		c, _, err := Peek(server, 10*time.Second)
		if err == nil {
			_, _, err = Splice(c, toService, time.Minute)
		}
		done <- err
	}()
	for _, text := range []string{"GET / ", "HTTP/1.1\r\n\r\n"} {
		io.WriteString(client, text)
		got := make([]byte, len(text))
		if _, err := io.ReadFull(service, got); err != nil || string(got) != text {
			t.Fatalf("%q, %v", got, err)
		}
	}
	client.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, service)
	io.WriteString(service, "answer")
	service.Close()
	if got, err := io.ReadAll(client); string(got) != "answer" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestResetBelow: what is below a connection is reset, without a last word.
func TestResetBelow(t *testing.T) {
	client, server := tcpPair(t)
	Reset(tls.Server(&Peeked{Conn: server}, &tls.Config{}))
	if _, err := client.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("%v", err)
	}
}

// FuzzPeek looks at any bytes, in pieces: they are read again as they came, and
// a name is what crypto/tls sees too when it serves them.
func FuzzPeek(f *testing.F) {
	hello := helloBytes(f, &tls.Config{ServerName: "blog.example.com", NextProtos: []string{"h2"}})
	f.Add(hello, 100)
	f.Add(fragment(hello, 5), 3)
	f.Add([]byte("SSH-2.0-x\r\n"), 1)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), 2)
	f.Add([]byte("\x16\x03\x01\x00\x04\x01\x00\x00\x00"), 9)
	f.Fuzz(func(t *testing.T, raw []byte, step int) {
		if len(raw) > 64<<10 {
			return
		}
		c, h, err := Peek(&bytesConn{data: raw, step: step}, time.Second)
		if err != nil {
			return
		}
		name := ""
		conf := &tls.Config{GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
			name = i.ServerName
			return nil, errEnough
		}}
		tls.Server(&bytesConn{data: raw, step: 1 << 16}, conf).Handshake()
		if h.Protocol == TLS && h.ServerName != strings.TrimSuffix(strings.ToLower(name), ".") {
			t.Fatalf("%q is %q to crypto/tls", h.ServerName, name)
		}
		if again, _ := io.ReadAll(c); !bytes.Equal(again, raw) {
			t.Fatalf("%q became %q", raw, again)
		}
	})
}

// bytesConn yields data in pieces and then its end, and takes everything.
type bytesConn struct {
	net.TCPConn
	data []byte
	step int
}

func (c *bytesConn) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), max(c.step, 1))], c.data)
	c.data = c.data[n:]
	return n, nil
}
func (c *bytesConn) Write(p []byte) (int, error)     { return len(p), nil }
func (c *bytesConn) SetReadDeadline(time.Time) error { return nil }
func (c *bytesConn) Close() error                    { return nil }
