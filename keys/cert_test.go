package keys

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// dsaLine is a key of a type that is not taken.
var dsaLine = func() string {
	n := func(bits uint) *big.Int { return new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1) }
	blob := ssh.Marshal(struct {
		Type       string
		P, Q, G, Y *big.Int
	}{"ssh-dss", n(1024), n(160), n(1000), n(1000)})
	return "ssh-dss " + base64Of(blob) + " old"
}()

func testModulus(bits int) *big.Int {
	return new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
}

// testCert is a certificate for name's key that ca signed for user ann and
// that is good in every way but what change does to it.
func testCert(name, ca string, change ...func(*ssh.Certificate)) *ssh.Certificate {
	c := &ssh.Certificate{
		Key:             testKey(name),
		CertType:        ssh.UserCert,
		KeyId:           name,
		ValidPrincipals: []string{"ann"},
		ValidBefore:     ssh.CertTimeInfinity,
		Permissions: ssh.Permissions{Extensions: map[string]string{
			"permit-port-forwarding": "", "permit-pty": "", "permit-agent-forwarding": "",
			"permit-X11-forwarding": "", "permit-user-rc": "",
		}},
	}
	for _, f := range change {
		f(c)
	}
	if err := c.SignCert(rand.Reader, testSigner(ca)); err != nil {
		panic(err)
	}
	return c
}

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func at(t time.Time) func(*Config) {
	return func(c *Config) { c.Now = func() time.Time { return t } }
}

func critical(name, value string) func(*ssh.Certificate) {
	return func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{name: value} }
}

func principals(p ...string) func(*ssh.Certificate) {
	return func(c *ssh.Certificate) { c.ValidPrincipals = p }
}

