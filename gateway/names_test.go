package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestValidLabel(t *testing.T) {
	good := []string{"a", "0", "blog", "my-app", "a1", "1a", "123", "a-b-c", "x--y--z", "a-b", "abc-d", "abc--d", strings.Repeat("a", 63)}
	bad := []string{
		"", "-", "--", "-a", "a-", "-a-", "a_b", "_acme-challenge", "_dmarc", "a.b", ".", "a.", ".a", "A", "Blog", "BLOG",
		"a b", " a", "a ", "a\t", "a\n", "\x00", "a\x00b", "\x1b[2J", "a\x7f", "xn--bcher-kva", "xn--", "xn--p1ai", "ab--cd", "zz--",
		"bücher", "пример", "例え", "🦫", "a🦫", "ａ", "ⓐ", "a\u200b", "a\u00adb", "\u202ea", "a\u0301", "ß", "ſ", "İ", "\u212A",
		"*", "*.a", "a*", "?", "a/b", "a\\b", "../a", "a:b", "a:80", "[a]", "a@b", "a,b", "a;b", "a'b", `a"b`, "a<b>", "a&b", "a%62",
		"%00", "a+b", "a=b", "a!b", "a#b", "$a", "`a`", "(a)", "{a}", "a|b", "a~b", "^a", "\xff", "a\xc3", strings.Repeat("a", 64),
		strings.Repeat("a", 255), strings.Repeat("a", 100000), "::1", "fe80::1", "127.0.0.1", "10.0.0.1", "1.2.3", "0x7f.1", "a..b",
	}
	for c := range 128 {
		if s := "a" + string(rune(c)) + "b"; !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-", rune(c)) {
			bad = append(bad, s)
		}
	}
	for _, s := range good {
		if why := validLabel(s); why != "" {
			t.Errorf("%q: %s", s, why)
		}
	}
	for _, s := range bad {
		if validLabel(s) == "" {
			t.Errorf("%q is taken for a label", s)
		}
	}
	if n := len(good) + len(bad); n < 190 {
		t.Error("only", n)
	}
}

func TestBindName(t *testing.T) {
	const domain = "gw.example.com"
	tests := []struct {
		addr, name string
		custom     bool
	}{
		{"", "", false}, {"localhost", "", false}, {"LocalHost", "", false}, {"*", "", false}, {"0.0.0.0", "", false}, {"::", "", false},
		{"[::]", "", false}, {"127.0.0.1", "", false}, {"127.1.2.3", "", false}, {"::1", "", false}, {"[::1]", "", false},
		{"::ffff:127.0.0.1", "", false}, {"0:0:0:0:0:0:0:0", "", false},
		{"gw.example.com", "", false}, {"GW.Example.COM", "", false}, {"gw.example.com.", "", false},
		{"blog", "blog", false}, {"Blog", "blog", false}, {"blog.", "blog", false}, {"blog.gw.example.com", "blog", false},
		{"BLOG.GW.EXAMPLE.COM.", "blog", false}, {"a.b.gw.example.com", "a.b", false}, {".gw.example.com", "", false},
		{"app.customer.com", "app.customer.com", true}, {"xgw.example.com", "xgw.example.com", true}, {"10.0.0.1", "10.0.0.1", true},
		{"blog..", "blog.", true}, {"com", "com", false}, {"2001:db8::1", "2001:db8::1", false}, {"\u212Aelvin", "\u212Aelvin", false},
		{"\xff", "\xff", false}, {"blog\x00", "blog\x00", false},
	}
	for _, tt := range tests {
		if name, custom := bindName(tt.addr, domain); name != tt.name || custom != tt.custom {
			t.Errorf("%q is %q, %v; want %q, %v", tt.addr, name, custom, tt.name, tt.custom)
		}
	}
}

// FuzzBindName holds that what passes for a name is one DNS label, whatever
// was asked for.
func FuzzBindName(f *testing.F) {
	for _, s := range []string{"", "localhost", "*", "[::]", "blog", "Blog.GW.example.com.", "xn--a", "a..b", "\u212A", "127.0.0.1", ".gw.example.com"} {
		f.Add(s)
	}
	label := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, addr string) {
		name, custom := bindName(addr, "gw.example.com")
		if name == "" || custom || validLabel(name) != "" {
			return
		}
		if !label.MatchString(name) || strings.HasPrefix(name, "xn--") {
			t.Errorf("%q is %q", addr, name)
		}
		if again, _ := bindName(name, "gw.example.com"); again != name && again != "" {
			t.Errorf("%q is %q again", name, again)
		}
	})
}

var fixedSecret = bytes.Repeat([]byte{7}, 32)

// Default names must never move: people have them in their bookmarks.
func TestDefaultNamesAreStable(t *testing.T) {
	golden := []struct {
		identity string
		index    int
		name     string
	}{
		{"SHA256:abc", 0, "attempt-dictation-kr1f"},
		{"SHA256:abc", 1, "acre-recall-t75u"},
		{"SHA256:abd", 0, "chafe-dweller-0nal"},
	}
	for _, g := range golden {
		if got := defaultName(fixedSecret, g.identity, g.index); got != g.name {
			t.Errorf("%s %d: %s, want %s", g.identity, g.index, got, g.name)
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(words, "\n")))
	if got := hex.EncodeToString(sum[:8]); got != "a95eeffb3762aef0" || len(words) != 7772 {
		t.Errorf("the list has changed: %d words, %s", len(words), got)
	}
}

