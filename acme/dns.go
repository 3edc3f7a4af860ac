package acme

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

const (
	// recordTTL is what challenge records are made with.
	recordTTL = time.Minute
	// maxCNAMEs bounds how far a challenge's name is followed.
	maxCNAMEs = 8
	// queryTimeout bounds one DNS exchange.
	queryTimeout = 10 * time.Second
	// maxSpread is how long a record may take until every server has it, and
	// lookEvery how often they are asked. The first look is not at once, as a
	// resolver would remember that there was none.
	maxSpread = 2 * time.Minute
	lookEvery = time.Second
)

// dnsSolver solves DNS-01 (RFC 8555 section 8.4) at the name where the CNAMEs of
// _acme-challenge lead. What cannot be looked up from here holds up no order:
// whether the record is there is the CA's to say.
type dnsSolver struct {
	provider  certmagic.DNSProvider
	server    string   // of rfc2136; empty: a program makes the records
	resolvers []string // nil: the system's, and each zone's own servers
	log       *slog.Logger

	mu   sync.Mutex
	live map[string]presented // by record value, which is unique
}

// presented is a record that was made, until it is removed.
type presented struct{ at, zone, value string }

// records are p as the provider wants it, whole names being names too.
func (p presented) records() []libdns.Record {
	return []libdns.Record{libdns.TXT{Name: dns.Fqdn(p.at), Text: p.value, TTL: recordTTL}}
}

var (
	_ acmez.Solver = (*dnsSolver)(nil)
	_ acmez.Waiter = (*dnsSolver)(nil)
)

// newDNSSolver is nil without a provider.
func newDNSSolver(cfg *Config) (*dnsSolver, error) {
	s := &dnsSolver{log: cfg.Logger, live: map[string]presented{}}
	if cfg.Resolver != "" {
		s.resolvers = []string{cfg.Resolver}
	}
	switch cfg.DNS.Provider {
	case "":
		return nil, nil
	case "rfc2136":
		p, err := newRFC2136(cfg.DNS)
		if err != nil {
			return nil, err
		}
		s.provider, s.server = p, p.server
	case "exec":
		p, err := newHook(cfg.DNS)
		if err != nil {
			return nil, err
		}
		s.provider = p
	default:
		return nil, fmt.Errorf("dns %q: rfc2136 or exec expected", cfg.DNS.Provider)
	}
	return s, nil
}

// Present makes the challenge's record.
func (s *dnsSolver) Present(ctx context.Context, c acme.Challenge) error {
	p, err := s.place(ctx, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	if _, err := s.provider.AppendRecords(ctx, p.zone, p.records()); err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[p.value] = p
	return nil
}

// place is where a challenge's record is to be made.
func (s *dnsSolver) place(ctx context.Context, name, value string) (p presented, err error) {
	p.value = value
	if p.at, err = s.follow(ctx, name); err == nil {
		p.zone, err = s.zone(ctx, p.at)
	}
	return p, err
}

// Wait waits until the record is out, maxSpread at most.
func (s *dnsSolver) Wait(ctx context.Context, c acme.Challenge) error {
	s.mu.Lock()
	p, ok := s.live[c.DNS01KeyAuthorization()]
	s.mu.Unlock()
	if !ok {
		return errors.New("dns: no record was made")
	}
	servers, err := s.witnesses(ctx, p.at)
	if err != nil {
		s.log.Info("dns: not known whether the record is out, the CA will see", "at", p.at, "err", clean(err.Error()))
		return ctx.Err()
	}
	return s.spread(ctx, p, servers)
}

// spread waits until all servers have p's record.
func (s *dnsSolver) spread(ctx context.Context, p presented, servers []string) error {
	limit := time.NewTimer(maxSpread)
	defer limit.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			s.log.Warn("dns: the record is not out yet, the CA will see", "at", p.at, "servers", servers)
			return nil
		case <-look.C:
		}
		if isOut(ctx, p, servers) {
			return nil
		}
	}
}

// witnesses are who can tell whether a record at name is out: the resolver that
// was chosen, else the zone's own servers, which remember no absence.
func (s *dnsSolver) witnesses(ctx context.Context, name string) ([]string, error) {
	if s.resolvers != nil {
		return certmagic.RecursiveNameservers(s.resolvers), nil
	}
	var err error
	for _, server := range certmagic.RecursiveNameservers(nil) {
		var list []string
		if list, err = serversOf(ctx, server, name); err == nil {
			return list, nil
		}
	}
	return nil, err
}

// CleanUp removes the record, also after ctx has ended.
func (s *dnsSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	s.mu.Lock()
	p, ok := s.live[c.DNS01KeyAuthorization()]
	delete(s.live, p.value)
	s.mu.Unlock()
	if !ok {
		return nil
	}
	_, err := s.provider.DeleteRecords(context.WithoutCancel(ctx), p.zone, p.records())
	return err
}

// zone is the one that name is in. The server that takes the updates knows it
// best, also where it is no resolver's. A program is told the whole name.
func (s *dnsSolver) zone(ctx context.Context, name string) (zone string, err error) {
	if s.server == "" {
		return "", nil
	}
	for _, server := range s.servers() {
		if zone, err = apex(ctx, server, name); err == nil {
			return zone, nil
		}
	}
	return "", err
}

// servers are asked in this order.
func (s *dnsSolver) servers() (list []string) {
	if s.server != "" {
		list = append(list, s.server)
	}
	return append(list, certmagic.RecursiveNameservers(s.resolvers)...)
}

// follow gives the name that name's CNAMEs lead to, itself without any.
func (s *dnsSolver) follow(ctx context.Context, name string) (string, error) {
	for range maxCNAMEs {
		target, err := s.cname(ctx, dns.Fqdn(name))
		if err != nil {
			s.log.Info("dns: not known whether this is a CNAME, taken for none", "name", name, "err", clean(err.Error()))
		}
		if target == "" {
			return name, ctx.Err()
		}
		name = strings.TrimSuffix(target, ".")
	}
	return "", fmt.Errorf("more than %d CNAMEs behind one another", maxCNAMEs)
}

// cname is the CNAME at fqdn; empty if there is none. That there is none the
// server that takes the updates can say of its own zones only.
func (s *dnsSolver) cname(ctx context.Context, fqdn string) (target string, err error) {
	for _, server := range s.servers() {
		var answer *dns.Msg
		if answer, err = ask(ctx, server, fqdn, dns.TypeCNAME); err != nil {
			continue
		}
		target, err = cnameIn(answer, fqdn)
		if target != "" || err == nil && (server != s.server || answer.Authoritative) {
			return target, nil
		}
	}
	return "", err
}
