package gateway

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"adit/sshd"
	"adit/vhost"

	"golang.org/x/crypto/ssh"
)

// maxStreams is how many requests one tunnel has under way at once; the SSH
// connection below has room for a few more.
const maxStreams = 1000

// retryAfter is what visitors of a tunnel that is away are told, in seconds.
const retryAfter = 10

// resolveHost finds the tunnel of a visitor's request. The common path is
// a lookup and a load.
func (g *Gateway) resolveHost(ctx context.Context, r *vhost.Request) (*vhost.Backend, *vhost.Page) {
	if page := g.challengeAnswer(r); page != nil {
		return nil, page
	}
	name, ok := g.nameOf(r.Host)
	switch {
	case r.Host == g.cfg.domain:
		return nil, g.domainPage(r)
	case g.cfg.local && net.ParseIP(strings.Trim(r.Host, "[]")) != nil:
		return nil, g.ownPage(r.Path())
	case !ok:
		return nil, nil
	}
	var t *Tunnel
	s := g.registry.lookup(name)
	if s != nil {
		t = s.live.Load()
	}
	if t != nil {
		return g.serve(t, r)
	}
	if page := g.otherWay(nil, r); page != nil {
		return nil, page
	}
	return g.resolveAway(ctx, r, name, s)
}

// otherWay is the page for a visitor who is to come another way: on a
// connection of the name's own where its TLS is passed through, or by https.
// t is the name's HTTP tunnel, nil if there is none.
func (g *Gateway) otherWay(t *Tunnel, r *vhost.Request) *vhost.Page {
	if g.certs == nil {
		return nil
	}
	switch {
	case r.TLS && g.passThrough(r.Host) != nil:
		return misdirected
	case r.TLS || !g.cfg.redirect:
	case t != nil && g.secure(t.name), t == nil && g.passThrough(r.Host) != nil:
		return g.toHTTPS(r)
	}
	return nil
}

// domainPage is the domain's own page, over https where that is ready.
func (g *Gateway) domainPage(r *vhost.Request) *vhost.Page {
	if !r.TLS && g.cfg.redirect && g.certs.Ready(r.Host) {
		return g.toHTTPS(r)
	}
	page := g.ownPage(r.Path())
	if page != nil && g.cfg.redirect && !g.cfg.local {
		page.HSTS = hstsFor
	}
	return page
}

// resolveAway is for names that have no live tunnel: a visitor waits where
// one is expected, and is told to come back where the name is owned.
func (g *Gateway) resolveAway(ctx context.Context, r *vhost.Request, name string, s *slot) (*vhost.Backend, *vhost.Page) {
	_, owned := g.state.ledger.owner(bucketNames, name, time.Now(), g.cfg.now().NameTTL)
	restarted := owned && time.Since(g.started) < lostFor && (s == nil || !s.claimed())
	expected := false
	if s != nil {
		expected, _ = s.expected(time.Now())
	}
	if restarted && s == nil {
		s = g.registry.expect(name)
	}
	if expected || restarted {
		ctx, cancel := context.WithTimeout(ctx, g.cfg.parkFor())
		defer cancel()
		defer context.AfterFunc(g.accepting, cancel)() // after which none comes back
		if t := s.wait(ctx, restarted); t != nil {
			return g.serve(t, r)
		}
		expected, _ = s.expected(time.Now())
	}
	if owned || expected {
		return nil, &vhost.Page{Status: http.StatusServiceUnavailable, RetryAfter: retryAfter}
	}
	return nil, nil
}

// serve is for a visitor whose tunnel is there: served, or sent another way.
func (g *Gateway) serve(t *Tunnel, r *vhost.Request) (*vhost.Backend, *vhost.Page) {
	if page := g.otherWay(t, r); page != nil {
		return nil, page
	}
	return t.backend, nil
}

// parkFor is how long a visitor waits; a negative setting is no time at all.
func (s *settings) parkFor() time.Duration { return max(s.now().Park, 0) }