func TestDefaultNamesDiffer(t *testing.T) {
	seen := map[string]bool{}
	for i := range 2000 {
		for _, secret := range [][]byte{fixedSecret, make([]byte, 32)} {
			name := defaultName(secret, fmt.Sprint("SHA256:", i/32), i%32)
			if seen[name] || validLabel(name) != "" || !isDefaultShape(name) {
				t.Fatalf("%q", name)
			}
			seen[name] = true
		}
	}
}

func TestDefaultShape(t *testing.T) {
	for name, want := range map[string]bool{
		"amber-heron-k7q2": true, "amber-heron-0000": true, "amber-heron-abcd": false, "amber-heron": false, "amber-heron-k7q": false,
		"amber-heron-k7q22": false, "a-heron-k7q2": false, "my-heron-k7q2": false, "amber-my-k7q2": false, "amber-heron-k7q2-x": false,
		"ambergris-waterfall-k7q2": true, "ambergrises-heron-k7q2": false, "am8er-heron-k7q2": false,
	} {
		if isDefaultShape(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// The names of that shape are for the key that derives them only.
func TestShapeIsForTheDerivingKey(t *testing.T) {
	g := start(t, newState(t))
	mine := defaultName(g.state.secret, ssh.FingerprintSHA256(signer("ann").PublicKey()), 0)
	second := defaultName(g.state.secret, ssh.FingerprintSHA256(signer("ann").PublicKey()), 5)
	for _, key := range []string{"bob", "ann2"} { // another user, and another key of the same
		if code, _ := g.refusedFor(key, mine, 80); code != "in_use" {
			t.Errorf("%s: %q", key, code)
		}
	}
	if code, _ := g.refusedFor("bob", "amber-heron-k7q2", 80); code != "in_use" {
		t.Error("a name nobody has:", code)
	}
	u := g.login("ann")
	for _, name := range []string{mine, second} {
		if _, ok := u.forward(name, 80); !ok {
			t.Error("refused", name)
		}
		g.served(name, "ann")
	}
	if owner := g.ofUser(bucketNames, mine); owner != "" {
		t.Error("a default name is stored:", owner)
	}
}

// Whatever address stands for "none" is the default name, and is echoed.
func TestBindAddresses(t *testing.T) {
	g := start(t, newState(t), func(c *Config) { c.Domain = "gw.example.com" })
	name := defaultName(g.state.secret, ssh.FingerprintSHA256(signer("ann").PublicKey()), 0)
	for _, addr := range []string{"localhost", "", "*", "0.0.0.0", "::", "[::]", "127.0.0.1", "gw.example.com", "GW.Example.com."} {
		u := g.login("ann")
		if _, ok := u.forward(addr, 80); !ok {
			t.Fatalf("%q refused", addr)
		}
		g.served(name, "ann")
		if !u.cancel(addr, 80) {
			t.Errorf("%q not cancelled", addr)
		}
		if status, _ := g.get(name); status != 404 {
			t.Errorf("%q: status %d after the cancel", addr, status)
		}
		u.Close()
	}
}

func TestRefusedNames(t *testing.T) {
	g := start(t, newState(t), func(c *Config) { c.ReservedNames = []string{"ours"} })
	for addr, want := range map[string]string{
		"www": "reserved", "Admin": "reserved", "inspect": "reserved", "ours": "reserved", "wpad": "reserved", "ns10": "reserved", "mx2": "reserved", "mail.localhost": "reserved",
		"_dmarc": "bad_name", "a_b": "bad_name", "xn--p1ai": "bad_name", "bücher": "bad_name", "a.b.localhost": "bad_name",
		strings.Repeat("a", 64): "bad_name", "-a": "bad_name", "\x1b[2J": "bad_name", "\u212Aelvin": "bad_name", "fe80::1": "bad_name",
		"app.customer.com": "not_proven", "10.0.0.1": "bad_name", "a..b": "bad_name",
	} {
		code, message := g.refusedFor("ann", addr, 80)
		if code != want {
			t.Errorf("%q: %q, want %q", addr, code, want)
		}
		if !strings.HasPrefix(message, "adit: ") || strings.ContainsFunc(message, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0x9b }) {
			t.Errorf("%q: %q", addr, message)
		}
	}
	for _, p := range []uint32{443, 22, 1, 65535, 65536, 1<<32 - 1} { // HTTPS is off
		if code, _ := g.refusedFor("ann", "blog", p); code != "unsupported" {
			t.Errorf("blog:%d: %q", p, code)
		}
	}
	for _, p := range []uint32{443, 22, 25, 65536, 1<<32 - 1} {
		if code, _ := g.refusedFor("ann", "", p); code != "port_range" && code != "unsupported" {
			t.Errorf("%d: %q", p, code)
		}
	}
}
