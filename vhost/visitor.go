package vhost

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"adit/tcp"
)

// How long a visitor may take. Silence inside a body is not limited: the
// service decides how long it waits for one.
const (
	firstByte  = 30 * time.Second  // before the first request
	headLimit  = 10 * time.Second  // a head, from its first byte
	idleLimit  = 120 * time.Second // between requests
	idleSlack  = 10 * time.Second  // how much later that deadline may be moved
	lingerTime = 2 * time.Second   // see linger
	lingerSize = 16 << 20
)

// longAgo is a deadline that has passed: setting it ends a Read.
var longAgo = time.Unix(1, 0)

// The states of a visitor, for Shutdown.
const (
	visitorIdle     int32 = iota // no complete head has been read
	visitorBusy                  // a request is being answered
	visitorSwitched              // it speaks another protocol
	visitorFramed                // it speaks HTTP/2: it drains by itself
	visitorClosed                // Shutdown has closed it
)

// visitor is one visitor connection, or one stream of an HTTP/2 or HTTP/3
// connection. Its goroutine owns everything but state, and watch, which has its
// own lock.
type visitor struct {
	r      *Router
	conn   net.Conn
	in     reader
	ctx    context.Context // ends when the visitor leaves
	cancel context.CancelFunc
	state  atomic.Int32
	peer   atomic.Pointer[peer] // of its streams, if it speaks HTTP/2
	watch  watch
	prompt prompt

	readBy time.Time // the read deadline that conn has
	stall  tcp.Stall // of conn, or the stream's limit
	fresh  bool      // no head has been read yet

	proxy     *proxy  // that is at the other end; nil: the visitor is
	request   Request // for Resolve
	hostValue string  // the last Host, of which request.Host was made
	client    string  // field lines about this connection
	altSvc    string  // a field line for responses, or nothing
	framed    bool    // it is a stream
	who       any     // tells visitors' connections apart; the streams of one share it
}

func newVisitor(r *Router, c net.Conn) *visitor {
	v := &visitor{r: r, conn: c, in: reader{conn: c, max: longestHead}, stall: tcp.Stall{Limit: defaultTimeout}, fresh: true}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	v.watch.v, v.prompt.v, v.who = v, v, v
	_, secure := c.(*tls.Conn)
	v.request = Request{Visitor: c.RemoteAddr(), TLS: secure || r.Proto == "https"}
	v.client = clientLines(&v.request)
	if v.proxy = r.proxyAt(v.request); secure && v.proxy == nil {
		v.altSvc = r.altSvcLine()
	}
	return v
}

// clientLines are the field lines that say who the visitor is.
func clientLines(q *Request) string {
	proto := "http"
	if q.TLS {
		proto = "https"
	}
	ip := clientIP(q.Visitor)
	return "X-Forwarded-For: " + ip + "\r\nX-Real-IP: " + ip + "\r\nX-Forwarded-Proto: " + proto + "\r\n"
}

// clientIP is the visitor's address in text form, without port or zone. What
// has no IP address is "unknown", as in RFC 7239 6.2.
func clientIP(a net.Addr) string {
	if ip, ok := ipOf(a); ok {
		return ip.String()
	}
	return "unknown"
}

// ipOf is the IP address of a visitor, an IPv4 one as such and without a zone.
func ipOf(a net.Addr) (ip netip.Addr, ok bool) {
	if t, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ip = t.AddrPort().Addr()
	} else if a != nil {
		ap, err := netip.ParseAddrPort(a.String())
		if err != nil {
			return ip, false
		}
		ip = ap.Addr()
	}
	return ip.Unmap().WithZone(""), ip.IsValid()
}

// sourceOf is whom an address is counted for. It is not valid for what has no IP
// address.
func sourceOf(a net.Addr) netip.Prefix {
	ip, _ := ipOf(a)
	return tcp.Source(ip)
}

// serve speaks what the visitor speaks.
func (v *visitor) serve() {
	t, ok := v.conn.(*tls.Conn)
	if !ok {
		v.serveHTTP1()
		return
	}
	switch v.handshake(t) {
	case "h2":
		v.serveHTTP2(t)
	case "", "http/1.1":
		v.serveHTTP1()
	}
}

// serveHTTP1 answers one request after the other.
func (v *visitor) serveHTTP1() {
	for {
		end, err := v.readHead()
		if err != nil {
			v.refuseHead(err)
			return
		}
		if !v.state.CompareAndSwap(visitorIdle, visitorBusy) || !v.exchange(end) {
			return
		}
		v.in.shrink()
		if !v.state.CompareAndSwap(visitorBusy, visitorIdle) || v.r.closing.Load() {
			return
		}
	}
}

// exchange answers the request whose head is the first end bytes of the
// buffer, and reports whether the connection goes on.
func (v *visitor) exchange(end int) bool {
	x := getExchange(v, v)
	defer x.free()
	return x.run(end)
}

