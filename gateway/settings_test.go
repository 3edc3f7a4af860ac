package gateway

import (
	"strings"
	"testing"
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
		{Config{SSH: "0.0.0.0:22,[::]:22"}, ""},
		{Config{}, ""}, {Config{Domain: "gw.test"}, ""},
	}
	for _, tt := range tests {
		_, err := resolve(tt.cfg)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.cfg, err, tt.want)
		}
	}
}
