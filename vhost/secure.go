package vhost

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// handshakeLimit bounds a visitor's TLS handshake.
const handshakeLimit = 10 * time.Second

// The limits of an HTTP/2 or HTTP/3 connection. What a visitor may send before
// a service takes it is bounded by the windows.
const (
	mostStreams    = 100
	streamWindow   = 512 << 10
	connWindow     = 1 << 20
	longestFrame   = 16 << 10
	deadVisitor    = 30 * time.Second // of silence, and then it is asked
	awaitedVisitor = 15 * time.Second // its answer

	// longestList is how much of a head the libraries read. It is more than
	// longestHead, which is what counts, so that it is we who answer, 414 or 431,
	// on that stream: HTTP/2's library ends the connection for one string that
	// is longer (RFC 7541 7.4).
	longestList = 72 << 10

	// parting is how long a visitor that is to leave has after its last stream,
	// to take what is on its way. net/http takes as long by itself.
	parting = time.Second
)

// TLSConfig returns a copy of cfg whose NextProtos offers HTTP/2 and HTTP/1.1
// after what is there already. It is for those who open TLS themselves and then
// call [Router.ServeConn].
func TLSConfig(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.NextProtos = slices.Clone(cfg.NextProtos)
	for _, proto := range []string{"h2", "http/1.1"} {
		if !slices.Contains(cfg.NextProtos, proto) {
			cfg.NextProtos = append(cfg.NextProtos, proto)
		}
	}
	return cfg
}

// ServeTLS is Serve for a listener whose visitors speak TLS: HTTP/2 if they
// know it, else HTTP/1.1. cfg is used as [TLSConfig] makes it; what its
// GetConfigForClient returns is used as it is.
func (r *Router) ServeTLS(ln net.Listener, cfg *tls.Config) error {
	return r.Serve(tls.NewListener(ln, TLSConfig(cfg)))
}

// handshake returns the protocol that was negotiated (RFC 7301): "" if none
// was, "none" if the handshake failed.
func (v *visitor) handshake(t *tls.Conn) string {
	t.SetDeadline(time.Now().Add(handshakeLimit))
	if t.Handshake() != nil {
		return "none"
	}
	t.SetDeadline(time.Time{})
	return t.ConnectionState().NegotiatedProtocol
}

// serveHTTP2 hands the connection to net/http's server until it has ended, with
// all of its streams.
func (v *visitor) serveHTTP2(t *tls.Conn) {
	p := newPeer(v.r, v.request.Visitor, true)
	p.altSvc = v.altSvc
	v.peer.Store(p)
	if !v.state.CompareAndSwap(visitorIdle, visitorFramed) {
		return
	}
	if h := v.r.startHTTP2(); h != nil {
		h.serve(t, p)
		p.await()
	}
}

// http2Server is net/http's, serving connections that have been accepted
// elsewhere.
type http2Server struct {
	server http.Server
	feed   chan net.Conn
	stop   chan struct{} // closed when the server stops accepting
	once   sync.Once
	ended  chan struct{} // closed when Serve has returned

	mu    sync.Mutex
	peers map[net.Conn]*http2Peer
}

// http2Peer is a peer under way. over is closed at the end of its connection.
type http2Peer struct {
	*peer
	over chan struct{}
}

// startHTTP2 returns the server; nil if the Router has closed before there was
// one.
func (r *Router) startHTTP2() *http2Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.http2 == nil && !r.closing.Load() {
		r.http2 = newHTTP2Server(r)
		go r.http2.run()
	}
	return r.http2
}

func newHTTP2Server(r *Router) *http2Server {
	h := &http2Server{
		feed: make(chan net.Conn), stop: make(chan struct{}), ended: make(chan struct{}),
		peers: make(map[net.Conn]*http2Peer),
	}
	var only http.Protocols
	only.SetHTTP2(true)
	h.server = http.Server{
		Handler: r, Protocols: &only, ConnContext: h.connContext, ConnState: h.connState,
		MaxHeaderBytes: longestList, IdleTimeout: idleLimit, DisableGeneralOptionsHandler: true,
		ErrorLog: slog.NewLogLogger(r.logger().Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: mostStreams, MaxReadFrameSize: longestFrame,
			MaxReceiveBufferPerStream: streamWindow, MaxReceiveBufferPerConnection: connWindow,
			SendPingTimeout: deadVisitor, PingTimeout: awaitedVisitor, WriteByteTimeout: defaultTimeout,
		},
	}
	return h
}

// run is the server's accept loop.
func (h *http2Server) run() {
	defer close(h.ended)
	h.server.Serve(h)
}

// serve returns when the connection has ended.
func (h *http2Server) serve(c net.Conn, p *peer) {
	hp := &http2Peer{p, make(chan struct{})}
	h.mu.Lock()
	h.peers[c] = hp
	h.mu.Unlock()
	select {
	case h.feed <- c:
		<-hp.over
	case <-h.stop:
		h.connState(c, http.StateClosed)
	}
}

// connContext gives the streams of a connection their peer.
func (h *http2Server) connContext(ctx context.Context, c net.Conn) context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	return withPeer(ctx, h.peers[c].peer)
}

// connState is told of the end of a connection, once.
func (h *http2Server) connState(c net.Conn, state http.ConnState) {
	if state != http.StateClosed {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.peers[c].over)
	delete(h.peers, c)
}

// Accept makes the feed a listener.
func (h *http2Server) Accept() (net.Conn, error) {
	select {
	case c := <-h.feed:
		return c, nil
	case <-h.stop:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *http2Server) Close() error {
	h.once.Do(func() { close(h.stop) })
	return nil
}

// Addr is asked for by nobody who needs it.
func (h *http2Server) Addr() net.Addr { return &net.TCPAddr{} }

// stopHTTP2 sends every HTTP/2 visitor a GOAWAY, upon which connections end
// with their last stream. The returned function waits for the end.
func (r *Router) stopHTTP2() (wait func()) {
	r.mu.Lock()
	h := r.http2
	r.mu.Unlock()
	if h == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	down := make(chan struct{})
	go h.shutDown(ctx, down)
	return func() {
		cancel() // the visitors have gone, one way or another
		<-down
		<-h.ended
	}
}

// shutDown closes down when the server has shut down, or ctx has ended.
func (h *http2Server) shutDown(ctx context.Context, down chan<- struct{}) {
	defer close(down)
	if errors.Is(h.server.Shutdown(ctx), context.Canceled) {
		h.server.Close()
	}
}
