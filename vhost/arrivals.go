package vhost

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"

	"github.com/quic-go/quic-go"
)

// QUIC connections cost no descriptor, which is what bounds those of TCP, and
// anybody can begin one with a packet whose sender's address is forged. So they
// are counted from their first packet on.
const (
	defaultMaxQUIC = 2000
	quicSize       = 80 << 10 // what one takes that is idle, measured
	// mostUnproven handshakes may be under way with addresses that have not
	// shown yet that they are their senders'. From there on each is asked to,
	// for which nothing is kept (RFC 9000 8.1.2).
	mostUnproven = 100
	// quicShares: one source has no more than one part of so many.
	quicShares = 4
)

// errManyQUIC is why a connection is refused. Browsers then come over TCP.
var errManyQUIC = errors.New("too many QUIC connections")

// arrivals are the QUIC connections of a Router, over all of its sockets, from
// their first packet to their end.
type arrivals struct {
	mu       sync.Mutex
	most     int
	all      int
	unproven int     // of all: see mostUnproven
	of       holders // all
}

// arrival is one of them. Its context has it, for arrived.
type arrival struct {
	a        *arrivals
	source   netip.Prefix
	unproven bool // guarded by a.mu
}

// arrivalKey is the context key of a connection's *arrival.
type arrivalKey struct{}

// open sets the bound; 0 is the default, or less where an eighth of the memory
// has no room for that many.
func (a *arrivals) open(most int) {
	if most == 0 {
		most = int(min(defaultMaxQUIC, debug.SetMemoryLimit(-1)/8/quicSize))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.most = most
}

// crowded reports whether the sender of a first packet is to prove its address.
func (a *arrivals) crowded(net.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unproven >= mostUnproven
}

// arrive counts a connection whose first packet has come, until ctx ends, or
// refuses it.
func (a *arrivals) arrive(ctx context.Context, from *quic.ClientInfo) (context.Context, error) {
	v := &arrival{a: a, source: sourceOf(from.RemoteAddr), unproven: !from.AddrVerified}
	if !a.add(v) {
		return nil, errManyQUIC
	}
	context.AfterFunc(ctx, v.left)
	return context.WithValue(ctx, arrivalKey{}, v), nil
}

// add reports whether there is room for one more.
func (a *arrivals) add(v *arrival) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all >= a.most || !a.of.addWithin(v.source, share(a.most, quicShares)) {
		return false
	}
	a.all++
	if v.unproven {
		a.unproven++
	}
	return true
}

// share is one of so many equal parts of n, and at least 1.
func share(n, parts int) int { return (n + parts - 1) / parts }

// arrived notes that the handshake of a connection is over, which only the
// owner of its address can have brought to an end.
func arrived(conn *quic.Conn) {
	if v, ok := conn.Context().Value(arrivalKey{}).(*arrival); ok {
		v.a.mu.Lock()
		defer v.a.mu.Unlock()
		v.prove()
	}
}

// prove takes v out of the unproven ones; a.mu is held.
func (v *arrival) prove() {
	if v.unproven {
		v.unproven = false
		v.a.unproven--
	}
}

// left counts the end of a connection.
func (v *arrival) left() {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	v.prove()
	v.a.all--
	v.a.of.remove(v.source)
}
