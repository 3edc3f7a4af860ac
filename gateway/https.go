package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"syscall"
	"time"

	"adit/tcp"
	"adit/vhost"

	"github.com/prometheus/client_golang/prometheus"
)

// silence is how long a client of the HTTPS port may say nothing until it is
// taken for one of SSH that waits for the server's version first, as RFC 4253,
// section 4.2, lets it.
const silence = 2 * time.Second

// altSvcAge is how long browsers remember that there is HTTP/3, in seconds.
const altSvcAge = 86400

// acmeTLS is the protocol of a CA's TLS-ALPN-01 validation (RFC 8737, section
// 6.1).
const acmeTLS = "acme-tls/1"

// plainAnswer is for who speaks HTTP in clear on the HTTPS port.
const plainAnswer = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n" +
	"Content-Length: 55\r\n\r\nThis port speaks https: write https:// in the address.\n"

// listenQUIC opens the UDP side of the HTTPS port. The addresses are those
// that TCP has got.
func (g *Gateway) listenQUIC() error {
	if g.cfg.HTTP3 == "off" {
		return nil
	}
	var errs []error
	for _, ln := range g.lns.https {
		addr := ln.Addr().(*net.TCPAddr)
		pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: addr.IP, Port: addr.Port, Zone: addr.Zone})
		if err != nil {
			errs = append(errs, quicError(addr.Port, err))
			continue
		}
		g.lns.quic = append(g.lns.quic, pc)
	}
	return errors.Join(errs...)
}

// quicError says which port, and the flags that move and close it.
func quicError(port int, err error) error {
	why := "cannot be opened: " + err.Error()
	if errors.Is(err, syscall.EADDRINUSE) {
		why = "is taken by another program"
	}
	return fmt.Errorf("UDP port %d (HTTP/3) %s. Free it, use another one with --https ADDRESS:PORT, or close it with --http3 off", port, why)
}

// altSvc is what visitors are told of HTTP/3 (RFC 7838).
func (g *Gateway) altSvc() string {
	if len(g.lns.quic) == 0 {
		return ""
	}
	return fmt.Sprintf(`h3=":%d"; ma=%d`, g.ports.https, altSvcAge)
}

// serveHTTPS gives each connection to visitHTTPS, off the accept loop, until
// the listeners are closed; it waits for those it has.
func (g *Gateway) serveHTTPS() { tcp.Serve(g.allBehindProxies(g.lns.https), g.visitHTTPS) }

// visitHTTPS tells by a client's first bytes what it speaks.
func (g *Gateway) visitHTTPS(c net.Conn) {
	defer g.survive(c)
	raw := c
	goesOn := context.AfterFunc(g.accepting, func() { raw.Close() })
	c, hello, err := tcp.Peek(c, silence)
	switch {
	case !goesOn() || err != nil:
		raw.Close()
	case hello.Protocol == tcp.TLS:
		g.visitTLS(c, hello)
	case hello.Protocol == tcp.Plain:
		refusePlain(c)
	default:
		g.ssh.ServeConn(c)
	}
}

// refusePlain answers http in clear. What else the visitor has sent is read,
// so that the answer is not lost to a reset.
func refusePlain(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	io.WriteString(c, plainAnswer)
	if w, ok := c.(interface{ CloseWrite() error }); ok && w.CloseWrite() == nil {
		io.CopyN(io.Discard, c, 64<<10)
	}
}

// visitTLS passes TLS through where a tunnel wants that, and opens it
// otherwise.
func (g *Gateway) visitTLS(c net.Conn, hello tcp.Hello) {
	if s := g.passThrough(hello.ServerName); s != nil && !g.validates(hello) {
		g.passTLS(s, c)
		return
	}
	g.http.ServeConn(tls.Server(c, g.certs.TLSConfig()))
}

