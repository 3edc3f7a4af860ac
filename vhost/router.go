package vhost

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"adit/tcp"
)

// Request is what a Router asks about: enough to find a backend. It is valid
// during the call only.
type Request struct {
	// Host is the canonical name: lower case, no port, no trailing dot. An
	// IPv6 literal keeps its brackets.
	Host string
	// Method is the request's method, in upper case.
	Method string
	// TLS says that the visitor came by https.
	TLS bool
	// Visitor is the other end of the visitor's connection, of whatever
	// protocol; a *net.TCPAddr if it came over TCP or QUIC. Behind a trusted
	// proxy it is whom the proxy speaks for, with port 0 where it does not say.
	Visitor net.Addr

	target []byte
}

// Path returns the path as it came, not decoded, without the query.
func (r *Request) Path() string {
	path, _, _ := strings.Cut(r.Target(), "?")
	return path
}

// Target returns path and query as they came: printable, without '#', but
// perhaps not ASCII only.
func (r *Request) Target() string { return string(r.target) }

// Router serves HTTP to visitors. Its fields are set before the first use and
// not changed afterwards; the zero value of all but Resolve works.
type Router struct {
	// Resolve finds the backend of a request, or the page that answers it;
	// neither is 404. It may block, while a tunnel is awaited for instance:
	// ctx ends when the visitor leaves. If a backend turns out to be closed
	// before the request was sent to it, Resolve is called again.
	Resolve func(ctx context.Context, r *Request) (*Backend, *Page)
	// CookieDomain is the domain that all names share, without leading dot:
	// no service may set cookies for it or above it. Empty: no such domain.
	CookieDomain string
	// Proto is "http" or "https": what X-Forwarded-Proto says of visitors whose
	// connection is not TLS as far as this process can see. Empty: http.
	Proto string
	// AltSvc is the Alt-Svc value (RFC 7838) that visitors get who come over TLS
	// and TCP, as `h3=":443"; ma=86400`. A service's own is never relayed, as it
	// speaks of another port. Empty: none.
	AltSvc string
	// TrustedProxy says of an address (IPv4 as such, no zone) whether a proxy is
	// there whose X-Forwarded-For, -Proto and -Host are believed: the visitor is
	// then the last address in X-Forwarded-For that is not trusted. nil: nobody's
	// are. It is asked for each connection, and for such addresses.
	TrustedProxy func(netip.Addr) bool
	// MaxVisitors bounds the visitor connections at once; those beyond get
	// 503. 0: no bound but that of the process, which is its descriptors.
	MaxVisitors int
	// MaxQUIC bounds the QUIC connections at once, from their first packet on,
	// as no descriptor does; those beyond are refused, and browsers come over
	// TCP. One address, or IPv6 network of 64 bits, has at most a quarter of
	// them. 0: 2000, or as many as an eighth of the memory has room for.
	MaxQUIC int
	// Logger receives faults of our own. nil: slog.Default().
	Logger *slog.Logger

	closing atomic.Bool
	wait    sync.WaitGroup // one for each visitor

	mu        sync.Mutex
	listeners map[io.Closer]struct{}
	visitors  map[party]struct{}
	http2     *http2Server // made when the first visitor speaks it

	arrivals arrivals // has its own lock
}

// party is a visitor's connection, of whatever protocol, as the Router counts
// it and ends it.
type party interface {
	// drain is called again and again once the Router closes: it ends what is
	// idle, and reports whether there is something to be waited for.
	drain() (busy bool)
	// kill ends the connection now.
	kill()
}

// Serve accepts visitors from ln until Shutdown, and then returns
// http.ErrServerClosed; another end of ln is returned as it is. It closes ln.
// A shortage of descriptors or memory is waited out, and visitors that come
// meanwhile get 503.
func (r *Router) Serve(ln net.Listener) error {
	defer ln.Close()
	if !r.track(ln) {
		return http.ErrServerClosed
	}
	defer r.untrack(ln)
	var short shortage
	short.refill()
	defer short.release()
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			short.pause = 0
			r.admit(c)
		case r.closing.Load():
			return http.ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			short.meet(r, ln, err)
		}
	}
}

