package vhost

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

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
	r.arrivals.open(r.MaxQUIC)
	transport := &quic.Transport{Conn: pc, VerifySourceAddress: r.arrivals.crowded, ConnContext: r.arrivals.arrive}
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
	conn  *quic.Conn
	going sync.WaitGroup // the goroutines of its streams
}

// runQUIC serves one connection until it ends, with all of its streams.
func (r *Router) runQUIC(conn *quic.Conn) {
	arrived(conn)
	v := &quicVisitor{peer: newPeer(r, conn.RemoteAddr(), true), conn: conn}
	if !r.welcome(v) {
		conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "")
		return
	}
	defer r.leave(v)
	defer v.finish()
	v.serve()
}

// serve takes the streams as they come, until the connection ends or has had no
// request for too long. The server of http3 would do it too, but sets no limit
// to how long a head takes, and its timer keeps a connection in memory for two
// minutes after its end.
func (v *quicVisitor) serve() {
	server := http3.Server{Handler: v, MaxHeaderBytes: longestList}
	h, err := server.NewRawServerConn(v.conn)
	if err != nil {
		return
	}
	v.going.Go(func() { v.acceptUni(h) })
	for left := idleLimit; left > 0; left = idleLimit - v.restsFor() {
		if !v.accept(h, left) {
			return
		}
	}
}

// accept takes requests for a while, and reports whether there may be more.
func (v *quicVisitor) accept(h *http3.RawServerConn, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		str, err := v.conn.AcceptStream(ctx)
		if err != nil {
			return ctx.Err() != nil
		}
		v.going.Go(func() { v.answer(h, str) })
	}
}

// acceptUni takes the streams that go one way: the visitor's settings.
func (v *quicVisitor) acceptUni(h *http3.RawServerConn) {
	for {
		str, err := v.conn.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		v.going.Go(func() { h.HandleUnidirectionalStream(str) })
	}
}

// answer answers the request on a stream. One that comes when the Router closes
// is refused in the way that says that it may go elsewhere (RFC 9114 4.1.1).
func (v *quicVisitor) answer(h *http3.RawServerConn, str *quic.Stream) {
	if v.r.closing.Load() {
		str.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
		str.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
		return
	}
	str.SetReadDeadline(time.Now().Add(headLimit))
	h.HandleRequestStream(str)
}

// ServeHTTP is called when the head is there: its limit is not the body's.
func (v *quicVisitor) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	v.peer.ServeHTTP(w, q)
}

// finish ends what the connection has left. A panic costs that visitor only.
func (v *quicVisitor) finish() {
	if p := recover(); p != nil {
		v.r.logger().Error("panic in a visitor's connection", "panic", p, "stack", string(debug.Stack()))
	}
	v.kill()
	v.going.Wait()
}

// drain closes a connection that has been idle for long enough. It says no
// GOAWAY first (RFC 9114 5.2), for which http3 has a way only in its own loop;
// what a visitor still asks for gets the same answer from [quicVisitor.answer].
func (v *quicVisitor) drain() (busy bool) {
	if v.overdue(parting) {
		v.kill()
	}
	return true
}

// kill closes the connection. Streams that are not at their end are cut.
func (v *quicVisitor) kill() {
	v.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
}
