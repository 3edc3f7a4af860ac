package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"adit/acme"
)

// certificates reports how it stands with the certificates, without asking a
// CA for any.
func (c *check) certificates(ctx context.Context) {
	if len(c.cfg.https) == 0 {
		c.ok("certificates", "none: HTTPS is off")
		return
	}
	cfg := c.cfg.certConfig(c.dir)
	cfg.Logger = slog.New(slog.DiscardHandler)
	m, err := acme.New(cfg)
	if err != nil {
		c.fail("certificates", err.Error())
		return
	}
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
