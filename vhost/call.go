package vhost

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// call is one request to a service that speaks HTTP/2. To its exchange it is a
// connection that carries this request only: what is written is the request's
// body, what is read the response's. Close may come from any goroutine, the rest
// is the exchange's and its upload's.
type call struct {
	conn   *http.ClientConn // on which a request is reserved, until start
	ctx    context.Context
	cancel context.CancelFunc
	req    *http.Request
	body   *callBody // nil: none

	mu     sync.Mutex // guards the setting of body against Close
	closed bool

	interim chan []byte     // heads of 1xx responses, as text
	result  chan callResult // of roundTrip
	done    bool            // result has been received
	res     *http.Response
}

type callResult struct {
	res *http.Response
	err error
}

func newCall(conn *http.ClientConn) *call {
	c := &call{conn: conn, interim: make(chan []byte, mostInterim+1), result: make(chan callResult, 1)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// start sends the request: head is what the rules have made of q. It fails if
// there is no way to the service any more.
func (c *call) start(q *request, head []byte) error {
	trace := &httptrace.ClientTrace{Got1xxResponse: c.gotInterim}
	c.req = (&http.Request{
		Method: q.method, URL: targetURL(q), Host: string(q.hostValue), Header: make(http.Header),
	}).WithContext(httptrace.WithClientTrace(c.ctx, trace))
	c.fields(head)
	if q.hasBody() {
		c.openBody()
		c.req.Body, c.req.ContentLength = c.body, q.length // -1: unknown
	}
	conn := c.conn
	c.conn = nil
	go c.roundTrip(conn)
	return nil
}

func (c *call) openBody() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.body = newCallBody(); c.closed {
		c.body.Close()
	}
}

// targetURL makes the library send the target as it is: it cuts off the scheme
// and the host.
func targetURL(q *request) *url.URL {
	u := &url.URL{Scheme: "http", Host: string(q.hostValue), Opaque: string(q.target)}
	if u.Opaque != "*" {
		u.Opaque = "//" + u.Host + u.Opaque
	}
	return u
}

// fields takes over the head's fields, but for those of HTTP/1.1's framing. The
// library must add none of its own.
func (c *call) fields(head []byte) {
	h := c.req.Header
	h["User-Agent"] = nil
	for name, value := range fieldsOf(string(head)) {
		switch name = http.CanonicalHeaderKey(name); name {
		case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade":
		case "Trailer":
			c.announce(value)
		default:
			h[name] = append(h[name], value)
		}
	}
}

// announce names the trailer fields, whose values come after the body.
func (c *call) announce(names string) {
	if c.req.Trailer == nil {
		c.req.Trailer = make(http.Header)
	}
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		if kindOf([]byte(name)) == kindPlain && name != "Trailer" {
			c.req.Trailer[http.CanonicalHeaderKey(name)] = nil
		}
	}
}

// roundTrip runs beside the exchange, which always receives its result.
func (c *call) roundTrip(conn *http.ClientConn) {
	res, err := conn.RoundTrip(c.req)
	c.result <- callResult{res, err}
}

// gotInterim runs on the connection's goroutine, which must not wait.
func (c *call) gotInterim(code int, h textproto.MIMEHeader) error {
	head, err := appendResponseText(nil, code, http.Header(h), nil, "")
	if err != nil {
		return err
	}
	select {
	case c.interim <- head:
		return nil
	default:
		return faultInterim
	}
}

// readCall reads the head of the next response, interim or final.
func (x *exchange) readCall() error {
	head, err := x.up.call.head(x.req.method == "HEAD")
	if err != nil {
		return fmt.Errorf("response: %w", err)
	}
	x.begun = true
	if len(head) > longestResponseHead {
		return faultLongHead
	}
	return x.resp.parse(head, x.req.method == "HEAD")
}

// startCall sets back to read the response's body. One that is empty is read to
// its end, with its trailer fields, so that it goes out as it came: gRPC takes
// it for another thing whether a stream ends with its head or after it.
func (x *exchange) startCall() error {
	if !x.resp.bodied {
		return nil
	}
	x.back.resetFramed(x.up.call)
	if x.resp.length != 0 {
		return nil
	}
	if err := x.up.in.fill(); err != io.EOF {
		return early(err)
	}
	return x.back.sourceEnded()
}

// head waits for a response's head. Those of interim ones precede the result.
func (c *call) head(forHead bool) ([]byte, error) {
	for {
		select {
		case head := <-c.interim:
			return head, nil
		default:
		}
		if c.done {
			return c.final(forHead)
		}
		select {
		case head := <-c.interim:
			return head, nil
		case r := <-c.result:
			if c.res, c.done = r.res, true; r.err != nil {
				return nil, r.err
			}
		}
	}
}

// final is the final response's head. One that ends with its head (its length
// is known to be 0 then) has no content, which HTTP/1.1 says by a length.
func (c *call) final(forHead bool) ([]byte, error) {
	framing := ""
	if c.res.ContentLength == 0 && c.res.Header["Content-Length"] == nil && !forHead && (&response{status: c.res.StatusCode}).framed() {
		framing = "Content-Length: 0\r\n"
	}
	return appendResponseText(nil, c.res.StatusCode, c.res.Header, c.res.Trailer, framing)
}

// appendTrailer adds the response's trailer fields.
func (c *call) appendTrailer(dst []byte) ([]byte, error) {
	return appendTrailerText(dst, c.res.Trailer)
}

// sent says that the body has been written to its end.
func (c *call) sent(b *body) {
	for f := range b.relayedTrailers(false) {
		name := http.CanonicalHeaderKey(string(f.name))
		if _, ok := c.req.Trailer[name]; ok {
			c.req.Trailer[name] = append(c.req.Trailer[name], string(f.value))
		}
	}
	c.body.whole.Store(true)
	c.body.in.Close()
}

// end releases everything; Close has been called.
func (c *call) end() {
	if c.conn != nil {
		c.conn.Release()
		c.conn = nil
	}
	if c.res != nil {
		c.res.Body.Close() // gives the connection back its flow control
	}
}

// Close ends the call: the stream is reset, unless both sides are through. The
// library does not look at the context while it waits for more of the body.
func (c *call) Close() error {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.body != nil {
		c.body.Close()
	}
	return nil
}

func (c *call) Read(p []byte) (int, error)      { return c.res.Body.Read(p) }
func (c *call) Write(p []byte) (int, error)     { return c.body.in.Write(p) }
func (c *call) LocalAddr() net.Addr             { return nil }
func (c *call) RemoteAddr() net.Addr            { return nil }
func (c *call) SetDeadline(time.Time) error     { return os.ErrNoDeadline }
func (c *call) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }
func (c *call) SetWriteDeadline(t time.Time) error {
	return c.body.in.SetWriteDeadline(t)
}

// callBody is a request's body, on its way from the upload to the library: a
// pipe whose end is an error until the upload says that it was whole.
type callBody struct {
	in, out net.Conn
	whole   atomic.Bool
}

func newCallBody() *callBody {
	b := &callBody{}
	b.in, b.out = net.Pipe()
	return b
}

func (b *callBody) Read(p []byte) (int, error) {
	n, err := b.out.Read(p)
	if err != nil && b.whole.Load() {
		return n, io.EOF
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close is the library's way to say that it wants no more: writing fails then.
func (b *callBody) Close() error { return b.out.Close() }
