package vhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
)

// What a service may send before a visitor takes it.
const (
	h2cStreamWindow = 1 << 20
	h2cConnWindow   = 4<<20 - 1 // the most that net/http takes
)

// h2c are the HTTP/2 connections of one Backend, which no other shares. There
// is one, and more only while its service allows no further streams on it.
type h2c struct {
	b         *Backend
	transport http.Transport // makes connections, and knows none of them

	mu      sync.Mutex
	conns   []*http.ClientConn
	dialing *dialing // under way; those who need a connection wait for it
}

// dialing is one attempt to connect. err is final when done is closed.
type dialing struct {
	done chan struct{}
	err  error
}

func newH2C(b *Backend) *h2c {
	h := &h2c{b: b}
	var only http.Protocols
	only.SetUnencryptedHTTP2(true)
	h.transport = http.Transport{
		Protocols: &only, DialContext: h.dialContext, DisableCompression: true, IdleConnTimeout: idleTimeout,
		MaxResponseHeaderBytes: longestResponseHead,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream: h2cStreamWindow, MaxReceiveBufferPerConnection: h2cConnWindow,
			WriteByteTimeout: b.o.StallTimeout,
		},
	}
	return h
}

// visitorKey is the context key of the visitor for whom a connection is made.
type visitorKey struct{}

func (h *h2c) dialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	visitor, _ := ctx.Value(visitorKey{}).(net.Addr)
	return h.b.o.Dial(ctx, visitor)
}

// getCall is get for a service that speaks HTTP/2.
func (b *Backend) getCall(ctx context.Context, visitor net.Addr, fresh bool) (*upstream, error) {
	holder := holderOf(visitor)
	if err := b.reserve(holder); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.o.ResponseTimeout)
	defer cancel()
	conn, used, err := b.h2c.get(context.WithValue(ctx, visitorKey{}, visitor), fresh)
	if err != nil {
		b.unreserve(holder)
		return nil, fmt.Errorf("dial: %w", err)
	}
	c := newCall(conn)
	up, err := b.add(&upstream{conn: c, call: c, used: used, holder: holder})
	if err != nil {
		b.h2c.close()
	}
	return up, err
}

// get reserves a stream on a connection, on a new one if fresh is asked for or
// none has room. used says that it is not new.
func (h *h2c) get(ctx context.Context, fresh bool) (conn *http.ClientConn, used bool, err error) {
	for {
		conn, d, mine := h.take(fresh)
		switch {
		case conn != nil:
			return conn, true, nil
		case mine:
			conn, err = h.dial(ctx, d)
			return conn, false, err
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
		if d.err != nil && !errors.Is(d.err, context.Canceled) { // else its visitor has left
			return nil, false, d.err
		}
		fresh = false
	}
}

// take returns a connection with a stream reserved, or the attempt to wait for;
// mine says that the caller is to make it.
func (h *h2c) take(fresh bool) (conn *http.ClientConn, d *dialing, mine bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns = slices.DeleteFunc(h.conns, func(c *http.ClientConn) bool { return c.Err() != nil })
	for _, c := range h.conns {
		if !fresh && c.Reserve() == nil {
			return c, nil, false
		}
	}
	if h.dialing != nil {
		return nil, h.dialing, false
	}
	h.dialing = &dialing{done: make(chan struct{})}
	return nil, h.dialing, true
}

// dial makes a connection, with a stream reserved.
func (h *h2c) dial(ctx context.Context, d *dialing) (*http.ClientConn, error) {
	conn, err := h.transport.NewClientConn(ctx, "http", "service:80")
	if err == nil {
		if err = conn.Reserve(); err != nil {
			conn.Close()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.conns = append(h.conns, conn)
	}
	d.err, h.dialing = err, nil
	close(d.done)
	return conn, err
}

// close ends all connections. The backend is closed: getCall, which may have
// got a new one meanwhile, is told so and calls close again.
func (h *h2c) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.Close()
	}
	h.conns = nil
}