// backendOptions are how a tunnel's local service is reached.
func (g *Gateway) backendOptions(t *Tunnel) vhost.BackendOptions {
	return vhost.BackendOptions{
		Dial:            t.dial,
		MaxConns:        maxStreams,
		ResponseTimeout: g.cfg.now().ResponseTimeout,
		StallTimeout:    g.cfg.now().StallTimeout,
		Observe:         func(x *vhost.Exchange) { g.observe(t, x) },
	}
}

// dial opens a stream to the tunnel's local service for a visitor.
func (t *Tunnel) dial(ctx context.Context, visitor net.Addr) (net.Conn, error) {
	c, err := t.fwd.DialContext(ctx, visitor)
	if errors.Is(err, sshd.ErrBusy) {
		err = vhost.ErrBusy
	}
	return c, err
}

// observe counts a request, and shows it where somebody watches.
func (g *Gateway) observe(t *Tunnel, x *vhost.Exchange) {
	g.metrics.request(x)
	s := t.session.Load()
	if s == nil {
		return
	}
	if x.Err != nil {
		t.complain(x.Err)
	}
	s.request(t, x)
}

// ownPage is what the domain itself answers: what this is and how to use it.
func (g *Gateway) ownPage(path string) *vhost.Page {
	switch path {
	case "/":
		return &vhost.Page{Status: http.StatusOK, ContentType: "text/html; charset=utf-8", Body: []byte(g.welcome())}
	case "/known_hosts":
		return &vhost.Page{Status: http.StatusOK, ContentType: "text/plain; charset=utf-8", Body: []byte(g.knownHosts())}
	}
	return nil
}

// welcome is the domain's page.
func (g *Gateway) welcome() string {
	var prints strings.Builder
	for _, k := range g.state.hostKeys {
		fmt.Fprintf(&prints, "%s %s\n", k.PublicKey().Type(), ssh.FingerprintSHA256(k.PublicKey()))
	}
	return fmt.Sprintf(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>%[1]s</title></head><body>
<h1>%[1]s</h1>
<p>This is an SSH tunnel gateway. With the ssh you have, it puts a port of your machine on a public name:</p>
<pre>%[2]s</pre>
<p>Its host keys, to compare when ssh asks (as <a href="/known_hosts">known_hosts</a> lines):</p>
<pre>%[3]s</pre>
</body></html>
`, html.EscapeString(g.cfg.domain), html.EscapeString(g.example()), html.EscapeString(prints.String()))
}

// knownHosts are the host keys as known_hosts(5) lines.
func (g *Gateway) knownHosts() string {
	host := g.cfg.domain
	if g.ports.ssh != 22 {
		host = fmt.Sprintf("[%s]:%d", host, g.ports.ssh)
	}
	var b strings.Builder
	for _, k := range g.state.hostKeys {
		b.WriteString(host + " " + string(ssh.MarshalAuthorizedKey(k.PublicKey())))
	}
	return b.String()
}

// servesHTTP reports whether a port is open for HTTP tunnels.
func (g *Gateway) servesHTTP() bool { return len(g.lns.http)+len(g.lns.https) > 0 }

// example is the line to type to share local port 8080.
func (g *Gateway) example() string {
	port := ""
	if g.ports.ssh != 22 {
		port = " -p " + strconv.Itoa(g.ports.ssh)
	}
	public := 80
	if !g.servesHTTP() {
		public = 0
	}
	return fmt.Sprintf("ssh%s -R %d:localhost:8080 %s", port, public, g.cfg.domain)
}

// httpURL is a virtual host's address as visitors type it: over https where
// they would be sent there anyway, or where there is nothing else.
func (g *Gateway) httpURL(name string) string {
	if g.secure(name) || len(g.lns.http) == 0 && g.certs != nil {
		return g.tlsURL(name)
	}
	return origin("http", g.hostOf(name), g.ports.http, 80)
}

// tlsURL is the address of a name over TLS.
func (g *Gateway) tlsURL(name string) string {
	return origin("https", g.hostOf(name), g.ports.https, 443)
}

// tcpURL is a public port's address.
func (g *Gateway) tcpURL(port int) string {
	return "tcp://" + g.cfg.domain + ":" + strconv.Itoa(port)
}
