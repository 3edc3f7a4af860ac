package acme

import (
	"context"
	"crypto/tls"
	"strings"
	"sync"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// challengePath is where HTTP-01 tokens are asked for (RFC 8555 section 8.3).
const challengePath = "/.well-known/acme-challenge/"

// solvers are the challenges that are pending, to be answered by whoever holds
// ports 80 and 443: nothing here listens.
type solvers struct {
	mu     sync.RWMutex
	tokens map[string]string           // host + path: key authorization
	hellos map[string]*tls.Certificate // host: the certificate to show
}

func newSolvers() *solvers {
	return &solvers{tokens: map[string]string{}, hellos: map[string]*tls.Certificate{}}
}

// http is the answer to a request for path on host.
func (s *solvers) http(host, path string) (string, bool) {
	if !strings.HasPrefix(path, challengePath) {
		return "", false
	}
	name, ok := hostname(host)
	if !ok {
		return "", false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	body, ok := s.tokens[name+path]
	return body, ok
}

// alpn is the certificate for a CA that validates host, or nil.
func (s *solvers) alpn(host string) *tls.Certificate {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.hellos[host]
}

// httpSolver and alpnSolver put one kind of challenge into solvers.
type (
	httpSolver struct{ *solvers }
	alpnSolver struct{ *solvers }
)

var _, _ acmez.Solver = httpSolver{}, alpnSolver{}

func (s httpSolver) Present(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[c.Identifier.Value+c.HTTP01ResourcePath()] = c.KeyAuthorization
	return nil
}

func (s httpSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, c.Identifier.Value+c.HTTP01ResourcePath())
	return nil
}

func (s alpnSolver) Present(_ context.Context, c acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hellos[c.Identifier.Value] = cert
	return nil
}

func (s alpnSolver) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.hellos, c.Identifier.Value)
	return nil
}
