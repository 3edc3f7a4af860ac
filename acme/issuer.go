package acme

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// letsEncrypt is the CA if none is given.
const letsEncrypt = certmagic.LetsEncryptProductionCA

// issuer is the one way to the CA: certmagic asks it for every certificate, new
// or renewed. certmagic's own would open the challenge ports itself, drop the
// CA's Retry-After, and make up to three orders an attempt.
type issuer struct {
	cfg     *Config
	libs    *slog.Logger // for what the libraries say
	ca      string
	http    *http.Client
	store   *store
	ledger  *ledger
	solvers *solvers
	dns     acmez.Solver  // nil: no DNS-01
	alone   chan struct{} // held by the one order under way by DNS-01
	good    atomic.Int32  // which of kinds worked last

	begun, lost atomic.Uint64 // orders, and those that failed

	accounts sync.Mutex // one registration at a time

	mu      sync.Mutex // guards closed, and ongoing's first Add against its Wait
	closed  bool
	ongoing sync.WaitGroup
}

var (
	_ certmagic.Issuer            = (*issuer)(nil)
	_ certmagic.RenewalInfoGetter = (*issuer)(nil)
)

var errClosed = errors.New("closed")

// IssuerKey is the folder that the CA's certificates lie in, as certmagic's own
// issuer names it: host and path of the directory.
func (i *issuer) IssuerKey() string {
	u, err := url.Parse(i.ca)
	if err != nil {
		return "ca"
	}
	return strings.Trim(u.Host+"-"+strings.ReplaceAll(strings.Trim(u.Path, "/"), "/", "-"), "-")
}

// Issue makes one attempt at the certificate that csr asks for.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	if !i.enter() {
		return nil, errClosed
	}
	defer i.ongoing.Done()
	if len(csr.DNSNames) != 1 {
		return nil, fmt.Errorf("order: one name expected, got %q", csr.DNSNames)
	}
	name := csr.DNSNames[0]
	if err := i.gate(ctx, name); err != nil {
		return nil, err
	}
	i.begun.Add(1)
	ctx, a := withAttempt(ctx)
	cert, err := i.obtain(ctx, a, name, csr)
	if err != nil {
		return nil, i.failed(ctx, a, name, err)
	}
	i.ledger.worked(name)
	i.cfg.Logger.Info("certificate: issued", "host", name, "ca", i.IssuerKey())
	return &certmagic.IssuedCertificate{Certificate: cert.ChainPEM, Metadata: cert}, nil
}

func (i *issuer) enter() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed {
		i.ongoing.Add(1)
	}
	return !i.closed
}

// close waits for the attempts under way, whose contexts have ended.
func (i *issuer) close() {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.ongoing.Wait()
	i.http.CloseIdleConnections()
}

// gate is what stands before every order.
func (i *issuer) gate(ctx context.Context, name string) error {
	if until, why, paused := i.ledger.paused(name, time.Now()); paused {
		return &Delay{Until: until, Err: errors.New(why)}
	}
	if err := i.allow(ctx, name); err != nil {
		return fmt.Errorf("not allowed: %w", err)
	}
	return nil
}

// allow is Config.Allow with the wildcard as the domain.
func (i *issuer) allow(ctx context.Context, name string) error {
	return i.cfg.Allow(ctx, strings.TrimPrefix(name, "*."))
}

// failed notes an attempt that failed, and says when the next may be. What our
// own end broke off is no failure.
func (i *issuer) failed(ctx context.Context, a *attempt, name string, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if _, wait, _ := a.seen(); !wait.IsZero() && errors.Is(err, errWait) {
		err = fmt.Errorf("%w until %s", errWait, wait.Format(time.RFC3339))
	}
	i.lost.Add(1)
	until := i.ledger.fail(name, a, err, time.Now())
	i.cfg.Logger.Warn("certificate: the order failed", "host", name, "attempt", i.ledger.failures(name),
		"err", clean(err.Error()), "next", until.Format(time.RFC3339))
	return &Delay{Until: until, Err: plain{err}}
}

