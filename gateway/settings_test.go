package gateway

import (
	"strings"
	"testing"
	"time"
)

// TestOnePortForTwo: what overlaps is told by both flags, and what does not is
// taken.
func TestOnePortForTwo(t *testing.T) {
	tests := []struct {
		cfg  Config
		want string // in the error, "" for none
	}{
		{Config{SSH: "127.0.0.1:7080"}, "port 7080 (HTTP) is also that of --ssh"},
		{Config{Domain: "gw.test", SSH: ":443"}, "port 443 (HTTPS) is also that of --ssh, for SSH"},
		{Config{SSH: ":9180"}, "port 9180 (the admin listener) is also that of --ssh"},
		{Config{HTTP: ":80,127.0.0.1:80"}, "port 80 (HTTP) is also that of --http"},
		{Config{SSH: "127.0.0.1:0", HTTP: "127.0.0.1:0"}, ""},
		{Config{SSH: "127.0.0.1:80", HTTP: "[::1]:80"}, ""},
		{Config{SSH: "0.0.0.0:22,[::]:22"}, "port 22 (SSH) is also that of --ssh"}, // net.Listen takes either for both
		{Config{SSH: "0.0.0.0:22", HTTP: "[::1]:22"}, "port 22 (HTTP) is also that of --ssh"},
		{Config{SSH: "[::1]:22,[0:0::1]:22"}, "port 22 (SSH) is also that of --ssh"},
		{Config{SSH: "a.test:22,b.test:22"}, ""},
		{Config{TCPHost: "127.0.0.1,127.0.0.1"}, "--tcp-host: 127.0.0.1 and 127.0.0.1 are the same address"},
		{Config{TCPHost: "127.0.0.1,0.0.0.0"}, "--tcp-host: 127.0.0.1 and 0.0.0.0 are"},
		{Config{TCPHost: "127.0.0.1,127.0.0.2,::1"}, ""},
		{Config{}, ""}, {Config{Domain: "gw.test"}, ""},
	}
	for _, tt := range tests {
		_, err := resolve(tt.cfg)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.cfg, err, tt.want)
		}
	}
}

// TestAllCombinations: everything that does not go together is told at once.
func TestAllCombinations(t *testing.T) {
	err := Config{SSH: ":80", HTTP: ":80", TLS: "files", ACME: ACME{DNS: "exec", DNSServer: "ns.test:53"}}.Validate()
	for _, want := range []string{"port 80 (HTTP) is also that of --ssh", "--cert-dir DIR", "--dns-exec PROGRAM", "--dns-server and --dns-key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

// TestChange: what can change while the gateway runs does, back to the preset
// too; what cannot stays, and a bad one changes nothing.
func TestChange(t *testing.T) {
	s, err := resolve(Config{SSH: ":1", Park: time.Second, ReservedNames: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.change(Config{SSH: ":2", NameTTL: time.Hour, MaxNames: 1, MaxPorts: 2, Drain: -1, ResponseTimeout: 3, StallTimeout: 4})
	now := s.now()
	if err != nil || now.NameTTL != time.Hour || now.MaxNames != 1 || now.MaxPorts != 2 || now.Drain != -1 ||
		now.ResponseTimeout != 3 || now.StallTimeout != 4 || now.Park != 10*time.Second || now.ReservedNames != nil || now.SSH != ":1" {
		t.Errorf("%+v, %v", now, err)
	}
	if s.change(Config{MaxNames: 7, TLS: "files"}) == nil || s.now().MaxNames != 1 {
		t.Errorf("%+v", s.now())
	}
}
