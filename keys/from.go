package keys

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// fromPattern is one element of a from= list: a network, or else a pattern
// for the address as text.
type fromPattern struct {
	negated bool
	network netip.Prefix // valid: pattern is unused
	pattern string       // lower case
}

// fromList is a from= pattern-list. Only addresses are compared: a host name
// never matches, as in an sshd without UseDNS.
type fromList []fromPattern

// parseFrom reads a pattern-list. names are the elements that can match no
// address. An empty element and a network with host bits set make sshd refuse
// the key, and so does here whatever looks like an address but is none.
func parseFrom(s string) (list fromList, names []string, err error) {
	for item := range strings.SplitSeq(s, ",") {
		p, err := parseFromPattern(item)
		if err != nil {
			return nil, nil, err
		}
		if p.isName() {
			names = append(names, p.pattern)
		}
		list = append(list, p)
	}
	return list, names, nil
}

func parseFromPattern(item string) (fromPattern, error) {
	rest, negated := strings.CutPrefix(item, "!")
	if rest == "" {
		return fromPattern{}, errors.New("has an empty element")
	}
	p := fromPattern{negated: negated, pattern: strings.ToLower(rest)}
	if n, err := parseNetwork(rest); err == nil {
		p.network = n
		return p, nil
	}
	if strings.Contains(rest, "/") || strings.Trim(rest, "0123456789.") == "" {
		return fromPattern{}, fmt.Errorf("has %s, which is no network", quote(rest))
	}
	return p, nil
}

// parseNetwork reads an address or a network whose host bits are all zero.
func parseNetwork(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, errors.New("no address")
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	n, err := netip.ParsePrefix(s)
	if err == nil && n != n.Masked() {
		err = errors.New("host bits are set")
	}
	return n, err
}

// isName reports that p can match the text of no address.
func (p fromPattern) isName() bool {
	if p.network.IsValid() || strings.Contains(p.pattern, ":") {
		return false
	}
	return !strings.ContainsAny(p.pattern, "*?") || strings.Trim(p.pattern, "0123456789abcdef.*?") != ""
}

func (p fromPattern) matches(a netip.Addr) bool {
	if p.network.IsValid() {
		return p.network.Contains(a)
	}
	return glob(p.pattern, a.String())
}

// allows reports whether some element matches a and no negated one does. A
// list of negations alone allows nobody, and no list an unknown address.
func (l fromList) allows(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	found := false
	for _, p := range l {
		if !p.matches(a) {
			continue
		}
		if p.negated {
			return false
		}
		found = true
	}
	return found
}

// parseSourceAddress reads a certificate's source-address option, a list of
// addresses and networks without negation or wildcards.
func parseSourceAddress(s string) (fromList, error) {
	var list fromList
	for item := range strings.SplitSeq(s, ",") {
		n, err := parseNetwork(item)
		if err != nil {
			return nil, err
		}
		list = append(list, fromPattern{network: n})
	}
	return list, nil
}

// address is the IP address of a peer, an IPv4 address in its own form. The
// zero Addr, which no network holds, stands for anything else.
func address(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case nil:
		return netip.Addr{}
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
