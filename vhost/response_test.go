package vhost

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"time"
)

// evil are responses that no visitor may see. Each is a 502, with the name of
// the fault in the exchange.
var evil = map[string]struct {
	raw string
	err error
}{
	"two lengths":        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", faultLength},
	"the same twice":     {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", faultLength},
	"CL and TE":          {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", faultBoth},
	"TE gzip":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", faultTransfer},
	"TE in 1.0":          {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", faultTransfer},
	"status 99":          {"HTTP/1.1 99 OK\r\n\r\n", faultStatusLine},
	"status 099":         {"HTTP/1.1 099 OK\r\n\r\n", faultStatusLine},
	"status 1000":        {"HTTP/1.1 1000 OK\r\n\r\n", faultStatusLine},
	"status +20":         {"HTTP/1.1 +20 OK\r\n\r\n", faultStatusLine},
	"version 2":          {"HTTP/2.0 200 OK\r\n\r\n", faultStatusLine},
	"ESC in the reason":  {"HTTP/1.1 200 \x1b[2J\r\n\r\n", faultStatusLine},
	"ESC in a value":     {"HTTP/1.1 200 OK\r\nX: \x1b[2J\r\nContent-Length: 0\r\n\r\n", faultValue},
	"CR in a value":      {"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", faultValue},
	"LF in a value":      {"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", faultBareLF},
	"NUL in a value":     {"HTTP/1.1 200 OK\r\nX: a\x00\r\nContent-Length: 0\r\n\r\n", faultValue},
	"folded":             {"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", faultFold},
	"space before colon": {"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", faultField},
	"HTTP/0.9":           {"<html>hello</html>\n", faultBareLF},
	"nothing":            {"", io.EOF},
	"half a head":        {"HTTP/1.1 200 OK\r\nContent-Le", faultEarly},
	"SSH":                {"SSH-2.0-OpenSSH_9.2\r\n", faultEarly},
	"unasked 101":        {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", faultSwitch},
	"101 to nothing":     {"HTTP/1.1 101 Switching Protocols\r\nUpgrade:\r\nConnection: Upgrade\r\n\r\n", faultSwitch},
	"flood of 1xx":       {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50), faultInterim},
	"flood of 100":       {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 50), faultInterim},
	"huge head":          {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 200<<10) + "\r\n\r\n", faultLongHead},
	"many options":       {"HTTP/1.1 200 OK\r\nConnection: " + strings.Repeat("a,", 100) + "\r\nContent-Length: 0\r\n\r\n", faultOptions},
	"many fields":        {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: a\r\n", mostResponseFields+1) + "\r\n", faultLongHead},
	"bad chunk":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", faultChunk},
	"short body":         {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", io.ErrUnexpectedEOF},
	"short empty body":   {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", io.ErrUnexpectedEOF},
}

func TestEvilResponses(t *testing.T) {
	for name, test := range evil {
		t.Run(name, func(t *testing.T) {
			seen := make(chan Exchange, 1)
			o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
				readHead(r)
				io.WriteString(c, test.raw)
			})
			g := front(t, o.addr, func(o *BackendOptions) { o.Observe = func(x *Exchange) { seen <- *x } })
			c := g.dial()
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			resp, err := finalResponse(c.r)
			if err != nil || resp.StatusCode != 502 {
				t.Fatalf("got %v, %v", resp, err)
			}
			if x := <-seen; x.Status != 502 || !errors.Is(x.Err, test.err) {
				t.Errorf("observed %d, %v; want %v", x.Status, x.Err, test.err)
			}
			if n := o.accepted(); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// finalResponse passes over interim responses.
func finalResponse(r *bufio.Reader) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode >= 200 {
			return resp, err
		}
	}
}

// TestBreaks is a service that dies inside a body too long to hold: the
// visitor must not be able to take what came for all there was.
func TestBreaks(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for name, raw := range map[string]string{
		"length":       "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + long,
		"chunked":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(long), long),
		"inside chunk": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n" + long,
		"bad chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(long), long) + "nonsense",
		"bad trailer":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(long), long) + "0\r\nX : y\r\n\r\n",
	} {
		o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) { readHead(r); io.WriteString(c, raw) })
		g := front(t, o.addr)
		c := g.dial()
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			continue // the reset overtook the head
		}
		if body, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: %d bytes looked whole", name, len(body))
		}
	}
}

// TestBreaksForOld: a visitor of HTTP/1.0 knows the end by the connection's, which
// must therefore be no orderly one.
func TestBreaksForOld(t *testing.T) {
	raw := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
	g := front(t, rawOrigin(t, func(c net.Conn, r *bufio.Reader) { readHead(r); io.WriteString(c, raw) }).addr)
	c := g.dial()
	c.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
	if got, err := io.ReadAll(c.r); err == nil {
		t.Errorf("%q looked whole", got)
	}
}

