package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"adit/acme"
	"adit/vhost"
)

// challengePath is where a CA looks for an HTTP-01 answer (RFC 8555, section
// 8.3).
const challengePath = "/.well-known/acme-challenge/"

// hstsFor is how long browsers hold the domain's own pages to https (RFC
// 6797). It says nothing of tunnels: each service decides for itself.
const hstsFor = 180 * 24 * time.Hour

// certConfig is what the certificates are had by.
func (s *settings) certConfig(dir string) acme.Config {
	a := s.ACME
	return acme.Config{
		Mode: s.TLS, State: dir, Domain: s.domain,
		Email: a.Email, CA: a.CA, CARootFile: a.CARoot, EAB: a.EAB, NamesPerDay: a.NamesPerDay,
		DNS:      acme.DNSConfig{Provider: a.DNS, Server: a.DNSServer, Key: a.DNSKey, Exec: a.DNSExec},
		Resolver: s.DNSResolver, CertDir: s.CertDir, Challenges: s.challenges(), BeforeWrite: s.BeforeWrite,
	}
}

// challenges are those that a CA can reach us with: port 80 and 443 may be
// closed here.
func (s *settings) challenges() (list []string) {
	if len(s.http) > 0 {
		list = append(list, acme.HTTP01)
	}
	return append(list, acme.TLSALPN01)
}

// openCerts makes the certificates' manager, if HTTPS is open.
func (g *Gateway) openCerts() (err error) {
	if len(g.cfg.https) == 0 {
		return nil
	}
	cfg := g.cfg.certConfig(g.state.dir)
	cfg.Allow, cfg.Notify, cfg.Logger = g.mayCertify, g.certNews, g.log
	if g.certs, err = acme.New(cfg); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if err = g.certs.Start(g.ctx); err != nil {
		g.certs = nil
		return fmt.Errorf("certificates: %w", err)
	}
	g.metrics.registry.MustRegister(certStats{g.certs.Stats})
	return nil
}

// mayCertify says whether host may have a certificate: it is ours, or a live
// HTTP tunnel has it, of which a custom domain's is still proven.
func (g *Gateway) mayCertify(_ context.Context, host string) error {
	name, ok := g.nameOf(host)
	switch {
	case host == g.cfg.domain:
		return nil
	case !ok:
		return errors.New("no name of this gateway")
	}
	if g.registry.liveAt(name) == nil {
		return errors.New("no live tunnel has it")
	}
	if isCustom(name) && !g.proofs.stands(name) {
		return errors.New("no longer proven its user's")
	}
	return nil
}

// secure reports whether visitors of an HTTP tunnel's name are sent to https:
// there is a certificate, and no TLS tunnel that has port 443 of the name.
func (g *Gateway) secure(name string) bool {
	return g.cfg.redirect && g.passThrough(g.hostOf(name)) == nil && g.certs.Ready(g.hostOf(name))
}

// certify sees to the certificate of an HTTP tunnel that is live. Where the
// name's TLS is passed through there is nothing to be had for now.
func (g *Gateway) certify(t *Tunnel) {
	if g.certs == nil || t.kind != kindHTTP {
		return
	}
	t.left.Store(true) // before the look: the TLS tunnel may end just then
	if g.passThrough(g.hostOf(t.name)) != nil {
		return
	}
	t.left.Store(false)
	g.tellStatus(t, g.certs.Ensure(g.hostOf(t.name), t.client.key().User))
}

// certifyLeft is for when name's TLS tunnel has ended: its HTTP tunnel's visitors
// come to us from now on.
func (g *Gateway) certifyLeft(name string) {
	if t := g.registry.liveAt(name); t != nil && t.left.Load() {
		g.certify(t)
	}
}

// certifyAllLeft is certifyLeft for every name, as for those whose TLS tunnel
// was lost: its visitors wait for it a while.
func (g *Gateway) certifyAllLeft() {
	for _, cl := range g.allClients() {
		for _, t := range cl.live() {
			if t.left.Load() {
				g.certify(t)
			}
		}
	}
}

