//go:build unix

package gateway

import (
	"log/slog"
	"os"
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

// TestAdviceRoot: root in another's state folder is told so, also by check
// unless the gateway runs, and root on its own where it opens ports to all.
func TestAdviceRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only for root")
	}
	public := func(c *Config) { c.Domain = "gw.test" }
	give := func(c *Config) {
		if err := os.Chown(c.State, 12345, 12345); err != nil {
			t.Fatal(err)
		}
	}
	if log := startLog(t); strings.Contains(log, "root:") {
		t.Errorf("local: %s", log)
	}
	if log := startLog(t, public); !strings.Contains(log, "root: adit need not be") {
		t.Errorf("public: %s", log)
	}
	if log := startLog(t, public, give); strings.Count(log, "root:") != 1 || !strings.Contains(log, "owner=12345") {
		t.Errorf("another's: %s", log)
	}
	cfg := config(newState(t))
	give(&cfg)
	checked := func() string {
		var out strings.Builder
		Check(t.Context(), cfg, &out)
		return out.String()
	}
	const want = " belongs to 12345, who cannot read what root makes in it. Run serve as that account"
	if out := checked(); !strings.Contains(out, "warn  state folder: "+cfg.State+want) {
		t.Error(out)
	}
	start(t, cfg.State)
	if out := checked(); strings.Contains(out, want) {
		t.Error(out)
	}
}
