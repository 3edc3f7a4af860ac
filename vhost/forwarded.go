package vhost

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
)

// proxy is what is known of a connection whose other end is a proxy that is
// trusted: the visitors are those it speaks for, another one in each request.
type proxy struct {
	trusted func(netip.Addr) bool
	own     Request // as the connection has it; its Visitor is the proxy
}

// proxyAt is the proxy that own's connection comes from, nil if its other end
// is not trusted.
func (r *Router) proxyAt(own Request) *proxy {
	if r.TrustedProxy == nil {
		return nil
	}
	if a, ok := ipOf(own.Visitor); !ok || !r.TrustedProxy(a) {
		return nil
	}
	return &proxy{r.TrustedProxy, own}
}

// believe takes the visitor of a request from what the proxy says.
func (v *visitor) believe(q *request) {
	v.request.Visitor, v.request.TLS = v.proxy.visitor(q), v.proxy.secure(q)
	v.client = clientLines(&v.request)
	if host, ok := q.forwarded("x-forwarded-host"); ok && len(host) > 0 {
		if _, ok := canonicalHost(nil, host); ok {
			q.shown = host
		}
	}
}

// visitor is the address that the nearest proxy that is not trusted, or the
// visitor, came from: each adds to the end of X-Forwarded-For whom it had it
// from, so that only what stands behind the first stranger is not hearsay. Of
// what cannot be read, the one who wrote it is the visitor.
func (p *proxy) visitor(q *request) net.Addr {
	from := p.own.Visitor
	for element := range q.forwardedFor() {
		a, ok := forwardedAddr(element)
		if !ok {
			break
		}
		from = net.TCPAddrFromAddrPort(a)
		if !p.trusted(a.Addr()) {
			break
		}
	}
	return from
}

// secure reports whether the visitor came by https. ws and wss are what some
// proxies say of a WebSocket.
func (p *proxy) secure(q *request) bool {
	switch proto, _ := q.forwarded("x-forwarded-proto"); {
	case equalFold(proto, "https"), equalFold(proto, "wss"):
		return true
	case equalFold(proto, "http"), equalFold(proto, "ws"):
		return false
	}
	return p.own.TLS
}

// forwarded is the first element of a forwarding field: what the proxy next to
// the visitor has said.
func (q *request) forwarded(name string) (first []byte, ok bool) {
	for i := range q.fields {
		if f := &q.fields[i]; f.kind == kindForwarding && equalFold(f.name, name) {
			first, _, _ = bytes.Cut(f.value, comma)
			return trim(first), true
		}
	}
	return nil, false
}

// forwardedFor yields the elements of all X-Forwarded-For, the last one first.
func (q *request) forwardedFor() func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for _, f := range slices.Backward(q.fields) {
			if f.kind != kindForwarding || !equalFold(f.name, "x-forwarded-for") {
				continue
			}
			for rest, more := f.value, true; more; {
				var last []byte
				rest, last, more = cutLast(rest)
				if last = trim(last); len(last) > 0 && !yield(last) {
					return
				}
			}
		}
	}
}

// cutLast splits a list before its last element.
func cutLast(list []byte) (rest, last []byte, more bool) {
	i := bytes.LastIndexByte(list, ',')
	if i < 0 {
		return nil, list, false
	}
	return list[:i], list[i+1:], true
}

// forwardedAddr reads an address, with or without a port and brackets.
func forwardedAddr(element []byte) (a netip.AddrPort, ok bool) {
	text := string(element)
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		var ip netip.Addr
		if n := len(text); n > 2 && text[0] == '[' && text[n-1] == ']' {
			text = text[1 : n-1]
		}
		ip, err = netip.ParseAddr(text)
		a = netip.AddrPortFrom(ip, 0)
	}
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()), err == nil
}