// track remembers a listener for Shutdown.
func (r *Router) track(ln io.Closer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listeners == nil {
		r.listeners = make(map[io.Closer]struct{})
	}
	r.listeners[ln] = struct{}{}
	return !r.closing.Load()
}

func (r *Router) untrack(ln io.Closer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.listeners, ln)
}

// admit starts one visitor's goroutine.
func (r *Router) admit(c net.Conn) {
	if v, ok := r.enter(c); ok {
		go r.run(v)
	}
}

// ServeConn serves one visitor connection until it ends, and closes it. A
// *tls.Conn is asked which protocol was negotiated, after the handshake if that
// is still to come: HTTP/1.1 ("http/1.1" or none) and HTTP/2 ("h2") are served,
// any other one ends the connection. See [TLSConfig].
func (r *Router) ServeConn(c net.Conn) {
	if v, ok := r.enter(c); ok {
		r.run(v)
	}
}

// enter takes a connection in, or turns it away.
func (r *Router) enter(c net.Conn) (*visitor, bool) {
	v := newVisitor(r, c)
	if r.welcome(v) {
		return v, true
	}
	turnAway(c)
	return nil, false
}

// welcome counts a visitor, if there is room for one more.
func (r *Router) welcome(p party) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	full := r.MaxVisitors > 0 && len(r.visitors) >= r.MaxVisitors
	if full || r.closing.Load() {
		return false
	}
	if r.visitors == nil {
		r.visitors = make(map[party]struct{})
	}
	r.visitors[p] = struct{}{}
	r.wait.Add(1)
	return true
}

// turnAway answers 503 without reading: the answer fits every socket buffer,
// so nothing waits. To answer over TLS would be to wait for a handshake.
func turnAway(c net.Conn) {
	if _, ok := c.(*tls.Conn); ok {
		tcp.Reset(c)
		return
	}
	c.SetWriteDeadline(time.Now().Add(time.Second))
	c.Write(pageBusy.appendPage(nil, pageFor{}))
	c.Close()
}

// run is one visitor's goroutine. A panic costs that visitor only.
func (r *Router) run(v *visitor) {
	defer r.leave(v)
	defer v.close()
	defer func() {
		if p := recover(); p != nil {
			r.logger().Error("panic in a visitor's connection", "panic", p, "stack", string(debug.Stack()))
			v.kill()
		}
	}()
	v.serve()
}

func (r *Router) leave(p party) {
	r.mu.Lock()
	delete(r.visitors, p)
	r.mu.Unlock()
	r.wait.Done()
}

// Shutdown stops accepting, closes idle connections, lets requests in flight
// finish and then ends switched connections (a WebSocket would keep it
// waiting); at the end of ctx it cuts what is left. HTTP/2 and HTTP/3 visitors
// have a second after their last request; the former are sent a GOAWAY, the
// latter have each further request rejected. It returns when every goroutine
// has ended, nil or ctx's error.
func (r *Router) Shutdown(ctx context.Context) error {
	r.stopAccepting()
	defer r.stopHTTP2()()
	ended := make(chan struct{})
	go r.awaitVisitors(ended)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if r.closeIdle() == 0 {
			r.cut()
		}
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			r.cut()
			<-ended
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// awaitVisitors closes ended when the last visitor has gone.
func (r *Router) awaitVisitors(ended chan struct{}) {
	r.wait.Wait()
	close(ended)
}

// stopAccepting ends every Serve.
func (r *Router) stopAccepting() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closing.Store(true)
	for ln := range r.listeners {
		ln.Close()
	}
}

// closeIdle closes the visitors that wait for no answer, and returns how many
// do, not counting switched connections.
func (r *Router) closeIdle() (busy int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for v := range r.visitors {
		if v.drain() {
			busy++
		}
	}
	return busy
}

// cut ends all visitors at once.
func (r *Router) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for v := range r.visitors {
		v.kill()
	}
}

func (r *Router) logger() *slog.Logger {
	if r.Logger != nil {
		return r.Logger
	}
	return slog.Default()
}

// altSvcLine is the field line for AltSvc, if there is one.
func (r *Router) altSvcLine() string {
	if r.AltSvc == "" {
		return ""
	}
	return "Alt-Svc: " + printable(r.AltSvc) + "\r\n"
}
