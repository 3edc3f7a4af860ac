package vhost

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"adit/tcp"
)

// sniffTime is how long a request of HTTP/3 without Content-Length may take to
// show whether it has a body. The end of one that has none comes with its head.
const sniffTime = 50 * time.Millisecond

// keptText bounds what a stream's buffer for its head keeps when it is pooled.
const keptText = 8 << 10

// stream is one request of an HTTP/2 or HTTP/3 connection: the visitor of an
// exchange, and its responder. It is pooled; nothing of it outlives serve. As a
// net.Conn it reads the request's body, and its read deadline ends an upload.
type stream struct {
	visitor
	w    http.ResponseWriter
	q    *http.Request
	ctl  *http.ResponseController
	x    *exchange
	text []byte // the request's head, of which x.req holds slices

	begun   bool // w has the final head
	whole   bool // w has all
	leaving bool // the watch may still hear of the end

	first     chan firstRead // of sniff; nil once it has been received
	remaining []byte         // of what it read
	ended     error          // how it ended

	mu      sync.Mutex // guards the next two: ctl dies with the request
	writing bool
	since   time.Time
	stalled *time.Timer // calls cut
}

var streams = sync.Pool{New: func() any { return new(stream) }}

func newStream(p *peer, w http.ResponseWriter, q *http.Request) *stream {
	s := streams.Get().(*stream)
	s.w, s.q, s.ctl = w, q, http.NewResponseController(w)
	v := &s.visitor
	v.r, v.conn, v.ctx, v.cancel, v.stall, v.framed = p.r, s, q.Context(), endNothing, tcp.Stall{Limit: defaultTimeout}, true
	v.in = reader{conn: s, max: bigBuffer}
	v.watch.v, v.watch.left = v, false
	v.request.TLS, v.request.Visitor = p.from.TLS, p.from.Visitor
	v.client, v.altSvc, v.proxy, v.who = p.client, p.altSvc, p.proxy, p
	return s
}

// endNothing is a stream's cancel: its server ends the context.
func endNothing() {}

// free puts s back, unless somebody may still speak to it. The last host name
// and its canonical form stay: the next request may well have the same.
func (s *stream) free() {
	s.visitor.in.release()
	s.w, s.q, s.ctl, s.x, s.ctx, s.who, s.first, s.remaining, s.ended = nil, nil, nil, nil, nil, nil, nil, nil, nil
	s.begun, s.whole = false, false
	if cap(s.text) > keptText {
		s.text = nil
	}
	if !s.leaving {
		streams.Put(s)
	}
}

// serve answers the request, and reports whether the response is whole.
func (s *stream) serve() bool {
	x := getExchange(&s.visitor, s)
	defer x.free()
	s.x = x
	stop := context.AfterFunc(s.q.Context(), s.watch.leave)
	x.take(s)
	s.endSniff()
	s.leaving = !stop()
	return s.whole
}

// take answers the request of a stream.
func (x *exchange) take(s *stream) {
	err := s.readHead(&x.req)
	if err == nil {
		err = x.v.name(&x.req)
	}
	if err != nil {
		x.refuse(err)
		return
	}
	if x.from.requestBody(&x.req.head); x.req.chunked {
		x.from.resetFramed(s)
	}
	x.handle()
}

// readHead reads the request's head into q. A body of unknown length goes in
// chunks to a service that speaks HTTP/1.1.
func (s *stream) readHead(q *request) (err error) {
	framing, announced := "", s.q.Trailer // which a Read may replace
	if s.q.ContentLength < 0 && s.bodied() {
		framing = chunkedLine
	}
	s.text, err = appendRequestText(s.text[:0], s.q, announced, framing)
	switch {
	case err != nil:
		return err
	case len(s.text) > longestHead:
		return faultLongHead
	}
	if err := q.parse(s.text); err != nil {
		return err
	}
	// A length that the frames do not have would be believed by the service.
	if q.length > 0 && q.length != s.q.ContentLength {
		return faultLength
	}
	return nil
}

// bodied reports whether a body of unknown length follows. HTTP/2 says so with
// the head (RFC 9113 8.1); HTTP/3 does not.
func (s *stream) bodied() bool {
	if s.q.Body == nil || s.q.Body == http.NoBody {
		return false
	}
	return s.q.ProtoMajor != 3 || s.sniff()
}

// firstRead is what the first Read of a body returned.
type firstRead struct {
	buf []byte
	n   int
	err error
}

// sniff reports whether there is a body, or may be one: it looks whether the
// stream has ended, for a short while.
func (s *stream) sniff() bool {
	s.first = make(chan firstRead, 1)
	go s.readFirst(s.q.Body, s.first)
	t := time.NewTimer(sniffTime)
	defer t.Stop()
	select {
	case r := <-s.first:
		s.tookFirst(r)
		return r.n > 0 || r.err != io.EOF
	case <-t.C:
		return true
	}
}

// readFirst reads beside the exchange; endSniff waits for it.
func (s *stream) readFirst(body io.Reader, first chan<- firstRead) {
	buf := make([]byte, smallBuffer)
	n, err := body.Read(buf)
	first <- firstRead{buf, n, err}
}

func (s *stream) tookFirst(r firstRead) {
	s.first, s.remaining, s.ended = nil, r.buf[:r.n], r.err
}

// endSniff ends readFirst if nobody has asked for what it reads.
func (s *stream) endSniff() {
	if s.first != nil {
		s.SetReadDeadline(longAgo)
		s.tookFirst(<-s.first)
	}
}

// Read reads the body.
func (s *stream) Read(p []byte) (int, error) {
	if s.first != nil {
		s.tookFirst(<-s.first)
	}
	switch {
	case len(s.remaining) > 0:
		n := copy(p, s.remaining)
		s.remaining = s.remaining[n:]
		return n, nil
	case s.ended != nil:
		return 0, s.ended
	}
	return s.q.Body.Read(p)
}

// appendTrailer adds the request's trailer fields: those that were announced,
// as far as net/http is concerned.
func (s *stream) appendTrailer(dst []byte) ([]byte, error) {
	return appendTrailerText(dst, s.q.Trailer)
}

// The rest of net.Conn.
func (s *stream) Write(p []byte) (int, error) { return s.w.Write(p) }
func (s *stream) Close() error                { return s.SetDeadline(longAgo) }
func (s *stream) LocalAddr() net.Addr         { return nil }
func (s *stream) RemoteAddr() net.Addr        { return s.request.Visitor }
func (s *stream) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}
func (s *stream) SetReadDeadline(t time.Time) error  { return s.ctl.SetReadDeadline(t) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.ctl.SetWriteDeadline(t) }