// orderly is a connection that ends, when it is closed here, as one that ended
// there: an SSH channel does.
type orderly struct{ net.Conn }

func (o orderly) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	if errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// TestCutIsNoEnd: a response that ends with its connection is not whole because
// its backend was closed.
func TestCutIsNoEnd(t *testing.T) {
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nhello")
		io.Copy(io.Discard, r)
	})
	for _, version := range []string{"1.0", "1.1"} {
		g := front(t, "", func(b *BackendOptions) {
			b.Dial = func(ctx context.Context, a net.Addr) (net.Conn, error) {
				c, err := dialTo(o.addr)(ctx, a)
				return orderly{c}, err
			}
		})
		c := g.dial()
		c.send("GET / HTTP/%s\r\nHost: a\r\n\r\n", version)
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(resp.Body, make([]byte, 5))
		g.backend.Close(nil)
		if rest, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: it looks whole after %q", version, rest)
		}
	}
}

// TestDeliver is what a good response becomes.
func TestDeliver(t *testing.T) {
	const date = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
	for _, test := range []struct{ name, request, from, want string }{
		{"as it is", "GET / HTTP/1.1", "HTTP/1.1 200 Fine\r\nx-LOWER: a\r\n" + date + "X-B: 1\r\nX-A: 2\r\nX-B: 3\r\nContent-Length: 2\r\n\r\nok",
			"HTTP/1.1 200 Fine\r\nx-LOWER: a\r\n" + date + "X-B: 1\r\nX-A: 2\r\nX-B: 3\r\nContent-Length: 2\r\n\r\nok"},
		{"no reason", "GET / HTTP/1.1", "HTTP/1.1 200\r\n" + date + "Content-Length: 0\r\n\r\n", "HTTP/1.1 200 \r\n" + date + "Content-Length: 0\r\n\r\n"},
		{"odd status", "GET / HTTP/1.1", "HTTP/1.1 999 Odd\r\n" + date + "Content-Length: 0\r\n\r\n", "HTTP/1.1 999 Odd\r\n" + date + "Content-Length: 0\r\n\r\n"},
		{"hop by hop", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\n" + date + "Content-Length: 0\r\n\r\n",
			"HTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\n"},
		{"HEAD", "HEAD / HTTP/1.1", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 1000\r\n\r\n", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 1000\r\n\r\n"},
		{"HEAD, chunked", "HEAD / HTTP/1.1", "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n"},
		{"204, chunked", "GET / HTTP/1.1", "HTTP/1.1 204 No Content\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 204 No Content\r\n" + date + "\r\n"},
		{"304, chunked", "GET / HTTP/1.1", "HTTP/1.1 304 Not Modified\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n" + date + "\r\n"},
		{"204", "GET / HTTP/1.1", "HTTP/1.1 204 No Content\r\n" + date + "Content-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n" + date + "\r\n"},
		{"304", "GET / HTTP/1.1", "HTTP/1.1 304 Not Modified\r\n" + date + "Content-Length: 9\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n" + date + "Content-Length: 9\r\n\r\n"},
		{"chunked", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n",
			"HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{"trailers", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\n" + date + "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 5\r\nSet-Cookie: a\r\n\r\n",
			"HTTP/1.1 200 OK\r\n" + date + "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{"until close", "GET / HTTP/1.1", "HTTP/1.0 200 OK\r\n" + date + "\r\nok", "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{"until close, 1.0", "GET / HTTP/1.0", "HTTP/1.1 200 OK\r\n" + date + "\r\nok", "HTTP/1.1 200 OK\r\n" + date + "Connection: close\r\n\r\nok"},
		{"chunked, 1.0", "GET / HTTP/1.0", "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n", "HTTP/1.1 200 OK\r\n" + date + "Connection: close\r\n\r\nok"},
		{"keep-alive, 1.0", "GET / HTTP/1.0\r\nConnection: keep-alive", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 2\r\n\r\nok",
			"HTTP/1.1 200 OK\r\n" + date + "Content-Length: 2\r\nConnection: keep-alive\r\n\r\nok"},
		{"chunked, keep-alive, 1.0", "GET / HTTP/1.0\r\nConnection: keep-alive", "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
			"HTTP/1.1 200 OK\r\n" + date + "Connection: close\r\n\r\nok"},
		{"103", "GET / HTTP/1.1", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\n",
			"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\n"},
		{"103, 1.0", "GET / HTTP/1.0", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\nConnection: close\r\n\r\n"},
		{"100 unasked", "GET / HTTP/1.1", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\n"},
		{"cookie", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\n" + date + "Set-Cookie: a=b; Domain=gw.example.com\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n" + date + "Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"},
		{"extra bytes", "GET / HTTP/1.1", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\nHTTP/1.1 200 evil\r\n\r\n", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) { readHead(r); io.WriteString(c, test.from) })
			c := front(t, o.addr).dial()
			c.send(test.request + "\r\nHost: a\r\n\r\n")
			got := make([]byte, len(test.want))
			if n, err := io.ReadFull(c.r, got); err != nil || string(got) != test.want {
				t.Fatalf("%v\ngot  %q\nwant %q", err, got[:n], test.want)
			}
			c.Conn.(*net.TCPConn).CloseWrite()
			if rest := c.ended(); len(rest) > 0 {
				t.Errorf("and then %q", rest)
			}
		})
	}
}

// TestHeld: a short body that is slow to come is held back for a moment only.
func TestHeld(t *testing.T) {
	t.Parallel()
	rest := make(chan bool)
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		<-rest
		io.WriteString(c, "world")
		readHead(r)
	})
	c := front(t, o.addr).dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	if _, err := io.ReadFull(resp.Body, got[:5]); err != nil {
		t.Fatal(err)
	}
	rest <- true
	if _, err := io.ReadFull(resp.Body, got[5:]); err != nil || string(got) != "helloworld" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestDate is added where the service sent none (RFC 9110 6.6.1).
func TestDate(t *testing.T) {
	c := front(t, rawOrigin(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).addr).dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, _ := c.response("GET")
	if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
		t.Error(err)
	}
}

// byteConn yields data in the pieces it is asked for, and then its end.
type byteConn struct {
	net.TCPConn
	data []byte
	step int
}

func (c *byteConn) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), max(c.step, 1))], c.data)
	c.data = c.data[n:]
	return n, nil
}