// obtain makes one order for name. An account that the CA does not know, as
// after it was reset, is made anew once.
func (i *issuer) obtain(ctx context.Context, a *attempt, name string, csr *x509.CertificateRequest) (acme.Certificate, error) {
	kind, client := i.client(name)
	if kind == acme.ChallengeTypeDNS01 {
		leave, err := i.enterDNS(ctx)
		if err != nil {
			return acme.Certificate{}, err
		}
		defer leave()
	}
	dir, err := client.GetDirectory(ctx)
	if err != nil {
		return acme.Certificate{}, fmt.Errorf("directory: %w", err)
	}
	a.newOrder = dir.NewOrder
	cert, err := i.order(ctx, client, a, name, csr)
	var problem acme.Problem
	if errors.As(err, &problem) && problem.Type == acme.ProblemTypeAccountDoesNotExist {
		i.forget(ctx)
		cert, err = i.order(ctx, client, a, name, csr)
	}
	if err == nil {
		i.good.Store(int32(max(0, slices.Index(i.kinds(), kind))))
	}
	return cert, err
}

// enterDNS waits until no other order is under way by DNS-01. The domain and its
// wildcard are proven at the same name, and many a program that is run for that
// sets the one value of it, or removes whatever is there.
func (i *issuer) enterDNS(ctx context.Context) (leave func(), err error) {
	select {
	case i.alone <- struct{}{}:
		return func() { <-i.alone }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// order goes once through RFC 8555 section 7.4. The default chain is taken of
// those offered.
func (i *issuer) order(ctx context.Context, client *acmez.Client, a *attempt, name string, csr *x509.CertificateRequest) (acme.Certificate, error) {
	account, err := i.account(ctx, client)
	if err != nil {
		return acme.Certificate{}, fmt.Errorf("account: %w", err)
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return acme.Certificate{}, fmt.Errorf("order: %w", err)
	}
	if i.ledger.failures(name) == 0 {
		params.Replaces = i.stored(ctx, name)
	}
	chains, err := client.ObtainCertificate(ctx, params)
	if params.Replaces != nil && a.refused(err) {
		params.Replaces = nil
		chains, err = client.ObtainCertificate(ctx, params)
	}
	if err != nil {
		return acme.Certificate{}, err
	}
	if len(chains) == 0 {
		return acme.Certificate{}, errors.New("order: the CA sent no certificate")
	}
	return chains[0], nil
}

// stored is the certificate that a renewal replaces: CAs take renewals that
// say so out of their limits (RFC 9773 section 5). nil: none.
func (i *issuer) stored(ctx context.Context, name string) *x509.Certificate {
	b, err := i.store.Load(ctx, certmagic.StorageKeys.SiteCert(i.IssuerKey(), name))
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

// kinds are the challenges for names that DNS-01 is not used for.
func (i *issuer) kinds() []string {
	if len(i.cfg.Challenges) > 0 {
		return i.cfg.Challenges
	}
	return []string{HTTP01, TLSALPN01}
}

// client is an ACME client with one solver, so that an attempt is one order:
// DNS-01 for what is ours if there is a provider, else the kind that worked
// last, and after a failure the next.
func (i *issuer) client(name string) (kind string, client *acmez.Client) {
	client = i.plainClient()
	if i.dns != nil && i.ours(name) {
		client.ChallengeSolvers = map[string]acmez.Solver{acme.ChallengeTypeDNS01: i.dns}
		return acme.ChallengeTypeDNS01, client
	}
	kinds := i.kinds()
	kind = kinds[(int(i.good.Load())+i.ledger.failures(name))%len(kinds)]
	client.ChallengeSolvers = map[string]acmez.Solver{kind: alpnSolver{i.solvers}}
	if kind == HTTP01 {
		client.ChallengeSolvers[kind] = httpSolver{i.solvers}
	}
	return kind, client
}

func (i *issuer) ours(name string) bool { return strings.TrimPrefix(name, "*.") == i.cfg.Domain }

func (i *issuer) plainClient() *acmez.Client {
	return &acmez.Client{Client: &acme.Client{
		Directory: i.ca, HTTPClient: i.http, UserAgent: "adit", PollTimeout: 5 * time.Minute,
		Logger: i.libs,
	}}
}

// GetRenewalInfo asks the CA when it wants cert renewed (RFC 9773).
func (i *issuer) GetRenewalInfo(ctx context.Context, cert certmagic.Certificate) (acme.RenewalInfo, error) {
	if !i.enter() {
		return acme.RenewalInfo{}, errClosed
	}
	defer i.ongoing.Done()
	return i.plainClient().GetRenewalInfo(ctx, cert.Leaf)
}
