package vhost

import "net/netip"

// holders are the visitors who have connections of one Backend in use, and how
// many, by their source. Slow bodies and WebSockets cost a visitor nothing, so
// that one of them could have all of the connections; they get no more than half.
type holders map[netip.Prefix]int

// holdShares: one source has no more than one part of so many.
const holdShares = 2

// add counts one more of most, unless its holder has a share already. What has
// no address is not counted: it is nobody from outside.
func (h *holders) add(holder netip.Prefix, most int) bool {
	if !holder.IsValid() {
		return true
	}
	if (*h)[holder] >= share(most, holdShares) {
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
