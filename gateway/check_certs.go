package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"adit/acme"
)

// certificates reports how it stands with the certificates, without asking a
// CA for any, and without a record in DNS where a gateway may need it.
func (c *check) certificates(ctx context.Context) {
	if len(c.cfg.https) == 0 {
		c.ok("certificates", "none: HTTPS is off")
		return
	}
	cfg := c.cfg.certConfig(c.dir)
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Running = !c.alone
	cfg.CATime = func(now time.Time) { c.early = time.Until(now) }
	m, err := acme.New(cfg)
	if err != nil {
		c.fail("certificates", err.Error())
		return
	}
	c.challenges()
	for _, l := range m.Report(ctx) {
		switch l.Level {
		case acme.OK:
			c.ok(l.What, l.Text)
		case acme.Warn:
			c.warn(l.What, l.Text)
		default:
			c.fail(l.What, l.Text)
		}
	}
}

// challenges says where a CA comes to see whose a name is: at these two ports,
// whatever the gateway listens on (RFC 8555, section 8.3; RFC 8737, section 3).
func (c *check) challenges() {
	if c.cfg.TLS != acme.ModeACME || c.cfg.ACME.DNS != "" {
		return
	}
	web, secure := publicPort(c.cfg.PublicHTTP, c.cfg.http), publicPort(c.cfg.PublicHTTPS, c.cfg.https)
	var ways []string
	if web == "80" {
		ways = append(ways, "port 80 (HTTP-01)")
	}
	if secure == "443" {
		ways = append(ways, "port 443 (TLS-ALPN-01)")
	}
	if ways == nil {
		c.warn("acme challenges", fmt.Sprintf("the CA comes to port 80 or 443, and here they are %s and %s. Use --http :80 or --https :443, or, where a NAT moves the ports, --public-http 80 or --public-https 443", web, secure))
		return
	}
	c.ok("acme challenges", "the CA comes to "+strings.Join(ways, " or ")+", which must be open to the internet")
}

// publicPort is the port that visitors from outside come to.
func publicPort(public int, addrs []string) string {
	switch {
	case public != 0:
		return strconv.Itoa(public)
	case len(addrs) > 0:
		return strconv.Itoa(portOf(addrs[0]))
	}
	return "off"
}

// udp tries the UDP side of the HTTPS addresses. A running gateway has it, as
// it has the TCP side.
func (c *check) udp() {
	for _, a := range c.cfg.https {
		if c.cfg.HTTP3 == "off" || c.running {
			return
		}
		name := fmt.Sprintf("UDP port %d (HTTP/3)", portOf(a))
		pc, err := net.ListenPacket("udp", a)
		switch {
		case err == nil:
			pc.Close()
			c.ok(name, "free at "+a)
		case isNoAddress(err):
			c.warn(name, "this machine has no address for "+a+"; it is left out")
		default:
			c.fail(name, quicError(portOf(a), err).Error())
		}
	}
}