func TestCertificates(t *testing.T) {
	tests := []struct {
		name    string
		options string // of the authority's line in ann's file
		change  func(*ssh.Certificate)
		want    string // "": ann
	}{
		{"good", "cert-authority", principals("ann"), ""},
		{"one of several", "cert-authority", principals("bob", "ann"), ""},
		{"somebody else", "cert-authority", principals("bob"), "does not name the user"},
		{"case counts", "cert-authority", principals("Ann"), "does not name the user"},
		{"a glob is a name", "cert-authority", principals("*"), "does not name the user"},
		{"no principals", "cert-authority", principals(), "without principals"},
		{"an empty principal", "cert-authority", principals(""), "does not name the user"},
		{"principals option", `cert-authority,principals="ops,dev"`, principals("dev"), ""},
		{"principals option instead of the user", `cert-authority,principals="ops"`, principals("ann"), "does not name the user"},
		{"principals option, none in the certificate", `cert-authority,principals="ops"`, principals(), "without principals"},
		{"empty principals option", `cert-authority,principals=""`, principals("", "ann"), "does not name the user"},
		{"expired", "cert-authority", func(c *ssh.Certificate) { c.ValidBefore = uint64(noon.Unix()) }, "expired on 2026-06-01"},
		{"last second", "cert-authority", func(c *ssh.Certificate) { c.ValidBefore = uint64(noon.Unix()) + 1 }, ""},
		{"not yet valid", "cert-authority", func(c *ssh.Certificate) { c.ValidAfter = uint64(noon.Unix()) + 1 }, "not valid yet"},
		{"first second", "cert-authority", func(c *ssh.Certificate) { c.ValidAfter = uint64(noon.Unix()) }, ""},
		{"absurdly late start", "cert-authority", func(c *ssh.Certificate) { c.ValidAfter = 1 << 63 }, "not valid yet"},
		{"host certificate", "cert-authority", func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, "no user certificate"},
		{"no type", "cert-authority", func(c *ssh.Certificate) { c.CertType = 0 }, "no user certificate"},
		{"source-address", "cert-authority", critical("source-address", "10.0.0.0/8,127.0.0.1/32"), ""},
		{"source-address elsewhere", "cert-authority", critical("source-address", "10.0.0.0/8"), "not be used from this address"},
		{"source-address empty", "cert-authority", critical("source-address", ""), "malformed source-address"},
		{"source-address glob", "cert-authority", critical("source-address", "127.*"), "malformed source-address"},
		{"source-address negated", "cert-authority", critical("source-address", "!10.0.0.1"), "malformed source-address"},
		{"source-address half right", "cert-authority", critical("source-address", "127.0.0.1,x"), "malformed source-address"},
		{"source-address inconsistent", "cert-authority", critical("source-address", "127.0.0.1/8"), "malformed source-address"},
		{"force-command", "cert-authority", critical("force-command", "ls"), `critical option "force-command"`},
		{"verify-required", "cert-authority", critical("verify-required", ""), `critical option "verify-required"`},
		{"unknown critical", "cert-authority", critical("x@\x1b[2J", ""), "critical option of an unknown kind"},
		{"unknown extension", "cert-authority", func(c *ssh.Certificate) { c.Extensions["x@example.com"] = "y" }, ""},
		{"extension with a value", "cert-authority", func(c *ssh.Certificate) { c.Extensions["permit-pty"] = "y" }, "malformed extension"},
		{"from on the line", `cert-authority,from="10.0.0.0/8"`, principals("ann"), "not be used from this address"},
		{"expired line", `cert-authority,expiry-time="20260101Z"`, principals("ann"), "expired on 2026-01-01"},
		{"unknown option on the line", `cert-authority,command="ls"`, principals("ann"), `option "command"`},
		{"not an authority", "restrict", principals("ann"), "is not registered here"},
		{"rsa too short", "cert-authority", func(c *ssh.Certificate) {
			c.Key, _ = ssh.NewPublicKey(testRSA(1024))
		}, "RSA key of 1024 bits"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := testDir(t, map[string]string{"ann": tt.options + " " + testLine("ca") + "\n"})
			s := testStore(t, dir, at(noon))
			k, err := s.Authenticate(testCert("laptop", "ca", tt.change), home)
			if tt.want != "" {
				if err == nil || !strings.Contains(reason(err), tt.want) {
					t.Fatalf("%v, %v, want %q", k, err, tt.want)
				}
				if strings.Contains(err.Error(), "\x1b") {
					t.Errorf("raw text of the client: %q", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			ca := ssh.FingerprintSHA256(testKey("ca"))
			if k.User != "ann" || k.Fingerprint != ca || k.Identity != ca+" ann" {
				t.Errorf("%+v", k)
			}
		})
	}
}

func TestCertificateSignature(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": "cert-authority " + testLine("ca")})
	s := testStore(t, dir)
	forged := testCert("laptop", "mallory")
	forged.SignatureKey = testKey("ca")
	altered := testCert("laptop", "ca", principals("bob"))
	altered.ValidPrincipals = []string{"ann"}
	sha1 := testCert("laptop", "ca")
	sha1.Signature = &ssh.Signature{Format: ssh.KeyAlgoRSA}
	for _, c := range []*ssh.Certificate{forged, altered, sha1} {
		if _, err := s.Authenticate(c, home); err == nil {
			t.Errorf("%v was let in", c)
		}
	}
	if _, err := s.Authenticate(testCert("laptop", "mallory"), home); reason(err) != "is not registered here" {
		t.Error(err)
	}
}

func TestAuthorityIsNoLoginKey(t *testing.T) {
	s := testStore(t, testDir(t, map[string]string{"ann": "cert-authority " + testLine("ca")}))
	_, err := s.Authenticate(testKey("ca"), home)
	if !strings.Contains(reason(err), "certificate authority") {
		t.Error(err)
	}
}

func TestCertificateNarrows(t *testing.T) {
	line := `cert-authority,permitlisten="blog:80",max-tunnels@adit="2",admin@adit,expiry-time="20300101Z" `
	s := testStore(t, testDir(t, map[string]string{"ann": line + testLine("ca")}), at(noon))
	c := testCert("laptop", "ca", func(c *ssh.Certificate) {
		c.Extensions = map[string]string{"permit-pty": "", "no-touch-required": ""}
		c.ValidBefore = uint64(noon.Unix()) + 3600
	})
	k, err := s.Authenticate(c, home)
	if err != nil {
		t.Fatal(err)
	}
	o := &k.Options
	if o.PortForwarding || !o.PTY || o.NoTouchRequired || o.MaxTunnels != 2 || !o.Admin || o.PermitsListen("x", 80) {
		t.Errorf("%+v", o)
	}
	if !k.Expires.Equal(noon.Add(time.Hour)) {
		t.Errorf("expires %v", k.Expires)
	}
}

// One authority may serve several users; the certificate says which.
func TestAuthorityOfSeveralUsers(t *testing.T) {
	s := testStore(t, testDir(t, map[string]string{
		"ann": "cert-authority " + testLine("ca"),
		"bob": "cert-authority " + testLine("ca"),
	}))
	for _, p := range s.Problems() {
		t.Errorf("problem: %+v", p)
	}
	for _, user := range []string{"ann", "bob"} {
		k, err := s.Authenticate(testCert("laptop", "ca", principals(user, "eve")), home)
		if err != nil || k.User != user {
			t.Errorf("%s: %v, %v", user, k, err)
		}
	}
	_, err := s.Authenticate(testCert("laptop", "ca", principals("ann", "bob")), home)
	if !strings.Contains(reason(err), "more than one user") {
		t.Error(err)
	}
	_, err = s.Authenticate(testCert("laptop", "ca", principals("eve")), home)
	if !strings.Contains(reason(err), "does not name the user") {
		t.Error(err)
	}
}

// A certificate whose authority's line is gone, narrowed or too late is found
// out by Check.
func TestCheckCertificate(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": "cert-authority " + testLine("ca")})
	now := noon
	s := testStore(t, dir, func(c *Config) { c.Now = func() time.Time { return now } })
	k, err := s.Authenticate(testCert("laptop", "ca", func(c *ssh.Certificate) {
		c.ValidBefore = uint64(noon.Unix()) + 60
	}), home)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/ann", "cert-authority,no-port-forwarding "+testLine("ca"))
	write(t, dir+"/bob", `cert-authority,principals="ann" `+testLine("ca"))
	reloadNow(t, s)
	if k, err := s.Check(k, home); err != nil || k.Options.PortForwarding {
		t.Errorf("narrowed: %+v, %v", k, err)
	}
	now = k.Expires
	if _, err := s.Check(k, home); !strings.Contains(reason(err), "expired") {
		t.Error(err)
	}
	now = noon
	write(t, dir+"/ann", testLine("x"))
	reloadNow(t, s)
	if _, err := s.Check(k, home); reason(err) != errElsewhere.Error() {
		t.Error(err)
	}
	write(t, dir+"/bob", testLine("y"))
	reloadNow(t, s)
	if _, err := s.Check(k, home); !errors.As(err, new(*Refusal)) || reason(err) != errUnknown.Error() {
		t.Error(err)
	}
}

func reloadNow(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
}

func TestRemoteAddresses(t *testing.T) {
	s := testStore(t, testDir(t, map[string]string{"ann": `from="127.0.0.0/8" ` + testLine("ann")}))
	tests := []struct {
		remote net.Addr
		ok     bool
	}{
		{home, true},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:127.0.0.9")}, true},
		{&net.TCPAddr{IP: net.ParseIP("10.0.0.1")}, false},
		{&net.UnixAddr{Name: "127.0.0.1"}, false},
		{textAddr("127.0.0.1:22"), true},
		{textAddr("pipe"), false},
		{nil, false},
	}
	for _, tt := range tests {
		if _, err := s.Authenticate(testKey("ann"), tt.remote); (err == nil) != tt.ok {
			t.Errorf("%v: %v", tt.remote, err)
		}
	}
}

type textAddr string

func (textAddr) Network() string  { return "test" }
func (a textAddr) String() string { return string(a) }

func FuzzCertificate(f *testing.F) {
	f.Add(testCert("laptop", "ca").Marshal())
	f.Add(testCert("laptop", "ca", critical("source-address", "127.0.0.1")).Marshal())
	dir := testDir(f, map[string]string{"ann": "cert-authority " + testLine("ca")})
	s := testStore(f, dir)
	f.Fuzz(func(t *testing.T, blob []byte) {
		key, err := ssh.ParsePublicKey(blob)
		if err != nil {
			return
		}
		k, err := s.Authenticate(key, home)
		if err != nil {
			if r := reason(err); strings.ContainsFunc(r, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("raw text in %q", r)
			}
			return
		}
		if c := key.(*ssh.Certificate); k.User != "ann" || fmt.Sprint(c.SignatureKey) != fmt.Sprint(testKey("ca")) {
			t.Fatalf("%+v for %v", k, c)
		}
	})
}
