package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// report of ModeACME reads what is stored, so that it works beside a running
// gateway and without one.
func (m *managed) report(ctx context.Context) []Line {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	lines := []Line{m.reportCA(ctx)}
	if m.dns != nil {
		lines = append(lines, m.reportDNS(ctx))
	}
	if err := m.store.try(); err != nil {
		lines = append(lines, Line{Warn, "certificates folder", clean(err.Error()) +
			". Certificates are kept in memory only while this lasts, and ordered anew after a restart: make room in it, and let the gateway write there"})
	}
	stored := m.stored(ctx)
	for _, name := range m.own() {
		if !slices.Contains(stored, name) {
			lines = append(lines, Line{Warn, "certificate " + name, "none yet; ordered when the gateway runs" + m.pausedText(name)})
		}
	}
	for _, name := range stored {
		lines = append(lines, m.reportStored(ctx, name))
	}
	return lines
}

// reportCA asks for the directory.
func (m *managed) reportCA(ctx context.Context) Line {
	ctx, a := withAttempt(ctx)
	dir, err := m.issuer.plainClient().GetDirectory(ctx)
	if now := a.now(); !now.IsZero() {
		m.cfg.CATime(now)
	}
	if err != nil {
		return Line{Warn, "acme ca", clean(m.issuer.ca+" does not answer: "+err.Error()) +
			". Until it does there is no new certificate, and new names stay on http: look at this machine's network, --acme-ca and --acme-ca-root"}
	}
	if dir.Meta != nil && dir.Meta.ExternalAccountRequired && m.cfg.EAB == "" {
		return Line{Fail, "acme ca", m.issuer.ca + ": " + errNoBinding.Error()}
	}
	return Line{OK, "acme ca", m.issuer.ca}
}

// stored are the names with a certificate on disk.
func (m *managed) stored(ctx context.Context) (names []string) {
	prefix := certmagic.StorageKeys.CertsPrefix(m.issuer.IssuerKey())
	keys, err := m.store.List(ctx, prefix, true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.cfg.Logger.Error("certificates: cannot be listed", "err", err)
	}
	for _, k := range keys {
		if path.Ext(k) == ".crt" {
			name := strings.TrimSuffix(path.Base(k), ".crt")
			names = append(names, strings.Replace(name, "wildcard_", "*", 1))
		}
	}
	slices.Sort(names)
	return names
}

func (m *managed) reportStored(ctx context.Context, name string) Line {
	leaf := m.issuer.stored(ctx, name)
	if leaf == nil {
		return Line{Fail, "certificate " + name, "cannot be read; dropped and ordered anew when it is wanted"}
	}
	line := expiry(name, leaf)
	switch {
	case line.Level == OK:
		line.Text += ", renewed from " + m.renewal(ctx, name, leaf).Format(time.DateOnly)
	case line.Level == Fail && !slices.Contains(m.own(), name): // that of a name which nobody has, maybe
		line.Level = Warn
		line.Text += "; ordered anew when its tunnel opens"
	case line.Level == Fail:
		line.Text += "; ordered anew when the gateway runs"
	}
	line.Text += m.pausedText(name)
	return line
}

func (m *managed) pausedText(name string) string {
	if until, why, paused := m.ledger.paused(name, time.Now()); paused {
		return fmt.Sprintf(". The last order failed: %s. Tried again %s", why, until.Format(time.RFC3339))
	}
	return ""
}

// renewal is when name's certificate is due: when the CA said, or with a third
// of its life left.
func (m *managed) renewal(ctx context.Context, name string, leaf *x509.Certificate) time.Time {
	var about struct {
		IssuerData acme.Certificate `json:"issuer_data"`
	}
	b, err := m.store.Load(ctx, certmagic.StorageKeys.SiteMeta(m.issuer.IssuerKey(), name))
	if err == nil && json.Unmarshal(b, &about) == nil {
		if ari := about.IssuerData.RenewalInfo; ari != nil && !ari.SelectedTime.IsZero() {
			return ari.SelectedTime
		}
	}
	return leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / 3)
}

