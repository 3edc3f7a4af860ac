package acme

import (
	"container/list"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"
)

const (
	// leafLife is short because a leaf costs nothing, and nobody can revoke it.
	leafLife = 24 * time.Hour
	// backdate is how far a visitor's clock may be behind.
	backdate = time.Hour
	// maxLeaves bounds the leaves in memory.
	maxLeaves = 1000
)

// internal is ModeInternal: a CA made once, and leaves made when a visitor
// asks.
type internal struct {
	cfg *Config
	dir string

	root *authority        // since start
	key  *ecdsa.PrivateKey // of every leaf; lives as long as the process

	mu     sync.Mutex
	leaves map[string]*list.Element // of leaf
	recent *list.List               // most recently asked for first
}

// leaf is a certificate for one name.
type leaf struct {
	name  string
	cert  *tls.Certificate
	stale time.Time // when it is made anew
}

func newInternal(cfg *Config) *internal {
	return &internal{
		cfg: cfg, dir: filepath.Join(cfg.State, "internal-ca"),
		leaves: map[string]*list.Element{}, recent: list.New(),
	}
}

// start reads or makes the root. The leaves' key is made here, so that a
// handshake only signs.
func (in *internal) start(context.Context) (err error) {
	if in.root, err = openAuthority(in.dir); err != nil {
		return fmt.Errorf("internal CA: %w", err)
	}
	in.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return err
}

func (in *internal) close() {}

func (in *internal) ready(host string) bool { return in.may(host) }

func (in *internal) ensure(host, _ string) Status {
	if err := in.cfg.Allow(context.Background(), host); !in.ours(host) && err != nil {
		return Status{Err: fmt.Errorf("not allowed: %w", err)}
	}
	return Status{Ready: true}
}

// ours are the names that need no asking: the domain, what is below it, and
// this machine.
func (in *internal) ours(host string) bool {
	under, _ := below(host, in.cfg.Domain)
	local, _ := below(host, "localhost")
	return under || local || host == in.cfg.Domain || host == "localhost"
}

func (in *internal) may(host string) bool {
	return in.ours(host) || in.cfg.Allow(context.Background(), host) == nil
}

// certificate makes a leaf for name, or for the address that the visitor came
// to when he named none (RFC 6066 section 3 has no addresses).
func (in *internal) certificate(name string, hello *tls.ClientHelloInfo) *tls.Certificate {
	if name == "" {
		name = localAddress(hello)
	} else if !in.may(name) {
		return nil
	}
	now := time.Now()
	if c := in.cached(name, now); c != nil {
		return c
	}
	c, err := in.root.issue(name, in.key, now)
	if err != nil {
		in.cfg.Logger.Error("internal CA: no certificate", "host", name, "err", err)
		return nil
	}
	in.keep(&leaf{name: name, cert: c, stale: now.Add(c.Leaf.NotAfter.Sub(now) * 2 / 3)})
	return c
}

// localAddress is where hello came in.
func localAddress(hello *tls.ClientHelloInfo) string {
	if hello != nil && hello.Conn != nil {
		if host, _, err := net.SplitHostPort(hello.Conn.LocalAddr().String()); err == nil && net.ParseIP(host) != nil {
			return host
		}
	}
	return "localhost"
}

func (in *internal) cached(name string, now time.Time) *tls.Certificate {
	in.mu.Lock()
	defer in.mu.Unlock()
	e := in.leaves[name]
	if e == nil || now.After(e.Value.(*leaf).stale) {
		return nil
	}
	in.recent.MoveToFront(e)
	return e.Value.(*leaf).cert
}

// keep puts l into memory in place of an older one, and the least recently
// asked for out of it.
func (in *internal) keep(l *leaf) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if e := in.leaves[l.name]; e != nil {
		in.recent.Remove(e)
	}
	in.leaves[l.name] = in.recent.PushFront(l)
	if in.recent.Len() > maxLeaves {
		last := in.recent.Back()
		delete(in.leaves, in.recent.Remove(last).(*leaf).name)
	}
}

// issue signs a leaf for name, a host name or an IP address.
func (a *authority) issue(name string, key *ecdsa.PrivateKey, now time.Time) (*tls.Certificate, error) {
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName(name)},
		NotBefore:   now.Add(-backdate),
		NotAfter:    earlier(now.Add(leafLife), a.cert.NotAfter),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: parsed}, nil
}

// commonName is name where it fits (RFC 5280 appendix A: ub-common-name is
// 64); who reads certificates by hand looks for it.
func commonName(name string) string {
	if len(name) > 64 {
		return ""
	}
	return name
}
