package gateway

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"adit/tcp"
)

// networks are the addresses that an operator trusts with something.
type networks []netip.Prefix

func (n networks) contain(a netip.Addr) bool {
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (n networks) String() string {
	list := make([]string, len(n))
	for i, p := range n {
		list[i] = p.String()
	}
	return strings.Join(list, ", ")
}

// behindProxies puts the proxies of ProxyProtocolFrom in front of a listener.
// Without any it stays as it is.
func (g *Gateway) behindProxies(ln net.Listener) net.Listener {
	if len(g.cfg.ProxyProtocolFrom) == 0 {
		return ln
	}
	return tcp.Behind(ln, networks(g.cfg.ProxyProtocolFrom).contain, g.headerMissing)
}

// allBehindProxies is behindProxies for several listeners.
func (g *Gateway) allBehindProxies(lns []net.Listener) []net.Listener {
	all := make([]net.Listener, len(lns))
	for i, ln := range lns {
		all[i] = g.behindProxies(ln)
	}
	return all
}

// trustedProxy is what vhost asks; nil where there is no such proxy.
func (g *Gateway) trustedProxy() func(netip.Addr) bool {
	if len(g.cfg.TrustedProxies) == 0 {
		return nil
	}
	return networks(g.cfg.TrustedProxies).contain
}

// headerMissing tells the operator of proxies that do not send the header they
// should. A connection that was closed before its first byte is a health check's.
func (g *Gateway) headerMissing(peer net.Addr, err error) {
	if err != io.EOF {
		g.strangers.Warn("proxy: closed; every connection from --proxy-protocol-from must begin with a PROXY header", "remote", peer.String(), "err", err)
	}
}

// proxyRows are the start block's rows about proxies, if there are any.
func (g *Gateway) proxyRows(row func(name, value string)) {
	if n := networks(g.cfg.ProxyProtocolFrom); len(n) > 0 {
		row("proxies", "PROXY protocol wanted from "+n.String())
	}
	if n := networks(g.cfg.TrustedProxies); len(n) > 0 {
		row("proxies", "X-Forwarded-For, -Proto and -Host believed from "+n.String())
	}
}
