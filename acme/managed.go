package acme

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

// renewEvery is how often certmagic looks at the certificates in memory, which
// costs a few comparisons each. It renews when a third of the life is left, or
// when the CA says (RFC 9773); the look is often for the sake of CAs whose
// certificates last minutes.
const renewEvery = 10 * time.Second

// tendEvery is how often we look after what it left, and say so.
const tendEvery = 10 * time.Minute

// flushEvery is how often a disk that did not take something is tried again.
const flushEvery = 10 * time.Second

// ledgerKey is where the ledger is stored.
const ledgerKey = "names.json"

// managed is ModeACME. certmagic stores, caches and renews; when an order may
// be made, and for whom, is decided here.
type managed struct {
	cfg     *Config
	store   *store
	ledger  *ledger
	issuer  *issuer
	solvers *solvers
	dns     *dnsSolver // nil: no DNS-01

	magic *certmagic.Config // since start
	cache *certmagic.Cache

	stop    context.CancelFunc
	done    chan struct{} // closed when run has returned
	wake    chan struct{} // there may be something to do
	working sync.WaitGroup
	waiting atomic.Uint64 // names that the budget had no room for

	mu     sync.Mutex
	wants  map[string]*want
	loaded map[string]bool // names that were once put into memory
}

func newManaged(cfg *Config) (*managed, error) {
	if err := checkACME(cfg); err != nil {
		return nil, err
	}
	client, err := httpClient(cfg.CARootFile)
	if err != nil {
		return nil, err
	}
	m := &managed{
		cfg: cfg, solvers: newSolvers(), wake: make(chan struct{}, 1), wants: map[string]*want{}, loaded: map[string]bool{},
		store: newStore(filepath.Join(cfg.State, "certificates"), cfg.Logger),
	}
	m.store.before = cfg.BeforeWrite
	if m.dns, err = newDNSSolver(cfg); err != nil {
		return nil, err
	}
	m.ledger = m.openLedger()
	libs := slog.New(quiet{cfg.Logger.Handler()})
	m.issuer = &issuer{cfg: cfg, libs: libs, ca: cfg.CA, http: client, store: m.store, ledger: m.ledger, solvers: m.solvers, alone: make(chan struct{}, 1)}
	if m.dns != nil {
		m.issuer.dns = m.dns
	}
	return m, nil
}

// checkACME refuses what could never work.
func checkACME(cfg *Config) error {
	if name, ok := hostname(cfg.Domain); !ok || name != cfg.Domain {
		return fmt.Errorf("domain %q: a host name in lower case is needed", cfg.Domain)
	}
	for _, c := range cfg.Challenges {
		if c != HTTP01 && c != TLSALPN01 {
			return fmt.Errorf("challenge %q: %s or %s expected", c, HTTP01, TLSALPN01)
		}
	}
	if cfg.EAB != "" {
		if _, err := parseEAB(cfg.EAB); err != nil {
			return err
		}
	}
	return checkCA(cfg.CA)
}

// checkCA refuses a directory that RFC 8555 section 6.1 does not allow, but on
// this machine.
func checkCA(ca string) error {
	u, err := url.Parse(ca)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("CA %q: the https URL of an ACME directory is needed", ca)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("CA %q: plain http goes to this machine only", ca)
	}
	return nil
}

// openLedger reads the stored ledger; one that cannot be read is begun anew,
// which the CA's own limits make bearable.
func (m *managed) openLedger() *ledger {
	ctx := context.Background()
	stored, err := m.store.Load(ctx, ledgerKey)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.cfg.Logger.Error("certificates: what was asked of the CA before cannot be read", "err", err)
	}
	l, err := newLedger(m.cfg.NamesPerDay, m.cfg.pause, stored, func(b []byte) { _ = m.store.Store(ctx, ledgerKey, b) })
	if err != nil {
		m.cfg.Logger.Error("certificates: what was asked of the CA before cannot be read", "err", err)
	}
	return l
}

// start loads what is stored and sends for what is missing.
func (m *managed) start(ctx context.Context) error {
	m.ledger.forgive()
	m.store.sweep()
	ctx, m.stop = context.WithCancel(ctx)
	m.done = make(chan struct{})
	renew, tend := cmp.Or(m.cfg.renewEvery, renewEvery), cmp.Or(m.cfg.renewEvery, tendEvery)
	m.magic, m.cache = newMagic(m.store, m.issuer, renew)
	for _, name := range m.own() {
		m.load(ctx, name)
		m.want(name, "", time.Time{})
	}
	go m.run(ctx, tend)
	return nil
}

