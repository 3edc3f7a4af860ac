// Package acme has the certificates: from an ACME CA through certmagic, from
// an internal CA of its own, or from files. It knows nothing of tunnels: whether
// a host may have a certificate is asked of Config.Allow.
package acme

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"
)

// What Config.Mode can be.
const (
	ModeACME     = "acme"     // RFC 8555, by certmagic
	ModeInternal = "internal" // a CA made here, trusted by hand
	ModeFiles    = "files"    // NAME.crt and NAME.key, kept by somebody else
)

// The kinds of challenge that Config.Challenges may name.
const (
	HTTP01    = "http-01"     // RFC 8555 section 8.3, on port 80
	TLSALPN01 = "tls-alpn-01" // RFC 8737, on port 443
)

// Config is how certificates are had. Only State, Domain and what belongs to
// Mode is read.
type Config struct {
	// Mode is ModeACME, ModeInternal or ModeFiles.
	Mode string
	// State is the state folder. Below it lie certificates/ (certmagic's
	// storage) and internal-ca/; folders are 0700, files 0600.
	State string
	// Domain is the domain that is ours, in lower case. It always gets a
	// certificate; so do the names one label below it that are asked for.
	Domain string

	// Email is the ACME account's contact. Empty: none.
	Email string
	// CA is the directory's URL (RFC 8555 section 7.1.1). Empty: Let's Encrypt.
	// Plain http is taken from a loopback address only.
	CA string
	// CARootFile is a PEM file with the roots that the CA's own https
	// certificate is checked against. Empty: the system's.
	CARootFile string
	// EAB is the external account binding, "KID:KEY" with the key in base64url
	// (RFC 8555 section 7.3.4). Empty: none.
	EAB string
	// Challenges are those whose port of ours the CA reaches, the first tried
	// first. Empty: HTTP01 and TLSALPN01. Every attempt makes one order with
	// one of them, and a failure moves on to the next.
	Challenges []string
	// NamesPerDay bounds how many names get their first certificate within 24
	// hours; one user may have half of them, rounded up. 0: 6.
	NamesPerDay int
	// DNS is how DNS-01 records are made. With it, *.Domain and Domain are
	// certified and names below need nothing of their own.
	DNS DNSConfig
	// Resolver is the host:port asked for CNAMEs, zones and whether a DNS-01
	// record is out. Empty: the system's, and each zone's own servers.
	Resolver string

	// Running says that a gateway may run on State while Report is made: it leaves
	// DNS records as they are then.
	Running bool
	// CATime is told by Report what time the CA has. nil: nobody is told.
	CATime func(time.Time)

	// CertDir is where ModeFiles looks.
	CertDir string

	// Allow says whether host may have a certificate now: a live tunnel has
	// it, or it is ours. It is asked before every order and every renewal (for
	// the wildcard with Domain), never in a handshake of ModeACME; in
	// ModeInternal a handshake asks it for names outside Domain. nil: every
	// name may.
	Allow func(ctx context.Context, host string) error
	// BeforeWrite is called, if not nil, before something is stored on disk.
	BeforeWrite func()
	// Logger receives what happens, never a key. nil: slog.Default().
	Logger *slog.Logger
	// Notify is told when something changes with the certificate of a host
	// that Ensure was called for, or of Domain, or of "*.Domain", which stands
	// for all hosts below: nil when https works, else a *Delay. It must return
	// at once. nil: nobody is told.
	Notify func(host string, err error)

	renewEvery time.Duration           // in place of renewEvery and tendEvery; 0: those
	pause      func(int) time.Duration // after the n-th failure in a row; nil: pauseAfter
}

// DNSConfig is how DNS-01 records (RFC 8555 section 8.4) are made.
type DNSConfig struct {
	// Provider is "rfc2136", "exec", or empty: no DNS-01.
	Provider string
	// Server is the host:port that takes dynamic updates (RFC 2136). Without a
	// port: 53.
	Server string
	// Key is the TSIG key (RFC 8945), "NAME:ALG:SECRET": hmac-sha1 to
	// hmac-sha512, the secret in base64. Empty: unsigned updates.
	Key string
	// Exec is run as "Exec present|cleanup FQDN VALUE", FQDN with its final
	// dot. It has two minutes, for cleanup twenty seconds.
	Exec string
}

// Status is how it stands with a host's certificate.
type Status struct {
	// Ready says that https is served with a valid certificate now.
	Ready bool
	// Err says why not; nil while that is under way. A *Delay when it is tried
	// again.
	Err error
}

// Delay says why a certificate is not there yet.
type Delay struct {
	Until time.Time // when it is tried again
	Err   error     // bounded, without control characters
}

func (d *Delay) Error() string {
	return fmt.Sprintf("%v; tried again %s", d.Err, d.Until.Format(time.RFC3339))
}

func (d *Delay) Unwrap() error { return d.Err }