// tellStatus tells a tunnel's session how it stands with the certificate.
func (g *Gateway) tellStatus(t *Tunnel, status acme.Status) {
	se := t.session.Load()
	switch {
	case se == nil:
	case status.Ready:
		se.moved(t)
	case status.Err == nil:
		se.progress(g.onItsWay(t))
	case g.cfg.redirect || errors.As(status.Err, new(*acme.Delay)): // else https was never meant for it
		se.warn(notReady(t, status.Err))
	}
}

func (g *Gateway) onItsWay(t *Tunnel) string {
	text := "adit: the certificate of " + g.hostOf(t.name) + " is on its way"
	switch {
	case !g.cfg.redirect:
		text += "; when it is here, the name is served over https too"
	case len(g.lns.http) > 0:
		text += "; until it is here, the name is served over http"
	}
	return text
}

// certNews passes on how it stands with a host's certificate to the terminals
// of the owners of tunnels that it covers. It is called on the manager's
// goroutines.
func (g *Gateway) certNews(host string, err error) {
	for _, cl := range g.allClients() {
		for _, t := range cl.live() {
			if t.kind == kindHTTP && covers(host, g.hostOf(t.name)) {
				g.tellNews(t, err)
			}
		}
	}
}

// covers reports whether a certificate for name is one for host (RFC 6125,
// section 6.4.3).
func covers(name, host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	return name == host || name == "*."+parent
}

// tellNews tells a tunnel's session of its certificate. Who is not redirected
// is shown no other URL, and so is told in words.
func (g *Gateway) tellNews(t *Tunnel, err error) {
	se := t.session.Load()
	switch {
	case se == nil || t.left.Load():
	case err != nil:
		se.warn(notReady(t, err))
	case g.cfg.redirect:
		se.moved(t)
	default:
		se.progress("adit: the certificate of " + g.hostOf(t.name) + " is here: " + g.tlsURL(t.name) + " works too")
	}
}

// notReady says why a name has no certificate yet.
func notReady(t *Tunnel, err error) string {
	text := printable(err.Error(), 300)
	var d *acme.Delay
	if errors.As(err, &d) {
		text = fmt.Sprintf("%s. It is tried again in %s", printable(d.Err.Error(), 300), time.Until(d.Until).Round(time.Second))
	}
	g, where := t.client.g, ""
	switch {
	case !g.cfg.redirect:
		where = ", so it is not served over https"
	case len(g.lns.http) > 0:
		where = ", so it is served over http"
	}
	return fmt.Sprintf("adit: %s has no certificate yet%s: %s", g.hostOf(t.name), where, text)
}

// challengeAnswer is the page for a CA's HTTP-01 request, if it is about an
// order of ours that waits for it.
func (g *Gateway) challengeAnswer(r *vhost.Request) *vhost.Page {
	if g.certs == nil || g.cfg.TLS != acme.ModeACME || r.TLS {
		return nil
	}
	path := r.Path()
	if !strings.HasPrefix(path, challengePath) {
		return nil
	}
	body, ok := g.certs.HTTPChallenge(r.Host, path)
	if !ok {
		return nil
	}
	return &vhost.Page{Status: http.StatusOK, ContentType: "application/octet-stream", Body: []byte(body)}
}

// toHTTPS sends a visitor to the same place over https (RFC 9110, section
// 15.4.9: the method stays as it is). OPTIONS has a target without a path.
func (g *Gateway) toHTTPS(r *vhost.Request) *vhost.Page {
	target := r.Target()
	if !strings.HasPrefix(target, "/") {
		target = "/"
	}
	return &vhost.Page{Status: http.StatusPermanentRedirect, Location: origin("https", r.Host, g.ports.https, 443) + target}
}

// certRows are the start block's lines on certificates.
func (g *Gateway) certRows(row func(name, value string)) {
	switch g.cfg.TLS {
	case acme.ModeInternal:
		row("certs", "by adit's own CA; to trust it: "+acme.Trust(g.certs.InternalRoot()))
	case acme.ModeFiles:
		row("certs", "files in "+g.cfg.CertDir)
	case acme.ModeACME:
		row("certs", "ACME, "+cmp.Or(g.cfg.ACME.CA, "Let's Encrypt"))
		if g.cfg.ACME.DNS == "" {
			row("", "each name gets its own, which certificate logs make public;")
			row("", "a wildcard (--dns rfc2136 or exec) cures that")
		}
	}
}
