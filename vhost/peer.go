package vhost

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// peer is what the streams of one HTTP/2 or HTTP/3 connection have in common,
// and counts them.
type peer struct {
	r      *Router
	from   Request // for Resolve: TLS and Visitor
	client string
	altSvc string
	proxy  *proxy // at the other end of the connection

	mu     sync.Mutex
	active int
	quiet  time.Time     // since when none has been active, or later: see overdue
	leaves bool          // the visitor has been told to leave
	empty  chan struct{} // closed at the end of the last one; nil until it is awaited
}

// peerKey is the context key of a stream's *peer.
type peerKey struct{}

// newPeer takes the address of a datagram for that of a connection: those who
// ask for it want to know where a visitor is.
func newPeer(r *Router, visitor net.Addr, secure bool) *peer {
	if u, ok := visitor.(*net.UDPAddr); ok {
		visitor = net.TCPAddrFromAddrPort(u.AddrPort())
	}
	p := &peer{r: r, quiet: time.Now(), from: Request{TLS: secure || r.Proto == "https", Visitor: visitor}}
	p.client, p.proxy = clientLines(&p.from), r.proxyAt(p.from)
	return p
}

// ServeHTTP makes the Router the handler of a server that has parsed HTTP/2 or
// HTTP/3: requests pass the same checks and rules, and use the same upstream
// connections, as those of [Router.Serve]. The body is read and the response
// written as they come; a response that breaks off panics with
// [http.ErrAbortHandler], so that the stream is reset. WebSocket over HTTP/2
// (RFC 8441) is not offered.
//
// [Router.ServeTLS] and [Router.ServeQUIC] use it, and do more: they count
// connections, and end them in Shutdown, which a foreign server must do itself.
func (r *Router) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	p, ok := q.Context().Value(peerKey{}).(*peer)
	if !ok {
		p = newPeer(r, remoteAddr(q), q.TLS != nil)
	}
	p.ServeHTTP(w, q)
}

// remoteAddr is the visitor's address as the server knows it.
func remoteAddr(q *http.Request) net.Addr {
	if a, ok := q.Context().Value(http3.RemoteAddrContextKey).(net.Addr); ok {
		return a
	}
	ap, err := netip.ParseAddrPort(q.RemoteAddr)
	if err != nil {
		return nil
	}
	return net.TCPAddrFromAddrPort(ap)
}

// ServeHTTP answers one request.
func (p *peer) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if !p.enter() {
		panic(http.ErrAbortHandler)
	}
	defer p.leave()
	if !p.serve(w, q) {
		panic(http.ErrAbortHandler)
	}
}

// serve reports whether the response is whole. A panic costs that stream only.
func (p *peer) serve(w http.ResponseWriter, q *http.Request) (whole bool) {
	defer func() {
		if e := recover(); e != nil {
			p.r.logger().Error("panic in a visitor's stream", "panic", e, "stack", string(debug.Stack()))
		}
	}()
	s := newStream(p, w, q)
	whole = s.serve()
	s.free()
	return whole
}

// enter counts a stream, unless its connection is over.
func (p *peer) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.empty != nil {
		return false
	}
	p.active++
	return true
}

func (p *peer) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active--
	p.quiet = time.Now()
	if p.active == 0 && p.empty != nil {
		close(p.empty)
	}
}

// await lets no more streams begin, and returns when the last one has ended;
// their connection is gone already.
func (p *peer) await() {
	p.mu.Lock()
	p.empty = make(chan struct{})
	if p.active == 0 {
		close(p.empty)
	}
	p.mu.Unlock()
	<-p.empty
}

// overdue reports whether a visitor that is to leave has not done so in the
// given time after its last stream. The first call begins the time.
func (p *peer) overdue(limit time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leaves {
		p.leaves, p.quiet = true, time.Now()
	}
	return p.active == 0 && time.Since(p.quiet) >= limit
}

// restsFor is for how long no stream has been active.
func (p *peer) restsFor() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active > 0 {
		return 0
	}
	return time.Since(p.quiet)
}

// withPeer is the context of p's streams.
func withPeer(ctx context.Context, p *peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}