// passThrough is the slot of the TLS tunnel that host, in lower case, goes to;
// nil if none stands there or is expected to.
func (g *Gateway) passThrough(host string) *slot {
	name, ok := g.nameOf(host)
	if !ok {
		return nil
	}
	s := g.registry.lookup(tlsKey(name))
	if s == nil || s.live.Load() != nil {
		return s
	}
	if expected, _ := s.expected(time.Now()); expected {
		return s
	}
	return nil
}

// validates reports whether the client is a CA that answers to an order of
// ours, and not to one of the tunnel's user.
func (g *Gateway) validates(hello tcp.Hello) bool {
	return slices.Contains(hello.ALPN, acmeTLS) && g.certs.Pending(hello.ServerName)
}

// tlsKey is where a name's TLS tunnel stands in the registry; no name has a
// colon.
func tlsKey(name string) string { return name + ":443" }

// passTLS joins a visitor with the local service, whose TLS it is. The
// gateway sees the ClientHello, and that what comes back is TLS, no more.
func (g *Gateway) passTLS(s *slot, c net.Conn) {
	t, up := g.reach(s, c)
	if up == nil {
		return
	}
	bytes := g.metrics.bytes
	g.splice(c, &tlsAnswer{Conn: up, t: t}, bytes.WithLabelValues(kindTLS, "in"), bytes.WithLabelValues(kindTLS, "out"))
}

// await is the tunnel of a slot, nil if none comes in time.
func (g *Gateway) await(s *slot) *Tunnel {
	if t := s.live.Load(); t != nil {
		return t
	}
	ctx, cancel := context.WithTimeout(g.accepting, g.cfg.parkFor())
	defer cancel()
	return s.wait(ctx, false)
}

// splice joins a visitor and a tunnel's channel, and counts.
func (g *Gateway) splice(c, up net.Conn, bytesIn, bytesOut prometheus.Counter) {
	g.metrics.tcpVisitors.Inc()
	defer g.metrics.tcpVisitors.Dec()
	in, out, _ := tcp.Splice(c, up, g.cfg.now().StallTimeout)
	bytesIn.Add(float64(in))
	bytesOut.Add(float64(out))
}

// errNotTLS is why visitors of a TLS tunnel get nowhere.
var errNotTLS = errors.New("it does not speak TLS")

// tlsAnswer is a local service's side of a connection, whose first byte tells
// whether it speaks TLS: a record of handshake or alert (RFC 8446, section
// 5.1).
type tlsAnswer struct {
	net.Conn
	t    *Tunnel
	seen bool
}

func (a *tlsAnswer) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	if !a.seen && n > 0 {
		a.seen = true
		if p[0] != 22 && p[0] != 21 {
			a.t.complain(errNotTLS)
		}
	}
	return n, err
}

// CloseWrite ends the direction to the local service.
func (a *tlsAnswer) CloseWrite() error {
	return a.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// WaitRead holds no buffer while the service is silent.
func (a *tlsAnswer) WaitRead() {
	if w, ok := a.Conn.(interface{ WaitRead() }); ok {
		w.WaitRead()
	}
}

// quicTLS is the TLS of HTTP/3: a name whose TLS is passed through is not
// spoken for here. It is no clone of TCP's, as a clone shares the keys of
// session tickets.
func (g *Gateway) quicTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: g.certs.TLSConfig().GetCertificate,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if g.passThrough(lower(hello.ServerName)) != nil {
				return nil, errors.New("passed through on TCP")
			}
			return nil, nil
		},
	}
}

// misdirected is for a request that came over a connection that was opened for
// another name, while its own name's TLS is passed through (RFC 9110, section
// 15.5.20): a browser that shares connections tries again on a new one.
var misdirected = &vhost.Page{
	Status: http.StatusMisdirectedRequest, ContentType: "text/plain; charset=utf-8",
	Body: []byte("This name is served on connections of its own.\n"),
}

// origin is scheme, host and port as visitors type them.
func origin(scheme, host string, port, usual int) string {
	u := scheme + "://" + host
	if port != usual {
		u += ":" + strconv.Itoa(port)
	}
	return u
}
