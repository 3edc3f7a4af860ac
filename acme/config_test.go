package acme

import (
	"log/slog"
	"strings"
	"testing"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]Config{
		"mode":             {},
		"domain":           {Mode: ModeACME},
		"lower case":       {Mode: ModeACME, Domain: "GW.test"},
		"challenge":        {Mode: ModeACME, Domain: "gw.test", Challenges: []string{"dns-01"}},
		"KID:KEY":          {Mode: ModeACME, Domain: "gw.test", EAB: "nonsense"},
		"https URL":        {Mode: ModeACME, Domain: "gw.test", CA: "ftp://ca.test/"},
		"this machine":     {Mode: ModeACME, Domain: "gw.test", CA: "http://ca.test/"},
		"roots of the CA":  {Mode: ModeACME, Domain: "gw.test", CARootFile: "/nonexistent"},
		"no PEM":           {Mode: ModeACME, Domain: "gw.test", CARootFile: "/dev/null"},
		"rfc2136 or exec":  {Mode: ModeACME, Domain: "gw.test", DNS: DNSConfig{Provider: "route53"}},
		"takes updates":    {Mode: ModeACME, Domain: "gw.test", DNS: DNSConfig{Provider: "rfc2136"}},
		"NAME:ALG:SECRET":  {Mode: ModeACME, Domain: "gw.test", DNS: DNSConfig{Provider: "rfc2136", Server: "ns", Key: "k"}},
		"program to run":   {Mode: ModeACME, Domain: "gw.test", DNS: DNSConfig{Provider: "exec"}},
		"folder with the":  {Mode: ModeFiles},
		"executable file ": {Mode: ModeACME, Domain: "gw.test", DNS: DNSConfig{Provider: "exec", Exec: "no-such-program"}},
	} {
		cfg.Logger = discard()
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, ca := range []string{"", "https://ca.test/dir", "http://127.0.0.1:1/dir", "http://localhost/dir", "http://[::1]/dir"} {
		if _, err := New(Config{Mode: ModeACME, Domain: "gw.test", CA: ca, Logger: discard()}); err != nil {
			t.Errorf("%q: %v", ca, err)
		}
	}
}

// IssuerKey is where certmagic has the CA's certificates: another name would
// order everything anew.
func TestIssuerKey(t *testing.T) {
	t.Parallel()
	for ca, want := range map[string]string{
		letsEncrypt: "acme-v02.api.letsencrypt.org-directory", "https://ca.test:14000/dir": "ca.test:14000-dir", "https://ca.test": "ca.test",
		"https://acme.zerossl.com/v2/DV90": "acme.zerossl.com-v2-DV90",
	} {
		if got := (&issuer{ca: ca}).IssuerKey(); got != want {
			t.Error(ca, got)
		}
	}
}