// Stats is how many certificates there are now, and what New's Manager has asked
// for since. Its numbers are of all names together.
type Stats struct {
	Held    int       // certificates in memory
	Expiry  time.Time // when the first of those ends that Allow permits; zero: there is none
	Orders  uint64    // begun at the CA, renewals too
	Failed  uint64    // of Orders
	Waiting uint64    // how often a new name had to wait for the budget (ErrBudget)
	Unsaved int       // files that the disk has not taken
}

// Level says how good the news of a Line is.
type Level int

const (
	OK   Level = iota // as it should be
	Warn              // works, for now or in part
	Fail              // https does not work
)

// Line is one finding of Report.
type Line struct {
	Level Level
	What  string // "certificate app.example.com", "dns update"
	Text  string // the finding, and what to do
}

// source is one Mode.
type source interface {
	// start begins the work that ends with ctx or close; it waits for nobody
	// outside this machine.
	start(ctx context.Context) error
	// close ends that work and waits for it.
	close()
	// certificate is what a visitor who asks for name is shown; nil: nothing.
	// name is empty when the visitor named none.
	certificate(name string, hello *tls.ClientHelloInfo) *tls.Certificate
	ensure(host, user string) Status
	ready(host string) bool
	report(ctx context.Context) []Line
	stats() Stats
}

// Manager has the certificates of one gateway.
type Manager struct {
	cfg  *Config
	from source
	tls  *tls.Config
}

// New checks cfg and reads the files it needs for that. It changes nothing,
// starts nothing and asks nobody.
func New(cfg Config) (*Manager, error) {
	cfg.defaults()
	from, err := newSource(&cfg)
	if err != nil {
		return nil, err
	}
	m := &Manager{cfg: &cfg, from: from}
	m.tls = m.config()
	return m, nil
}

func (cfg *Config) defaults() {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Allow == nil {
		cfg.Allow = func(context.Context, string) error { return nil }
	}
	if cfg.Notify == nil {
		cfg.Notify = func(string, error) {}
	}
	if cfg.CATime == nil {
		cfg.CATime = func(time.Time) {}
	}
	if cfg.CA == "" {
		cfg.CA = letsEncrypt
	}
}

func newSource(cfg *Config) (source, error) {
	switch cfg.Mode {
	case ModeACME:
		return newManaged(cfg)
	case ModeInternal:
		return newInternal(cfg), nil
	case ModeFiles:
		return newFiles(cfg)
	}
	return nil, fmt.Errorf("mode %q: not %s, %s or %s", cfg.Mode, ModeACME, ModeInternal, ModeFiles)
}

// Start loads what there is and begins the work in the background, which ends
// with ctx. It never waits for a CA. An error is one of this machine: files
// that cannot be read or made. Nothing but Report may be called before it.
func (m *Manager) Start(ctx context.Context) error { return m.from.start(ctx) }

// Close ends the background work and waits for it. It is to be called once,
// after Start succeeded.
func (m *Manager) Close() { m.from.close() }

// Ensure is called when a tunnel opens, for its host and the user who has it:
// host gets a certificate in the background unless it has one, and Notify
// hears of it. It returns at once.
func (m *Manager) Ensure(host, user string) Status {
	name, ok := hostname(host)
	if !ok {
		return Status{Err: ErrName}
	}
	return m.from.ensure(name, user)
}

// Ready says whether https works for host now: an unexpired certificate is in
// memory, or can be made there. Cheap enough for every request.
func (m *Manager) Ready(host string) bool {
	name, ok := hostname(host)
	return ok && m.from.ready(name)
}

// Report is for the operator: certificates, their expiry and next renewal,
// whether the CA answers and the DNS update is accepted. It needs no Start and
// changes nothing but the DNS record that it tries, and not that beside a gateway.
func (m *Manager) Report(ctx context.Context) []Line { return m.from.report(ctx) }

// Stats may be asked for at any time after Start, and costs about a lookup for
// each certificate.
func (m *Manager) Stats() Stats { return m.from.stats() }

// HTTPChallenge gives the answer to an HTTP-01 request (RFC 8555 section 8.3)
// with this Host and path, if that very token is pending here; else the
// request is somebody else's. It is to be sent as application/octet-stream.
func (m *Manager) HTTPChallenge(host, path string) (body string, ok bool) {
	if a, is := m.from.(*managed); is {
		return a.solvers.http(host, path)
	}
	return "", false
}

// Pending says whether a TLS-ALPN-01 challenge (RFC 8737) for host is pending
// here: a visitor who offers acme-tls/1 for it is ours and not the local
// service's, even where TLS is passed through.
func (m *Manager) Pending(host string) bool {
	a, is := m.from.(*managed)
	name, ok := hostname(host)
	return is && ok && a.solvers.alpn(name) != nil
}

// InternalRoot is the file with ModeInternal's root certificate, to be trusted
// by whoever visits. It exists once Start has returned.
func (m *Manager) InternalRoot() string {
	return filepath.Join(m.cfg.State, "internal-ca", "root.crt")
}

// Trust says how a root certificate is tried, and trusted for good.
func Trust(root string) string {
	return "curl --cacert " + root + ", or import that file in the browser"
}
