package gateway

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// proofLimit is how long DNS has for a custom domain's proof: the reply to
	// the forward waits for it, and has 3 s.
	proofLimit = 2500 * time.Millisecond
	// proofAge is how often a live custom domain's proof is looked at again.
	proofAge = 24 * time.Hour
)

// isCustom tells a custom domain from a label under the gateway's own.
func isCustom(name string) bool { return strings.Contains(name, ".") }

// validCustom says what is wrong with a custom domain, "" if nothing.
func validCustom(name string) string {
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if why := domainLabel(l); why != "" {
			return why
		}
	}
	last := labels[len(labels)-1]
	switch {
	case len(name) > 253-len("_adit."):
		return "it is too long"
	case strings.Trim(last, "0123456789") == "":
		return "it is an address, or has a number as its last part"
	}
	return ""
}

// nameOf is the name that a host belongs to: a label under the domain, or a
// custom domain. It fails for the domain itself and for what is no host name.
func (g *Gateway) nameOf(host string) (name string, ok bool) {
	if label, under := strings.CutSuffix(host, g.cfg.suffix); under {
		return label, !isCustom(label)
	}
	return host, host != g.cfg.domain && isCustom(host)
}

// hostOf is a name's host, as visitors type it.
func (g *Gateway) hostOf(name string) string {
	if isCustom(name) {
		return name
	}
	return name + g.cfg.suffix
}

// proof is what DNS said of a live custom domain.
type proof struct {
	identity string
	stands   bool
	seen     time.Time
}

// proofs know which custom domains are proven whose.
type proofs struct {
	resolver *net.Resolver

	mu sync.Mutex
	of map[string]proof
}

func newProofs(server string) *proofs {
	return &proofs{resolver: newResolver(server), of: map[string]proof{}}
}

// newResolver asks server, or the system's resolver where that is empty.
func newResolver(server string) *net.Resolver {
	if server == "" {
		return &net.Resolver{}
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server)
	}}
}

// prove asks DNS whether name is identity's: a TXT record of _adit.NAME says
// so. A refusal says which record is to be added.
func (p *proofs) prove(ctx context.Context, name, identity string) *refusal {
	ctx, cancel := context.WithTimeout(ctx, proofLimit)
	defer cancel()
	found, err := p.lookup(ctx, name, identity)
	switch {
	case err != nil:
		return refuseProofLookup(name, identity, err)
	case !found:
		return refuseNotProven(name, identity)
	}
	return nil
}

// lookup reports whether the record is there; an error says that nobody knows.
func (p *proofs) lookup(ctx context.Context, name, identity string) (bool, error) {
	texts, err := p.resolver.LookupTXT(ctx, "_adit."+name+".")
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return false, nil
	}
	if dns != nil {
		err = errors.New(dns.Err) // without the server, of which the library may name a wrong one
	}
	return slices.ContainsFunc(texts, func(s string) bool { return strings.TrimSpace(s) == identity }), err
}

func (p *proofs) note(name string, is proof) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[name] = is
}

// stands reports whether the last look found name's proof.
func (p *proofs) stands(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.of[name].stands
}

// due are the proofs that were not looked at for a day.
func (p *proofs) due(now time.Time) map[string]proof {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := map[string]proof{}
	for name, is := range p.of {
		if now.Sub(is.seen) >= proofAge {
			old[name] = is
		}
	}
	return old
}

// forget drops what is known of name, unless it was looked at since.
func (p *proofs) forget(name string, was proof) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[name] == was {
		delete(p.of, name)
	}
}

// renew notes what a look found, unless there was another look since.
func (p *proofs) renew(name string, was, is proof) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[name] == was {
		p.of[name] = is
	}
}

// tendProofs looks at custom domains again, once a day each, until ctx ends.
func (g *Gateway) tendProofs(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for name, was := range g.proofs.due(now) {
				g.reprove(ctx, name, was)
			}
		}
	}
}

// reprove looks at one custom domain again. Without its proof it gets no new
// tunnel and no renewal; the visitors of the tunnel it has are served on.
func (g *Gateway) reprove(ctx context.Context, name string, was proof) {
	if !g.standsLive(name) {
		g.proofs.forget(name, was)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, proofLimit)
	defer cancel()
	found, err := g.proofs.lookup(ctx, name, was.identity)
	if err != nil {
		g.log.Warn("custom domain: proof not looked at", "name", name, "err", printable(err.Error(), 200))
		found = was.stands // and an hour later again
		g.proofs.renew(name, was, proof{was.identity, found, time.Now().Add(time.Hour - proofAge)})
		return
	}
	if !found && was.stands {
		g.log.Warn("custom domain: proof is gone", "name", name)
		g.tellOwner(name, refuseNotProven(name, was.identity).Message)
	}
	g.proofs.renew(name, was, proof{was.identity, found, time.Now()})
}

// standsLive reports whether name has a live tunnel, over http or TLS.
func (g *Gateway) standsLive(name string) bool {
	return g.registry.liveAt(name) != nil || g.registry.liveAt(tlsKey(name)) != nil
}

// tellOwner says something on the terminal of the user who has name's tunnel.
func (g *Gateway) tellOwner(name, text string) {
	for _, key := range []string{name, tlsKey(name)} {
		if t := g.registry.liveAt(key); t != nil {
			if se := t.session.Load(); se != nil {
				se.warn(text)
				return
			}
		}
	}
}