func (c *byteConn) SetReadDeadline(time.Time) error { return nil }

// memory is a sink.
type memory struct{ bytes.Buffer }

func (m *memory) write(p []byte) error { m.Write(p); return nil }

// FuzzResponse reads any bytes as a response, in pieces, and relays it: what is
// taken must be what net/http makes of it too, and what goes to the visitor
// must read the same again.
func FuzzResponse(f *testing.F) {
	for _, e := range evil {
		f.Add([]byte(e.raw), 3)
	}
	f.Add([]byte(benchResponse), 1)
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"), 7)
	f.Add([]byte("HTTP/1.0 200 OK\r\n\r\nuntil the end"), 100)
	f.Fuzz(func(t *testing.T, raw []byte, step int) {
		if len(raw) > 64<<10 {
			return
		}
		out, body, ok := relayBytes(raw, step)
		if !ok {
			return
		}
		want, wantBody, err := readStandard(raw)
		if err != nil {
			t.Fatalf("taken, but net/http says %v", err)
		}
		got, gotBody, err := readStandard(out)
		if err != nil {
			t.Fatalf("net/http: %v: %q", err, out)
		}
		if got.StatusCode != want.StatusCode || gotBody != wantBody || body != wantBody {
			t.Fatalf("%d %q became %d %q", want.StatusCode, wantBody, got.StatusCode, gotBody)
		}
	})
}

// relayBytes is an exchange's second half: parse, deliver, copy.
func relayBytes(raw []byte, step int) (out []byte, body string, ok bool) {
	in := &reader{conn: &byteConn{data: raw, step: step}, max: longestResponseHead}
	defer in.release()
	x := &exchange{up: &upstream{in: *in}, req: request{method: "GET"}}
	if x.readHead() != nil || x.resp.status < 200 {
		return nil, "", false
	}
	d := delivery{keep: true}
	x.resp.start(&x.back)
	chunked := d.chunked(&x.resp)
	to := &memory{}
	p := pump{from: &x.up.in, body: &x.back, to: to, chunked: chunked, out: d.appendResponse(getSmall()[:0], &x.resp)}
	if p.run() != nil {
		return nil, "", false
	}
	_, body, err := readStandard(to.Bytes())
	return to.Bytes(), body, err == nil
}

func readStandard(raw []byte) (*http.Response, string, error) {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// FuzzChunked reads any bytes as a chunked body, in pieces of any size:
// net/http's reader must find the same content in what is taken.
func FuzzChunked(f *testing.F) {
	for _, h := range hostile {
		if body, ok := strings.CutPrefix(h.raw, chunkedPost); ok {
			f.Add([]byte(body), 1)
		}
	}
	f.Add([]byte("5;ext=\"a\"\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n"), 2)
	f.Fuzz(func(t *testing.T, raw []byte, step int) {
		if len(raw) > 64<<10 {
			return
		}
		in := &reader{conn: &byteConn{data: raw, step: step}, max: longestHead}
		defer in.release()
		var b body
		b.requestBody(&head{chunked: true})
		to := &memory{}
		p := pump{from: in, body: &b, to: to, chunked: true, out: getSmall()[:0]}
		if p.run() != nil {
			return
		}
		want, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(raw)))
		if err != nil {
			t.Fatalf("taken, but net/http says %v", err)
		}
		got, err := io.ReadAll(httputil.NewChunkedReader(&to.Buffer))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%v: %q became %q", err, want, got)
		}
	})
}