// newMagic is a certmagic configuration with a cache that renews.
func newMagic(s *store, i *issuer, every time.Duration) (*certmagic.Config, *certmagic.Cache) {
	log := zapLogger(i.libs)
	var magic *certmagic.Config
	ready := make(chan struct{}) // the cache may ask before magic is set
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { <-ready; return magic, nil },
		RenewCheckInterval: every, Logger: log,
	})
	magic = certmagic.New(cache, certmagic.Config{
		Storage: s, Issuers: []certmagic.Issuer{i}, Logger: log,
		KeySource:           certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		OCSP:                certmagic.OCSPConfig{DisableStapling: true}, // loading must not wait for a network
		DisableStorageCheck: true,                                        // store takes what the disk does not
	})
	close(ready)
	return magic, cache
}

func (m *managed) close() {
	m.stop()
	<-m.done
	m.working.Wait()
	m.cache.Stop()
	m.issuer.close()
	m.store.close()
}

// own are the names that we always have certificates for. certmagic has one
// name in a certificate.
func (m *managed) own() []string {
	if m.dns != nil {
		return []string{m.cfg.Domain, "*." + m.cfg.Domain}
	}
	return []string{m.cfg.Domain}
}

// certificate is the one in memory for name; an expired one if there is no
// better, so that visitors are told the truth.
func (m *managed) certificate(name string, hello *tls.ClientHelloInfo) *tls.Certificate {
	if name == "" {
		name = m.cfg.Domain
	}
	certs := m.cache.AllMatchingCertificates(name)
	if len(certs) == 0 {
		return nil
	}
	best := &certs[0]
	if i := slices.IndexFunc(certs, valid); i >= 0 {
		best = &certs[i]
	}
	return &best.Certificate
}

func valid(c certmagic.Certificate) bool { return !c.Expired() }

func (m *managed) ready(host string) bool {
	return slices.ContainsFunc(m.cache.AllMatchingCertificates(host), valid)
}

// ensure says how it stands with host, and sees to it that host is wanted.
func (m *managed) ensure(host, user string) Status {
	under, oneLabel := below(host, m.cfg.Domain)
	if under && !oneLabel {
		return Status{Err: ErrName}
	}
	name := host
	if under && m.dns != nil {
		name = "*." + m.cfg.Domain
	}
	if !m.ready(host) {
		m.load(context.Background(), name)
	}
	if m.ready(host) {
		return Status{Ready: true}
	}
	if d := m.waits(name, user); d != nil {
		m.want(name, user, d.Until)
		return Status{Err: d}
	}
	m.want(name, user, time.Time{})
	return Status{}
}

// waits is why name has to wait, or nil.
func (m *managed) waits(name, user string) *Delay {
	now := time.Now()
	if until, why, paused := m.ledger.paused(name, now); paused {
		return &Delay{Until: until, Err: errors.New(why)}
	}
	if m.isNew(name) {
		if until := m.ledger.over(name, user, now); !until.IsZero() {
			return m.overBudget(until)
		}
	}
	return nil
}

func (m *managed) overBudget(until time.Time) *Delay {
	m.waiting.Add(1)
	return &Delay{Until: until, Err: ErrBudget}
}

// isNew says whether name would be new to the CA: not ours, and never had.
func (m *managed) isNew(name string) bool {
	return !slices.Contains(m.own(), name) &&
		!m.store.Exists(context.Background(), certmagic.StorageKeys.SiteCert(m.issuer.IssuerKey(), name))
}

// load puts name's stored certificate into memory, if there is one. A key and
// a certificate that do not belong together, as a kill between their writing
// leaves them, are of no use to anybody and go.
func (m *managed) load(ctx context.Context, name string) {
	if len(m.cache.AllMatchingCertificates(name)) > 0 {
		return
	}
	_, err := m.magic.CacheManagedCertificate(ctx, name)
	m.note(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) || !m.broken(ctx, name) {
		return
	}
	m.cfg.Logger.Error("certificate: stored key and certificate do not fit, both dropped", "host", name, "err", clean(err.Error()))
	if err := m.store.Delete(ctx, certmagic.StorageKeys.CertsSitePrefix(m.issuer.IssuerKey(), name)); err != nil {
		m.cfg.Logger.Error("certificate: not dropped", "host", name, "err", err)
	}
}

// note remembers that name may be in memory, which certmagic cannot list.
func (m *managed) note(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loaded[name] = true
}

// broken says whether name's stored pair can be read and is none.
func (m *managed) broken(ctx context.Context, name string) bool {
	key := m.issuer.IssuerKey()
	cert, err := m.store.Load(ctx, certmagic.StorageKeys.SiteCert(key, name))
	if err != nil {
		return false
	}
	private, err := m.store.Load(ctx, certmagic.StorageKeys.SitePrivateKey(key, name))
	if err != nil {
		return false
	}
	_, err = tls.X509KeyPair(cert, private)
	return err != nil
}
