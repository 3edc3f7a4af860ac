package main

import (
	"bytes"
	"encoding"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// parseWith parses a command line for serve with the given file and
// environment.
func parseWith(t *testing.T, file string, env map[string]string, args ...string) (*call, error) {
	t.Helper()
	env = maps.Clone(env)
	if env == nil {
		env = make(map[string]string)
	}
	if file != "" {
		name := filepath.Join(t.TempDir(), "adit.yaml")
		if err := os.WriteFile(name, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		env["ADIT_CONFIG"] = name
	}
	p := &program{args: append([]string{"serve"}, args...), env: env, stderr: io.Discard}
	return p.parse(io.Discard)
}

// TestPrecedence: flag beats environment beats file, setting by setting.
func TestPrecedence(t *testing.T) {
	file := "domain: file.test\nssh: :1001\nname-ttl: 2d\n"
	env := map[string]string{"ADIT_DOMAIN": "env.test", "ADIT_SSH": ":1002", "ADIT_PARK": ""}
	c, err := parseWith(t, file, env, "--domain", "flag.test")
	if err != nil {
		t.Fatal(err)
	}
	if c.Domain != "flag.test" || c.SSH != ":1002" || c.NameTTL.Duration != 48*time.Hour || c.Park.Duration != 0 {
		t.Errorf("got domain %q, ssh %q, name-ttl %v, park %v", c.Domain, c.SSH, c.NameTTL, c.Park)
	}
}

// TestFileRefused: nothing in a file is silently ignored, and the message
// says where it stands.
func TestFileRefused(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"unknown key", "domain: a.test\ndomian: b.test\n", "adit.yaml:2: domian: is not a setting"},
		{"unknown key, near", "tcp_ports: off\n", `did you mean "tcp-ports"?`},
		{"duplicate", "ssh: :22\nhttp: :80\nssh: :22\n", "adit.yaml:3: ssh: stands twice, first in line 1"},
		{"bad value", "\n\npark: soon\n", `adit.yaml:3: park: "soon" is no time`},
		{"list", "domain: [a.test, b.test]\n", `adit.yaml:1: domain: "a.test,b.test" is no domain`},
		{"mapping", "ssh: {port: 22}\n", "adit.yaml:1: ssh: wants text or a number, not a mapping"},
		{"list of lists", "http: [[\":80\"]]\n", "not a list"},
		{"truth", "domain: true\n", `adit.yaml:1: domain: wants text or a number, not "true"`},
		{"fraction", "max-names: 1.5\n", `adit.yaml:1: max-names: "1.5" is no number from 1`},
		{"fraction of a time", "park: 1.5\n", `adit.yaml:1: park: "1.5" is no time`},
		{"huge number", "max-names: 12345678901234567890\n", `adit.yaml:1: max-names: "12345678901234567890" is no number from 1`},
		{"date", "domain: 2026-01-02\n", `adit.yaml:1: domain: wants text or a number, not "2026-01-02"`},
		{"hexadecimal", "max-names: 0x10\n", `adit.yaml:1: max-names: "0x10" is no number`},
		{"network", "ssh: off\ntrusted-proxies: [10.0.0.0/8, 10.0.0.1/8]\n", `adit.yaml:2: trusted-proxies: "10.0.0.1/8" has bits behind its prefix; wants 10.0.0.0/8 or 10.0.0.1`},
		{"no URL", "ssh: off\nacme-ca: letsencrypt\n", `adit.yaml:2: acme-ca: "letsencrypt" is no URL`},
		{"a secret", "dns-key: adit:c2VjcmV0\n", "adit.yaml:1: dns-key: wants NAME:ALG:SECRET"},
		{"nothing", "domain:\n", "adit.yaml:1: domain: wants text or a number, not nothing"},
		{"empty", `domain: ""`, "adit.yaml:1: domain: "},
		{"alias", "ssh: &a :22\nhttp: *a\n", "adit.yaml:2: http: wants text or a number, not an alias"},
		{"merge", "<<: {ssh: \":22\"}\n", "adit.yaml:1: <<: is not a setting"},
		{"not a mapping", "- ssh\n", "adit.yaml:1: wants lines of KEY: VALUE"},
		{"two documents", "ssh: :22\n---\nhttp: :80\n", "a second document"},
		{"names itself", "config: other.yaml\n", "adit.yaml:1: config: a file cannot name another"},
		{"control characters", `"a\e[2Jb": 1`, `a\x1b[2Jb: is not a setting`},
		{"all at once", "park: x\nssh: 22\n", "adit.yaml:2: ssh:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseWith(t, tt.file, nil, "--domain", "flag.test")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestFileSyntax: what is no YAML is told with its line, whatever the library
// makes of it.
func TestFileSyntax(t *testing.T) {
	tests := []struct {
		name, file string
		line       int
	}{
		{"tab", "\tssh: :22\n", 1},
		{"tab below", "ssh: :22\n\tx\n", 2},
		{"tab far below", "drain: 5s\npark: 5s\n\tmax-names: 3", 3},
		{"tab above the rest", "drain: 5s\n\tpark: 5s\nmax-names: 3\nmax-ports: 3\n", 2},
		{"never closed", "drain: 5s\npark: {a", 2},
		{"never closed, with more below", "drain: 5s\nssh: [\n  :22\nhttp: :80\n", 2},
		{"quotation never closed", "drain: 5s\nssh: \":22\nhttp: :80\npark: 1s\n", 2},
		{"unknown alias", "ssh: *x\n", 1},
		{"unknown alias below", "# a\n\nssh: *x\nhttp: :80\n", 3},
		{"two values in a line", "drain: 5s\nssh: http: :80\npark: 1s\n", 2},
		{"indented", "ssh: :22\n  http: :80\n", 2},
		{"NUL", "ssh: :22\nhttp: \x00\npark: 1s\n", 2},
		{"no UTF-8", "ssh: :22\n# \xff\npark: 1s\n", 2},
		{"cut off UTF-8", "ssh: :22\n# \xe2\x82", 2},
		{"second document", "ssh: :22\n---\nhttp: [\n", 3},
		{"far down", strings.Repeat("# nothing\n", 5000) + "ssh: *x\n" + strings.Repeat("# nothing\n", 50), 5001},
		{"a long list", "ssh: [\n" + strings.Repeat(" x,\n", 1000), 1001},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseWith(t, tt.file, nil)
			if want := fmt.Sprintf("adit.yaml:%d: not YAML: ", tt.line); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

// TestFileTaken: what may stand in a file.
func TestFileTaken(t *testing.T) {
	for _, file := range []string{"", "# nothing\n", "---\n", "null\n"} {
		if c, err := parseWith(t, file, nil); err != nil || c.settings != (settings{Config: c.Config}) {
			t.Errorf("%q: %+v, %v", file, c.settings, err)
		}
	}
	c, err := parseWith(t, "reserved-names:\n  - One\n  - two\nredirect: on\nmax-ports: 3\nhttp: [\":80\", \"[::1]:81\"]\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.ReservedNames != "one,two" || c.Redirect != "on" || c.MaxPorts != 3 || c.HTTP != ":80,[::1]:81" {
		t.Errorf("got %+v", c.settings)
	}
}

// TestEnvironmentStray: a variable that sets nothing is told, and stops nobody.
func TestEnvironmentStray(t *testing.T) {
	var stderr bytes.Buffer
	env := map[string]string{"ADIT_DOMIAN": "x", "ADIT_HELP": "", "ADIT_PARK": "3s", "HOME": t.TempDir()}
	p := &program{[]string{"keys", "ls", "--state", t.TempDir()}, env, strings.NewReader(""), io.Discard, &stderr}
	if _, err := p.parse(io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"ADIT_DOMIAN" in the environment is not a setting`, `"ADIT_HELP" in the environment is not a setting`} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("stderr %q, want %q", stderr.String(), want)
		}
	}
	if strings.Contains(stderr.String(), "ADIT_PARK") {
		t.Errorf("stderr %q tells of a setting", stderr.String())
	}
}

// TestEnvironmentRefused: variables, as the file, are all good.
func TestEnvironmentRefused(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"ADIT_SSH", "22", `ADIT_SSH: "22" is no address`},
		{"ADIT_PROXY_PROTOCOL_FROM", "10.0.0.0/8,proxy", `ADIT_PROXY_PROTOCOL_FROM: "proxy" is no network`},
		{"ADIT_CONFIG", "/no/such/file", "config: open /no/such/file"},
	}
	for _, tt := range tests {
		_, err := parseWith(t, "", map[string]string{tt.name: tt.value})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s=%s: got %v, want %q", tt.name, tt.value, err, tt.want)
		}
	}
}

// TestStatus: a mistake of the caller is 2 and goes to stderr, help is 0 and
// goes to stdout, and check answers 1 for what would stop serve.
func TestStatus(t *testing.T) {
	bad := map[string]string{"ADIT_SSH": "x"}
	tests := []struct {
		args   string
		env    map[string]string
		status int
	}{
		{"", nil, 2}, {"bogus", nil, 2}, {"serve --bogus", nil, 2}, {"serve extra", nil, 2},
		{"serve --ssh 22", nil, 2}, {"serve --ssh off --ssh off", nil, 2}, {"check --park 1s --park=2s", nil, 2},
		{"serve", bad, 2}, {"check", bad, 1}, {"check --ssh 22", bad, 2},
		{"serve --tls files", nil, 2}, {"check --tls off --https :443", nil, 2}, {"serve --ssh :1 --http :1", nil, 2},
		{"check", map[string]string{"ADIT_TLS": "files"}, 2},
		{"keys", nil, 2}, {"keys ls", bad, 2}, {"keys ls UPPER", nil, 2}, {"keys ls --ssh off", nil, 2},
		{"version --domain x", nil, 2}, {"--domain x", nil, 2},
		{"--help", bad, 0}, {"serve --help", bad, 0}, {"check --help", nil, 0}, {"keys --help", nil, 0},
		{"keys add --help", nil, 0}, {"keys ls --help", nil, 0}, {"keys rm --help", nil, 0},
		{"version --help", nil, 0}, {"version", bad, 0},
	}
	for _, tt := range tests {
		var stdout, stderr bytes.Buffer
		p := &program{strings.Fields(tt.args), tt.env, strings.NewReader(""), &stdout, &stderr}
		if got := p.run(); got != tt.status {
			t.Errorf("adit %s: status %d, want %d: %s", tt.args, got, tt.status, stderr.String())
		}
		if ok := tt.status == 0; ok == (stdout.Len() == 0) || ok == (stderr.Len() > 0) {
			t.Errorf("adit %s: stdout %q, stderr %q", tt.args, stdout.String(), stderr.String())
		}
	}
}

// TestHelpNamesEverySetting: what can be set is what help shows.
func TestHelpNamesEverySetting(t *testing.T) {
	var out bytes.Buffer
	p := &program{args: []string{"serve", "--help"}, stdout: &out, stderr: io.Discard}
	if p.run() != exitOK {
		t.Fatal("help failed")
	}
	for _, flag := range []string{"domain", "state", "ssh", "http", "https", "admin", "public-ssh", "public-http",
		"public-https", "proxy-protocol-from", "trusted-proxies", "tcp-host", "tcp-ports", "tls", "redirect", "log", "log-level", "name-ttl", "max-names",
		"max-ports", "reserved-names", "park", "response-timeout", "stall-timeout", "login-grace", "drain", "config", "http3", "acme-email", "acme-ca", "acme-ca-root",
		"acme-eab", "acme-names-per-day", "dns", "dns-server", "dns-key", "dns-exec", "dns-resolver", "cert-dir"} {
		if !strings.Contains(out.String(), "--"+flag+"=") || !strings.Contains(out.String(), envName(flag)) {
			t.Errorf("help does not show --%s and %s", flag, envName(flag))
		}
	}
}

// TestSettingsReadText: load may count on it.
func TestSettingsReadText(t *testing.T) {
	c, err := parseWith(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, flag := range settingFlags(c.context) {
		if _, ok := flag.Target.Addr().Interface().(encoding.TextUnmarshaler); !ok {
			t.Errorf("%s does not read text", name)
		}
	}
}

// FuzzConfigFile: whatever a file holds, reading it ends in settings or in a
// message without control characters.
func FuzzConfigFile(f *testing.F) {
	for _, seed := range []string{"ssh: :22\n", "a: [b, {c: d}]\n", "&a [*a]", "? x\n: y\n", "--- !!binary x\n", "\"\\e\": 1", "reserved-names: [a, b]"} {
		f.Add(seed)
	}
	grammar, err := (&program{args: []string{"serve"}}).parse(io.Discard)
	if err != nil {
		f.Fatal(err)
	}
	flags := settingFlags(grammar.context)
	f.Fuzz(func(t *testing.T, data string) {
		found, err := parseConfigFile(flags, "f", []byte(data))
		if err != nil && strings.ContainsAny(err.Error(), "\x00\x07\x1b\r") {
			t.Errorf("message %q", err)
		}
		for _, g := range found {
			_ = g.set()
		}
	})
}
