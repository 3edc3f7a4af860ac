//go:build unix

package gateway

import (
	"log/slog"
	"strings"
	"testing"
)

// TestSettingsWithoutEffect: what has none beside the others is named, and what
// is in force, or only says what is so anyway, is not.
func TestSettingsWithoutEffect(t *testing.T) {
	acme := ACME{Email: "a@b.test", CA: "https://ca.test", CARoot: "/r", EAB: "k:v", NamesPerDay: 3, DNS: "exec", DNSExec: "/x"}
	tests := []struct {
		cfg  Config
		want string
	}{
		{Config{}, ""}, {Config{Domain: "gw.test"}, ""},
		{Config{TLS: "internal", HTTPS: "off", Redirect: "on", HTTP3: "on", PublicHTTPS: 443}, "--tls --redirect --http3 --public-https"},
		{Config{TLS: "files", HTTPS: "off", CertDir: "/c"}, "--tls --cert-dir"},
		{Config{TLS: "off", HTTPS: "off", Redirect: "off", HTTP3: "off"}, ""},
		{Config{TLS: "internal", Redirect: "on", HTTP3: "on", PublicHTTPS: 443}, ""},
		{Config{ACME: acme}, "--acme-email --acme-ca --acme-ca-root --acme-eab --dns --dns-exec --acme-names-per-day"},
		{Config{Domain: "gw.test", ACME: acme}, ""},
		{Config{Domain: "gw.test", HTTPS: "off", ACME: ACME{Email: "a@b.test"}}, "--acme-email"},
		{Config{ACME: ACME{DNS: "rfc2136", DNSServer: "ns.test:53", DNSKey: "a:b:c"}}, "--dns --dns-server --dns-key"},
		{Config{TCPPorts: "off", TCPHost: "::1", MaxPorts: 3}, "--tcp-host --max-ports"},
		{Config{TCPHost: "::1", MaxPorts: 3}, ""},
	}
	for _, tt := range tests {
		s, err := resolve(tt.cfg)
		if err != nil {
			t.Errorf("%+v: %v", tt.cfg, err)
			continue
		}
		var got []string
		for _, i := range s.idle {
			got = append(got, i.flag)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%+v: %s, want %s", tt.cfg, got, tt.want)
		}
	}
}

// startLog is what a gateway logs at its start.
func startLog(t *testing.T, change ...func(*Config)) string {
	t.Helper()
	var log strings.Builder
	logger := func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }
	g := opened(t, newState(t), append(change, logger)...)
	g.Close()
	return log.String()
}

// TestAdviceSettings: serve has one line for all of them, check one for each.
func TestAdviceSettings(t *testing.T) {
	change := func(c *Config) { c.Redirect, c.ACME.Email, c.TCPHost = "on", "a@b.test", "" }
	if log := startLog(t, change); !strings.Contains(log, `adit check says why" settings="[--redirect --acme-email]"`) {
		t.Error(log)
	}
	cfg := config(newState(t))
	change(&cfg)
	var out strings.Builder
	Check(t.Context(), cfg, &out)
	for _, want := range []string{"warn  configuration: --redirect has no effect: HTTPS is off\n", "warn  configuration: --acme-email has no effect: HTTPS is off\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
}
