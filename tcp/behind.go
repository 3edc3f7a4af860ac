package tcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
)

// Behind returns a listener of ln's connections, where those whose peer is a
// proxy begin with a PROXY protocol header and come out as ReadProxy gives them.
// A header is awaited off the accept loop. A connection of a proxy that has
// none is closed, after which refused is told why; a header from anybody else
// is left in the stream.
//
// The listener returned takes ln's place. Accept's net.ErrClosed comes when its
// last goroutine has ended.
func Behind(ln net.Listener, proxy func(netip.Addr) bool, refused func(peer net.Addr, err error)) net.Listener {
	b := &behind{Listener: ln, proxy: proxy, refused: refused, ready: make(chan accepted), ended: make(chan struct{})}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// behind is a listener with some proxies in front.
type behind struct {
	net.Listener
	proxy   func(netip.Addr) bool
	refused func(net.Addr, error)

	start  sync.Once
	ctx    context.Context // ends when no connection is wanted any more
	cancel context.CancelFunc
	ready  chan accepted
	wait   sync.WaitGroup // of those whose header is awaited
	ended  chan struct{}  // closed when all have ended
}

// accepted is what Accept returns.
type accepted struct {
	conn net.Conn
	err  error
}

func (b *behind) Accept() (net.Conn, error) {
	b.start.Do(func() { go b.accept() })
	select {
	case a := <-b.ready:
		return a.conn, a.err
	case <-b.ended:
		return nil, net.ErrClosed
	}
}

// accept ends when the listener is closed, here or below.
func (b *behind) accept() {
	defer close(b.ended)
	defer b.wait.Wait()
	defer b.cancel()
	for {
		c, err := b.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err == nil && b.proxy(hostOf(c.RemoteAddr())):
			b.wait.Go(func() { b.take(c) })
		default:
			b.hand(c, err) // an error waits until it is seen, and nothing is accepted meanwhile
		}
	}
}

// take waits for the header of a proxy's connection.
func (b *behind) take(c net.Conn) {
	wanted := context.AfterFunc(b.ctx, func() { c.Close() })
	visitor, err := ReadProxy(c)
	switch {
	case !wanted():
		c.Close()
	case err != nil:
		c.Close()
		b.refused(c.RemoteAddr(), err)
	default:
		b.hand(visitor, nil)
	}
}

// hand gives a connection or an error to Accept.
func (b *behind) hand(c net.Conn, err error) {
	select {
	case b.ready <- accepted{c, err}:
	case <-b.ctx.Done():
		if c != nil {
			c.Close()
		}
	}
}

// Close returns when the last goroutine has ended.
func (b *behind) Close() error {
	err := b.Listener.Close()
	b.cancel()
	b.start.Do(func() { close(b.ended) })
	<-b.ended
	return err
}

// hostOf is the IP address of a TCP peer, as lists of networks have it.
func hostOf(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return t.AddrPort().Addr().Unmap().WithZone("")
}