// close ends the connection and releases what it held.
func (v *visitor) close() {
	v.watch.end()
	v.cancel()
	v.conn.Close()
	v.in.release()
}

// kill ends the connection from another goroutine, with whatever it waits for.
func (v *visitor) kill() {
	v.watch.leave()
	tcp.Reset(v.conn)
}

// abort ends the connection so that what was sent cannot be taken for all.
func (v *visitor) abort() { tcp.Reset(v.conn) }

// drain closes the connection if it is idle, and reports whether it is to be
// waited for.
func (v *visitor) drain() (busy bool) {
	if v.state.CompareAndSwap(visitorIdle, visitorClosed) {
		hangUp(v.conn)
	}
	s := v.state.Load()
	if s == visitorFramed && v.peer.Load().overdue(2*parting) {
		hangUp(v.conn) // net/http has forgotten it
	}
	return s == visitorBusy || s == visitorFramed
}

// hangUp closes a connection without a last word: that of TLS would wait for a
// visitor that takes nothing.
func hangUp(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	c.Close()
}

// end of a message: HTTP/1.1 has it in the message.
func (v *visitor) end(*body) {}

// readHead waits for a complete head and returns its length. Bytes of the
// head stay in the buffer.
func (v *visitor) readHead() (end int, err error) {
	line := 0
	v.readWithin(v.silenceLimit())
	for begun := false; ; {
		if end, line, err = v.in.head(line); err != nil || end > 0 {
			v.fresh = false
			return end, err
		}
		if line == 0 && len(v.in.buffered()) > longestTarget+longestMethod+16 {
			return 0, faultLongTarget
		}
		if got := v.in.buffered(); !begun && len(got) > 0 {
			if lowerToken[got[0]] == 0 {
				return 0, faultLine // TLS, say, whose client waits for an answer
			}
			v.readWithin(headLimit, 0)
			begun = true
		}
		if err := v.in.fill(); err != nil && !v.heldUp(err) {
			return 0, err
		}
	}
}

// heldUp moves a read deadline that nobody here was awake for, and reports
// whether that is what err says.
func (v *visitor) heldUp(err error) bool {
	late := errors.Is(err, os.ErrDeadlineExceeded) && tcp.HeldUp(v.readBy)
	if late {
		v.readWithin(tcp.Grace, 0)
	}
	return late
}

// silenceLimit is how long the next head may take to begin, and by how much the
// deadline may be off.
func (v *visitor) silenceLimit() (limit, slack time.Duration) {
	if v.fresh {
		return firstByte, 0
	}
	return idleLimit, idleSlack
}

// readWithin sets the read deadline, unless the one that stands is good
// enough: a visitor who asks often costs one setting in ten seconds.
func (v *visitor) readWithin(limit, slack time.Duration) {
	now := time.Now()
	if left := v.readBy.Sub(now); left < limit-slack || left > limit {
		v.readBy = now.Add(limit)
		v.conn.SetReadDeadline(v.readBy)
	}
}

// refuseHead answers a head that never became complete, if the visitor is
// there to see it.
func (v *visitor) refuseHead(err error) {
	f, ok := errors.AsType[*fault](err)
	switch {
	case ok:
	case errors.Is(err, errFull):
		f = faultLongHead
	case errors.Is(err, os.ErrDeadlineExceeded) && len(v.in.buffered()) > 0:
		f = faultSlowHead
	default:
		return
	}
	p := &Page{Status: f.status}
	if v.write(p.appendPage(nil, pageFor{tls: v.request.TLS, altSvc: v.altSvc})) == nil {
		v.linger()
	}
}

// linger ends the connection in the sending direction and reads what the
// visitor is still sending, for a moment: closing with unread bytes would
// reset the connection, and that can destroy the answer before it is read
// (RFC 9112 9.6).
func (v *visitor) linger() {
	c, ok := v.conn.(interface{ CloseWrite() error })
	if !ok || c.CloseWrite() != nil {
		return
	}
	v.conn.SetReadDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, v.conn, lingerSize)
}

// write sends p, as long as the visitor goes on taking it.
func (v *visitor) write(p []byte) error {
	_, err := v.stall.Write(v.conn, p)
	return err
}

// writePackets is write for several pieces.
func (v *visitor) writePackets(packets net.Buffers) error {
	_, err := v.stall.WriteBuffers(v.conn, &packets)
	return err
}

// name sets request.Host from a request's Host. The work is done once for
// requests that follow each other with the same value.
func (v *visitor) name(q *request) error {
	if q.authority != nil && !bytes.EqualFold(q.authority, q.hostValue) {
		return faultAuthority
	}
	if v.hostValue != "" && string(q.hostValue) == v.hostValue {
		return nil
	}
	host, ok := canonicalHost(nil, q.hostValue)
	if !ok {
		return faultHost
	}
	v.hostValue, v.request.Host = string(q.hostValue), string(host)
	return nil
}
