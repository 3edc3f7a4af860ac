package vhost

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

const benchRequest = "GET /path?query=1 HTTP/1.1\r\nHost: blog.gw.example.com\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n" +
	"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\r\n"

const benchResponse = "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n" +
	"Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"

// BenchmarkKeepAlive is one visitor's request after the other over TCP. The
// service and the visitor are as cheap as they can be, and are in the figure.
func BenchmarkKeepAlive(b *testing.B) {
	o := rawOrigin(b, func(c net.Conn, _ *bufio.Reader) {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			io.WriteString(c, benchResponse)
		}
	})
	g := front(b, o.addr)
	c := g.dial()
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c.send(benchRequest)
		if _, err := c.Conn.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRelay is the work without a kernel: both ends are memory.
func BenchmarkRelay(b *testing.B) {
	visitor, service := &loop{data: []byte(benchRequest)}, &loop{data: []byte(benchResponse), left: -1}
	back := NewBackend(BackendOptions{Dial: func(context.Context, net.Addr) (net.Conn, error) { return service, nil }})
	r := &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { return back, nil }}
	visitor.left = b.N
	b.ReportAllocs()
	b.ResetTimer()
	r.ServeConn(visitor)
}

// loop is a connection that yields the same bytes on each Read, left times (for
// ever if that is negative), and takes everything.
type loop struct {
	net.TCPConn
	data []byte
	left int
}

func (l *loop) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	l.left--
	return copy(p, l.data), nil
}
func (l *loop) Write(p []byte) (int, error)      { return len(p), nil }
func (l *loop) Close() error                     { return nil }
func (l *loop) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (l *loop) SetReadDeadline(time.Time) error  { return nil }
func (l *loop) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkDownload is one long body over TCP, of known length and in chunks.
func BenchmarkDownload(b *testing.B) {
	const size = 64 << 20
	for _, framing := range []string{"length", "chunked"} {
		b.Run(framing, func(b *testing.B) {
			piece := make([]byte, 32<<10)
			addr := httpOrigin(b, func(w http.ResponseWriter, _ *http.Request) {
				if framing == "length" {
					w.Header().Set("Content-Length", fmt.Sprint(size))
				}
				for range size / len(piece) {
					w.Write(piece)
				}
			})
			g := front(b, addr)
			b.SetBytes(size)
			for b.Loop() {
				resp, err := http.Get("http://" + g.addr)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
					b.Fatal(n, err)
				}
				resp.Body.Close()
			}
			http.DefaultClient.CloseIdleConnections()
		})
	}
}

// BenchmarkHTTP2 keeps 16 streams of one connection busy, over TLS. The visitor
// writes its own frames, and the service is as cheap as it can be; both are in
// the figure.
func BenchmarkHTTP2(b *testing.B) {
	o := rawOrigin(b, func(c net.Conn, _ *bufio.Reader) {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			io.WriteString(c, benchResponse)
		}
	})
	c := frontTLS(b, o.addr).dialHTTP2()
	c.conn.SetDeadline(time.Time{})
	c.ReadMetaHeaders = nil
	block := c.block(append(pseudo("GET", "/path?query=1"), "user-agent", "bench/1.0", "accept", "*/*", "accept-encoding", "gzip, deflate")...)
	block2 := c.block(append(pseudo("GET", "/path?query=1"), "user-agent", "bench/1.0", "accept", "*/*", "accept-encoding", "gzip, deflate")...)
	id := uint32(1)
	open := func() {
		c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true})
		block, id = block2, id+2
	}
	for range 16 {
		open()
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		f, err := c.ReadFrame()
		if err != nil {
			b.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.WriteSettingsAck()
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				c.WriteWindowUpdate(0, uint32(len(benchResponse)))
				n++
				open()
			}
		}
	}
}