// expiry says how long leaf lasts; under a fifth of its life is late for one
// that renews by itself.
func expiry(name string, leaf *x509.Certificate) Line {
	line := Line{OK, "certificate " + name, "expires " + leaf.NotAfter.Format(time.DateOnly)}
	switch left := time.Until(leaf.NotAfter); {
	case left < 0:
		line = Line{Fail, line.What, "expired " + leaf.NotAfter.Format(time.DateOnly)}
	case left < leaf.NotAfter.Sub(leaf.NotBefore)/5:
		line.Level = Warn
	}
	return line
}

// reportDNS tries the update, but not beside a gateway: a program may know one
// record of a name only, and that of an order would go with ours.
func (m *managed) reportDNS(ctx context.Context) Line {
	if m.cfg.Running {
		return Line{OK, "dns update", "not tried: an adit that runs may have an order under way, which that could spoil. To try it, stop adit first"}
	}
	return m.dns.try(ctx, m.cfg.Domain)
}

// try makes a challenge's record and removes it.
func (s *dnsSolver) try(ctx context.Context, domain string) Line {
	const what, value = "dns update", "adit-check"
	p, err := s.place(ctx, "_acme-challenge."+domain, value)
	if err != nil {
		return Line{Fail, what, clean("_acme-challenge." + domain + ": " + err.Error())}
	}
	if _, err = s.provider.AppendRecords(ctx, p.zone, p.records()); err == nil {
		_, err = s.provider.DeleteRecords(ctx, p.zone, p.records())
	}
	if s.server != "" {
		p.at += " in " + p.zone
	}
	if err != nil {
		return Line{Fail, what, clean(p.at + ": " + err.Error())}
	}
	return Line{OK, what, p.at + " accepted"}
}

// report of ModeInternal says where the root is, and what start would say of it.
func (in *internal) report(context.Context) []Line {
	file := filepath.Join(in.dir, "root.crt")
	root, err := readRoot(file)
	if errors.Is(err, fs.ErrNotExist) {
		return []Line{{OK, "internal ca", file + ", made when the gateway first runs; then to trust it: " + Trust(file)}}
	}
	var key *ecdsa.PrivateKey
	if err == nil {
		key, err = readRootKey(in.dir)
	}
	if err == nil {
		_, err = openRoot(file, key)
	}
	if err != nil {
		return []Line{{Fail, "internal ca", clean(err.Error())}}
	}
	line := expiry("", root)
	line.What = "internal ca"
	line.Text = file + ", " + line.Text + "; to trust it: " + Trust(file)
	return []Line{line}
}

// report of ModeFiles reads the folder anew and by itself.
func (f *files) report(context.Context) []Line {
	fresh := &files{cfg: f.cfg, pairs: map[string]*pair{}}
	looks, err := fresh.look()
	if err != nil {
		return []Line{{Fail, "certificates", clean(err.Error())}}
	}
	var lines []Line
	for _, name := range slices.Sorted(maps.Keys(looks)) {
		lines = append(lines, fresh.reportOne(name))
	}
	index := fresh.indexed()
	fresh.index.Store(&index)
	if !fresh.ready(f.cfg.Domain) {
		lines = append(lines, Line{Fail, "certificates", "none in " + f.cfg.CertDir + " is for " + f.cfg.Domain})
	}
	return lines
}

func (f *files) reportOne(name string) Line {
	cert, err := loadPair(filepath.Join(f.cfg.CertDir, name))
	if err != nil {
		return Line{Fail, "certificate " + clean(name), clean(err.Error())}
	}
	f.pairs[name] = &pair{cert: cert}
	line := expiry(clean(name), cert.Leaf)
	line.Text += ", for " + clean(strings.Join(names(cert.Leaf), " "))
	return line
}
