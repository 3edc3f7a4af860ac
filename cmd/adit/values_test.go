package main

import (
	"encoding"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestValues: what each kind of value takes and refuses.
func TestValues(t *testing.T) {
	long := strings.Repeat("a", 63)
	tests := []struct {
		value     encoding.TextUnmarshaler
		good, bad []string
	}{
		{new(domain), []string{"gw.example.com", "GW.Example.Com.", "gw", "xn--bcher-kva.example", long + ".a"},
			[]string{"", ".", "a..b", "https://a.test", "a.test:80", "-a.test", "a_b.test", "a b", long + "a.b", "192.0.2.1", "::1", strings.Repeat("a.", 95) + "a", "bücher.test"}},
		{new(addresses), []string{":22", "127.0.0.1:22", "[::1]:22", "[fe80::1%eth0]:22", "localhost:80", "127.0.0.1:22,[::1]:22", "off"},
			[]string{"", "22", "127.0.0.1", "::1:22", ":0", ":65536", ":-1", ":ssh", ":22,", "off,:22", " :22", "a b:22", ":+22"}},
		{new(hosts), []string{"127.0.0.1", "::1", "127.0.0.1,::1", "0.0.0.0"}, []string{"", "localhost", "127.0.0.1:80", "[::1]", "off"}},
		{new(networks), []string{"10.0.0.0/8", "127.0.0.1", "::1", "2001:db8::/32,192.0.2.7", "10.0.0.0/8, ::/0", "::ffff:192.0.2.7"},
			[]string{"", ",", "10.0.0.0/33", "10.0.0.1/8", "10/8", "localhost", "fe80::1%eth0", "::ffff:192.0.2.0/120", "10.0.0.0/8;::1", "off"}},
		{new(port), []string{"1", "65535"}, []string{"", "0", "65536", "-1", "+1", "1.0", "0x1", "ssh"}},
		{new(portRange), []string{"20000-29999", "80", "1-1", "off"}, []string{"", "-", "2-1", "0-10", "1-65536", "1-2-3", "a-b"}},
		{new(count), []string{"1", "2147483647"}, []string{"", "0", "-1", "2147483648", "1e3", "ten"}},
		{new(names), []string{"a", "a,b-c", "WWW"}, []string{"", "a,", "a b", "-a", "a.b", "_x"}},
		{new(tlsMode), []string{"off", "acme", "internal", "files"}, []string{"", "on", "ACME"}},
		{new(dnsMode), []string{"rfc2136", "exec"}, []string{"", "off", "route53"}},
		{new(text), []string{"op@example.com", "https://ca.example/dir"}, []string{"", "a b", "a\n", "\x1b"}},
		{new(webURL), []string{"https://ca.example/dir", "http://127.0.0.1:14000/dir"}, []string{"", "ca.example", "ftp://ca.example/", "https:///dir", "https://a b/", "https://ca.example/\n"}},
		{new(tsigKey), []string{"name:hmac-sha256:c2VjcmV0"}, []string{"", "name:c2VjcmV0", "a:b:c:d", "a::b", "a:b: c"}},
		{new(secret), []string{"kid:key", "name:hmac-sha256:c2VjcmV0"}, []string{"", "kid", "a: b", "a:\n"}},
		{new(hostPort), []string{"127.0.0.1:53", "[::1]:53", "ns.example.com:53"}, []string{"", ":53", "ns.example.com", "::1", "a b:53", "ns:0"}},
		{new(onOff), []string{"on", "off"}, []string{"", "true", "On", "yes"}},
		{new(logFormat), []string{"text", "json"}, []string{"", "logfmt"}},
		{new(logLevel), []string{"debug", "info", "warn", "error"}, []string{"", "INFO", "trace"}},
		{new(duration), []string{"1s", "30d", "1d12h", "36500d", "1ns"}, []string{"", "0", "0s", "0d", "d", "30", "-1s", "-1d", "1d-1h", "36501d", "1.5d", "99999999999d", "soon"}},
		{new(patience), []string{"0", "0s", "10s", "1d"}, []string{"", "-1s", "10"}},
		{new(path), []string{"/x", "x", "~/x"}, []string{""}},
		{new(userArg), []string{"ann", "0", "a_b-c", strings.Repeat("a", 64)}, []string{"", "Ann", "_a", "-a", "a.b", "../a", strings.Repeat("a", 65)}},
	}
	for _, tt := range tests {
		for _, text := range tt.good {
			if err := tt.value.UnmarshalText([]byte(text)); err != nil {
				t.Errorf("%T: %q refused: %v", tt.value, text, err)
			}
		}
		for _, text := range tt.bad {
			err := tt.value.UnmarshalText([]byte(text))
			if err == nil {
				t.Errorf("%T: %q taken", tt.value, text)
			} else if strings.Contains(err.Error(), "\n") {
				t.Errorf("%T: %q: more than a sentence: %v", tt.value, text, err)
			}
		}
	}
}

// TestParseDuration: days before Go's own units.
func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"30d": 720 * time.Hour, "1d1h": 25 * time.Hour, "90s": 90 * time.Second} {
		if got, err := parseDuration(text); got != want || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// TestNoWaiting: zero patience is told from none set.
func TestNoWaiting(t *testing.T) {
	c, err := parseWith(t, "", nil, "--park", "0", "--drain", "0s")
	if err != nil {
		t.Fatal(err)
	}
	if cfg := c.plainConfig(); cfg.Park >= 0 || cfg.Drain >= 0 {
		t.Errorf("park %v, drain %v", cfg.Park, cfg.Drain)
	}
}

// TestNetworks: an address stands for itself, whichever way it is written.
func TestNetworks(t *testing.T) {
	c, err := parseWith(t, "trusted-proxies:\n  - 10.0.0.0/8\n  - ::ffff:192.0.2.7\nproxy-protocol-from: 192.0.2.0/24, 2001:db8::1\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := c.plainConfig()
	if got := fmt.Sprint(cfg.TrustedProxies, cfg.ProxyProtocolFrom); got != "[10.0.0.0/8 192.0.2.7/32] [192.0.2.0/24 2001:db8::1/128]" {
		t.Error(got)
	}
}

// FuzzValues: no text makes a value panic, and what is taken is taken again
// in the form it was given.
func FuzzValues(f *testing.F) {
	for _, seed := range []string{"gw.example.com", "[::1]:22,:80", "1-2", "1d12h", "off", "a,b", "9223372036854775807d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, value := range []encoding.TextUnmarshaler{new(domain), new(addresses), new(hosts), new(networks), new(portRange),
			new(names), new(port), new(count), new(userArg)} {
			_ = value.UnmarshalText([]byte(text))
		}
		if d, err := parseDuration(text); err == nil && d < 0 {
			t.Errorf("%q is %v", text, d)
		}
	})
}
