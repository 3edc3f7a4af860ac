package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// pollEvery is how often the folder is looked at. A change is acted on when two
// looks in a row see the same: whoever writes a pair writes one file first.
// Looking, and not being told, sees links that are turned elsewhere too.
const pollEvery = time.Second

// files is ModeFiles: NAME.crt and NAME.key in a folder. The names served are
// those in the certificates.
type files struct {
	cfg   *Config
	index atomic.Pointer[map[string]*tls.Certificate] // by name, wildcards as *.

	stop context.CancelFunc
	done chan struct{}

	pairs map[string]*pair // by NAME; watch's own, and start's before it
	seen  string           // what the last look saw
	acted string           // what was last acted on
}

// pair is the last good pair of a NAME.
type pair struct {
	look string // of the two files
	cert *tls.Certificate
	err  error // why a later state of the files was not taken
}

func newFiles(cfg *Config) (*files, error) {
	if cfg.CertDir == "" {
		return nil, errors.New("the folder with the certificates is missing")
	}
	f := &files{cfg: cfg, pairs: map[string]*pair{}, done: make(chan struct{})}
	f.index.Store(&map[string]*tls.Certificate{})
	return f, nil
}

// start reads the folder once and watches it from then on.
func (f *files) start(ctx context.Context) error {
	looks, err := f.look()
	if err != nil {
		return fmt.Errorf("--cert-dir: %w", err)
	}
	f.load(looks)
	f.seen = fmt.Sprint(looks)
	f.acted = f.seen
	ctx, f.stop = context.WithCancel(ctx)
	go f.watch(ctx)
	return nil
}

func (f *files) close() {
	f.stop()
	<-f.done
}

func (f *files) watch(ctx context.Context) {
	defer close(f.done)
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f.poll()
		}
	}
}

// poll acts on a change that has come to rest.
func (f *files) poll() {
	looks, err := f.look()
	if err != nil {
		if f.seen != err.Error() {
			f.cfg.Logger.Error("certificates: the folder cannot be read, what was loaded stays", "err", err)
		}
		f.seen = err.Error()
		return
	}
	now := fmt.Sprint(looks)
	if now == f.seen && now != f.acted {
		f.load(looks)
		f.acted = now
	}
	f.seen = now
}

// look gives, for every NAME with a .crt or .key, what the two files look like
// from outside.
func (f *files) look() (map[string]string, error) {
	entries, err := os.ReadDir(f.cfg.CertDir)
	if err != nil {
		return nil, err
	}
	looks := map[string]string{}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if name := strings.TrimSuffix(e.Name(), ext); name != "" && (ext == ".crt" || ext == ".key") {
			looks[name] = f.lookAt(name+".crt") + " " + f.lookAt(name+".key")
		}
	}
	return looks, nil
}

// lookAt follows links.
func (f *files) lookAt(file string) string {
	info, err := os.Stat(filepath.Join(f.cfg.CertDir, file))
	if err != nil {
		return "missing"
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano(), info.Mode(), inode(info))
}

// load takes the pairs that look different, and forgets those that are gone.
// A bad one leaves the last good one in place.
func (f *files) load(looks map[string]string) {
	maps.DeleteFunc(f.pairs, func(name string, _ *pair) bool { return looks[name] == "" })
	for name, look := range looks {
		p := f.pairs[name]
		if p == nil {
			p = &pair{}
			f.pairs[name] = p
		}
		if p.look != look {
			f.loadOne(name, p)
			p.look = look
		}
	}
	index := f.indexed()
	f.tell(*f.index.Swap(&index), index)
}

// tell says which names https works for that it did not work for before.
func (f *files) tell(before, now map[string]*tls.Certificate) {
	for name := range now {
		if old := before[name]; old == nil || time.Now().After(old.Leaf.NotAfter) {
			f.cfg.Notify(name, nil)
		}
	}
}

func (f *files) loadOne(name string, p *pair) {
	cert, err := loadPair(filepath.Join(f.cfg.CertDir, name))
	p.err = err
	if err != nil {
		f.cfg.Logger.Error("certificates: pair not taken", "name", clean(name), "kept", p.cert != nil, "err", clean(err.Error()))
		return
	}
	p.cert = cert
	f.cfg.Logger.Info("certificates: loaded", "name", clean(name), "names", clean(strings.Join(names(cert.Leaf), " ")),
		"expires", cert.Leaf.NotAfter)
}

// loadPair reads base.crt and base.key.
func loadPair(base string) (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(base+".crt", base+".key")
	if err != nil {
		return nil, err
	}
	switch {
	case len(names(cert.Leaf)) == 0:
		return nil, errors.New("the certificate has no names")
	case time.Now().After(cert.Leaf.NotAfter):
		return nil, fmt.Errorf("the certificate expired on %s", cert.Leaf.NotAfter.Format(time.DateOnly))
	}
	return &cert, nil
}

// names are what c is for: the subject's name does not count (RFC 9525 section
// 2).
func names(c *x509.Certificate) []string {
	out := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}

// indexed is the good pairs by name; of two with one name, the one that lasts
// longer.
func (f *files) indexed() map[string]*tls.Certificate {
	index := map[string]*tls.Certificate{}
	for _, p := range f.pairs {
		if p.cert == nil {
			continue
		}
		for _, name := range names(p.cert.Leaf) {
			name = strings.ToLower(name)
			if old := index[name]; old == nil || p.cert.Leaf.NotAfter.After(old.Leaf.NotAfter) {
				index[name] = p.cert
			}
		}
	}
	return index
}

// certificate is name's own, or a wildcard's for its first label (RFC 9525
// section 6.3).
func (f *files) certificate(name string, hello *tls.ClientHelloInfo) *tls.Certificate {
	index := *f.index.Load()
	if name == "" {
		if c := index[localAddress(hello)]; c != nil {
			return c
		}
		name = f.cfg.Domain
	}
	if c := index[name]; c != nil {
		return c
	}
	if _, rest, ok := strings.Cut(name, "."); ok {
		return index["*."+rest]
	}
	return nil
}

func (f *files) ready(host string) bool {
	c := f.certificate(host, nil)
	return c != nil && time.Now().Before(c.Leaf.NotAfter)
}

func (f *files) ensure(host, _ string) Status {
	if f.ready(host) {
		return Status{Ready: true}
	}
	return Status{Err: fmt.Errorf("no certificate in %s is for %s", f.cfg.CertDir, host)}
}
