package tcp

import "net/netip"

// Source is whom an address is counted for: an IPv6 network of 64 bits is given to
// one customer, who has all of its addresses. It is not valid where ip is not.
func Source(ip netip.Addr) netip.Prefix {
	p, _ := ip.Prefix(min(ip.BitLen(), 64))
	return p
}
