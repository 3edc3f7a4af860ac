package vhost

import (
	"net"
	"net/netip"
)

// holders are how much visitors have of something, by their source: of a Backend's
// connections in use, and of QUIC connections. Slow bodies and WebSockets cost a
// visitor nothing, so that one of them could have all of a Backend's; they get no
// more than half.
type holders map[netip.Prefix]int

// holderOf is whom a visitor is counted for. From 127.0.0.1 and ::1 come those of
// a proxy on this machine that is not known for one, all of them: they are not
// counted, nor is what has no address.
func holderOf(visitor net.Addr) netip.Prefix {
	switch ip, _ := ipOf(visitor); ip {
	case netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback():
		return netip.Prefix{}
	}
	return sourceOf(visitor)
}

// holdShares: one source has no more than one part of so many.
const holdShares = 2

// add counts one more of most, unless its holder has a share already.
func (h *holders) add(holder netip.Prefix, most int) bool {
	return h.addWithin(holder, share(most, holdShares))
}

// addWithin counts one more, unless its holder has as many as limit already.
func (h *holders) addWithin(holder netip.Prefix, limit int) bool {
	if !holder.IsValid() {
		return true
	}
	if (*h)[holder] >= limit {
		return false
	}
	if *h == nil {
		*h = make(holders)
	}
	(*h)[holder]++
	return true
}

// remove counts one less.
func (h holders) remove(holder netip.Prefix) {
	if !holder.IsValid() {
		return
	}
	if h[holder]--; h[holder] == 0 {
		delete(h, holder)
	}
}
