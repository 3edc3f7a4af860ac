package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestParseLine(t *testing.T) {
	l := testLine("ann")
	blob := strings.Fields(l)[1]
	ecdsaKey, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	tests := []struct {
		name, text string
		err        string // "": none
		refusal    string
		comment    string
	}{
		{name: "plain", text: l, comment: "ann"},
		{name: "no comment", text: "ssh-ed25519 " + blob},
		{name: "tabs", text: "\t ssh-ed25519\t \t" + blob + " \t a  b\t", comment: "a  b"},
		{name: "options", text: "restrict,pty " + l, comment: "ann"},
		{name: "options and tabs", text: `from="10.0.0.1"` + "\t\t" + l, comment: "ann"},
		{name: "spaces in quotes", text: `cert-authority,principals="a b, c" ` + l, comment: "ann"},
		{name: "ecdsa", text: marshal(&ecdsaKey.PublicKey)},
		{name: "comment with a bidi override", text: l + "\u202e", comment: "ann\u202e"},
		{name: "space behind a comma", text: "restrict, pty " + l, err: "no key type"},
		{name: "space in an option", text: `from= "10.0.0.1" ` + l, err: "no key type"},
		{name: "a lone option", text: "restrict", err: "no key type"},
		{name: "a lone option and a blob", text: "restrict " + blob, err: "no key type"},
		{name: "no blob", text: "ssh-ed25519", err: "broken key"},
		{name: "half a blob", text: "ssh-ed25519 " + blob[:40], err: "broken key"},
		{name: "bad base64", text: "ssh-ed25519 !!!!", err: "broken key"},
		{name: "no padding", text: "ssh-ed25519 " + strings.TrimRight(blob, "=") + "A", err: "broken key"},
		{name: "another type", text: "ssh-rsa " + blob, err: "calls its key ssh-rsa"},
		{name: "a type in capitals", text: "SSH-ED25519 " + blob, err: "no key type"},
		{name: "a signature algorithm", text: "rsa-sha2-256 " + blob, err: "no key type"},
		{name: "unknown type", text: "ssh-quantum " + blob, err: "no key type"},
		{name: "open quote", text: `from="10.0.0.1 ` + l, err: "no key"},
		{name: "NUL", text: l + "\x00", err: "NUL"},
		{name: "not UTF-8", text: l + "\xff", err: "UTF-8"},
		{name: "long", text: l + strings.Repeat("x", maxLine), err: "longer than"},
		{name: "private key", text: "-----BEGIN OPENSSH PRIVATE KEY-----", err: "no key type"},
		{name: "byte order mark", text: "\ufeff" + l, err: "no key type"},
		{name: "unknown option", text: "command=\"ls\" " + l, refusal: `uses option "command" which adit does not know`, comment: "ann"},
		{name: "rsa 1024", text: marshal(testRSA(1024)), refusal: "is an RSA key of 1024 bits"},
		{name: "rsa 2048", text: marshal(testRSA(2048))},
		{name: "rsa 8192", text: marshal(testRSA(8192))},
		{name: "rsa 8200", text: marshal(testRSA(8200)), refusal: "is an RSA key of 8200 bits"},
		{name: "certificate", text: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(testCert("ann", "ca")))), refusal: "stands as a certificate"},
		{name: "dsa", text: dsaLine, refusal: "ssh-dss", comment: "old"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := parseLine(tt.text)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tt.refusal == "" && l.refusal != "" || !strings.Contains(l.refusal, tt.refusal) {
				t.Errorf("refusal %q, want %q", l.refusal, tt.refusal)
			}
			if l.comment != tt.comment {
				t.Errorf("comment %q", l.comment)
			}
		})
	}
}

func TestBlankLines(t *testing.T) {
	for _, s := range []string{"", " ", "\t", "# " + testLine("ann"), "  #\xff\x00"} {
		if l, err := parseLine(s); l != nil || err != nil {
			t.Errorf("%q: %v, %v", s, l, err)
		}
	}
}

func TestFingerprint(t *testing.T) {
	k := testKey("ann")
	if got, want := digestOf(k).String(), ssh.FingerprintSHA256(k); got != want {
		t.Errorf("%s, OpenSSH's is %s", got, want)
	}
}

// testRSA is a modulus of that many bits; it is never used to verify.
func testRSA(bits int) *rsa.PublicKey {
	return &rsa.PublicKey{N: testModulus(bits), E: 65537}
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func marshal(pub any) string {
	k, err := ssh.NewPublicKey(pub)
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
}

func FuzzLine(f *testing.F) {
	for _, s := range []string{
		testLine("ann"), "restrict " + testLine("ann"), `from="10.0.0.1",permitlisten="80"	` + testLine("ann"),
		"# x", `a="\"" ssh-rsa AAAA`, "ssh-rsa", dsaLine, `cert-authority ` + testLine("ca"),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseLine(s)
		if err != nil || l == nil {
			return
		}
		if l.refusal == "" && l.options == plain {
			fields := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' })
			raw, err := base64.StdEncoding.DecodeString(fields[1])
			if err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			k, err := ssh.ParsePublicKey(raw)
			if err != nil || digestOf(k) != l.key {
				t.Fatalf("%q: %v", s, err)
			}
		}
	})
}

// FuzzAgainstCrypto compares lines with options to x/crypto's reader: a line
// that it cannot read must not let anybody in here.
func FuzzAgainstCrypto(f *testing.F) {
	f.Add("restrict", "x")
	f.Add(`from="10.0.0.1"`, "")
	f.Add(`permitlisten="a b:80",pty`, "a b")
	f.Fuzz(func(t *testing.T, options, comment string) {
		s := options + " " + testLine("ann") + comment
		l, err := parseLine(s)
		if err != nil || l == nil || l.refusal != "" {
			return
		}
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(s))
		if err != nil || digestOf(k) != l.key {
			t.Fatalf("%q: taken here, elsewhere %v", s, err)
		}
	})
}
