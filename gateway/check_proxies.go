package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
)

// proxies looks for a trust that nobody can have meant.
func (c *check) proxies() {
	c.everybody("proxy-protocol-from", c.cfg.ProxyProtocolFrom, "Clients reach nothing then but through the proxy, and whoever reaches a port may give any address")
	c.everybody("trusted-proxies", c.cfg.TrustedProxies, "Any visitor may then give any address")
}

func (c *check) everybody(flag string, list []netip.Prefix, so string) {
	for _, p := range list {
		if p.Bits() == 0 {
			c.warn(flag, fmt.Sprintf("%s is everybody. %s: list the proxies' own addresses", p, so))
		}
	}
}

// dial connects to a port that a gateway may have. Where this machine counts
// for a proxy, the connection begins as one of a proxy's own does.
func (c *check) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	from := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
	if networks(c.cfg.ProxyProtocolFrom).contain(from) {
		if _, err := io.WriteString(conn, "PROXY UNKNOWN\r\n"); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// transport asks once, and keeps no connection. The admin listener has no
// proxies in front.
func (c *check) transport(path string) http.RoundTripper {
	t := &http.Transport{DisableKeepAlives: true}
	if path != "/healthz" {
		t.DialContext = c.dial
	}
	return t
}
