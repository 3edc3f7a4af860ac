package acme

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
	"go.uber.org/zap"
)

const (
	// recordTTL is what challenge records are made with.
	recordTTL = time.Minute
	// maxCNAMEs bounds how far a challenge's name is followed.
	maxCNAMEs = 8
	// queryTimeout bounds one DNS exchange.
	queryTimeout = 10 * time.Second
)

// dnsSolver solves DNS-01 (RFC 8555 section 8.4) with certmagic's solver, which
// finds the zone and waits until the record is out, at the name where the CNAMEs
// of _acme-challenge lead, which certmagic's does not.
type dnsSolver struct {
	provider  certmagic.DNSProvider
	resolvers []string // nil: the system's
	log       *zap.Logger

	mu   sync.Mutex
	live map[string]*certmagic.DNS01Solver // by record value, which is unique
}

var (
	_ acmez.Solver = (*dnsSolver)(nil)
	_ acmez.Waiter = (*dnsSolver)(nil)
)

// newDNSSolver is nil without a provider.
func newDNSSolver(cfg *Config, log *slog.Logger) (*dnsSolver, error) {
	s := &dnsSolver{log: zapLogger(log), live: map[string]*certmagic.DNS01Solver{}}
	if cfg.Resolver != "" {
		s.resolvers = []string{cfg.Resolver}
	}
	var err error
	switch cfg.DNS.Provider {
	case "":
		return nil, nil
	case "rfc2136":
		s.provider, err = newRFC2136(cfg.DNS)
	case "exec":
		s.provider, err = newHook(cfg.DNS)
	default:
		err = fmt.Errorf("dns %q: rfc2136 or exec expected", cfg.DNS.Provider)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Present makes the challenge's record.
func (s *dnsSolver) Present(ctx context.Context, c acme.Challenge) error {
	at, err := s.follow(ctx, c.DNS01TXTRecordName())
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	one := &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{
		DNSProvider: s.provider, TTL: recordTTL, Resolvers: s.resolvers, OverrideDomain: at, Logger: s.log,
	}}
	if err := one.Present(ctx, c); err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[c.DNS01KeyAuthorization()] = one
	return nil
}

// Wait waits until the record is out, two minutes at most.
func (s *dnsSolver) Wait(ctx context.Context, c acme.Challenge) error {
	s.mu.Lock()
	one := s.live[c.DNS01KeyAuthorization()]
	s.mu.Unlock()
	if one == nil {
		return errors.New("dns: no record was made")
	}
	return one.Wait(ctx, c)
}

// CleanUp removes the record, also after ctx has ended.
func (s *dnsSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	s.mu.Lock()
	one := s.live[c.DNS01KeyAuthorization()]
	delete(s.live, c.DNS01KeyAuthorization())
	s.mu.Unlock()
	if one == nil {
		return nil
	}
	return one.CleanUp(context.WithoutCancel(ctx), c)
}

// follow gives the name that name's CNAMEs lead to, itself without any.
func (s *dnsSolver) follow(ctx context.Context, name string) (string, error) {
	for range maxCNAMEs {
		target, err := s.cname(ctx, dns.Fqdn(name))
		if err != nil || target == "" {
			return name, err
		}
		name = trimDot(target)
	}
	return "", fmt.Errorf("more than %d CNAMEs behind one another", maxCNAMEs)
}

// cname is the CNAME at fqdn; empty if there is none.
func (s *dnsSolver) cname(ctx context.Context, fqdn string) (target string, err error) {
	m := new(dns.Msg).SetQuestion(fqdn, dns.TypeCNAME)
	m.SetEdns0(1232, false)
	for _, server := range certmagic.RecursiveNameservers(s.resolvers) {
		var answer *dns.Msg
		if answer, err = exchange(ctx, m, server); err == nil {
			return cnameIn(answer, fqdn)
		}
	}
	return "", fmt.Errorf("lookup CNAME: %w", err)
}

// cnameIn reads answer. No such name is the usual case: the record is yet to
// be made.
func cnameIn(answer *dns.Msg, fqdn string) (string, error) {
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		return "", fmt.Errorf("lookup CNAME: %s", dns.RcodeToString[answer.Rcode])
	}
	for _, rr := range answer.Answer {
		if c, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(c.Hdr.Name) == dns.CanonicalName(fqdn) {
			return c.Target, nil
		}
	}
	return "", nil
}

// exchange asks server over UDP, and over TCP what does not fit or gets lost.
func exchange(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	answer, _, err := (&dns.Client{Timeout: queryTimeout / 4}).ExchangeContext(ctx, m, server)
	if err != nil || answer.Truncated {
		answer, _, err = (&dns.Client{Net: "tcp", Timeout: queryTimeout}).ExchangeContext(ctx, m, server)
	}
	return answer, err
}

func trimDot(s string) string {
	if n := len(s); n > 0 && s[n-1] == '.' {
		return s[:n-1]
	}
	return s
}
