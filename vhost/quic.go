package vhost

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// quicConfig bounds a QUIC connection. 0-RTT is off: what comes in it may be
// replayed by anybody (RFC 9001 9.2).
func quicConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout: handshakeLimit, MaxIdleTimeout: deadVisitor + awaitedVisitor, KeepAlivePeriod: awaitedVisitor,
		MaxIncomingStreams: mostStreams, MaxIncomingUniStreams: 8,
		MaxStreamReceiveWindow: streamWindow, MaxConnectionReceiveWindow: connWindow,
	}
}

// ServeQUIC serves HTTP/3 (RFC 9114) to the visitors that come over pc, until
// Shutdown; then it returns http.ErrServerClosed, once the last of them has
// gone. It closes pc. cfg needs certificates only: TLS 1.3 and "h3" are set.
func (r *Router) ServeQUIC(pc net.PacketConn, cfg *tls.Config) error {
	defer pc.Close()
	transport := &quic.Transport{Conn: pc}
	defer transport.Close()
	ln, err := transport.Listen(http3.ConfigureTLSConfig(cfg), quicConfig())
	if err != nil {
		return err
	}
	defer ln.Close()
	if !r.track(ln) {
		return http.ErrServerClosed
	}
	defer r.untrack(ln)
	return r.acceptQUIC(ln)
}

// acceptQUIC waits for its visitors before it returns, as they share one
// socket.
func (r *Router) acceptQUIC(ln *quic.Listener) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		conn, err := ln.Accept(context.Background())
		switch {
		case err == nil:
			wait.Go(func() { r.runQUIC(conn) })
		case r.closing.Load(), errors.Is(err, quic.ErrServerClosed):
			return http.ErrServerClosed
		default:
			return err
		}
	}
}

// quicVisitor is one QUIC connection.
type quicVisitor struct {
	*peer
	conn   *quic.Conn
	server http3.Server // of this connection only
	once   sync.Once
	going  sync.WaitGroup // the goroutine that says GOAWAY
	ctx    context.Context
	cancel context.CancelFunc
}

// runQUIC serves one connection until it ends, with all of its streams.
func (r *Router) runQUIC(conn *quic.Conn) {
	v := &quicVisitor{peer: newPeer(r, conn.RemoteAddr(), true), conn: conn}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	v.server = http3.Server{Handler: v.peer, MaxHeaderBytes: longestList, IdleTimeout: idleLimit}
	defer v.cancel()
	if !r.welcome(v) {
		conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "")
		return
	}
	defer r.leave(v)
	defer v.finish()
	v.server.ServeQUICConn(conn)
}

// finish ends what the connection has left. A panic costs that visitor only.
func (v *quicVisitor) finish() {
	if p := recover(); p != nil {
		v.r.logger().Error("panic in a visitor's connection", "panic", p, "stack", string(debug.Stack()))
	}
	v.kill()
	v.cancel()
	v.once.Do(func() {}) // no goAway from here on
	v.going.Wait()
}

// drain says GOAWAY (RFC 9114 5.2), and closes a connection that has been idle
// for long enough.
func (v *quicVisitor) drain() (busy bool) {
	v.once.Do(func() { v.going.Go(v.goAway) })
	if v.overdue(parting) {
		v.kill()
	}
	return true
}

// goAway returns when the connection has ended.
func (v *quicVisitor) goAway() { v.server.Shutdown(v.ctx) }

// kill closes the connection. Streams that are not at their end are cut.
func (v *quicVisitor) kill() {
	v.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
}
