package keys

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// maxLine is the longest line read. An RSA key of 8192 bits takes 1.4 KiB.
const maxLine = 16 << 10

// RSA moduli accepted, in bits: below is broken, above is a slow verify that
// anybody may ask for.
const minRSA, maxRSA = 2048, 8192

// digest is the SHA-256 of a key's wire form: its fingerprint, and what keys
// are looked up by.
type digest [sha256.Size]byte

func digestOf(k ssh.PublicKey) digest { return sha256.Sum256(k.Marshal()) }

// String is the fingerprint in OpenSSH's form.
func (d digest) String() string {
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(d[:])
}

// line is one line that names a key. It is immutable.
type line struct {
	user, file string
	number     int // 1 is the first
	key        digest
	keyType    string
	comment    string
	options    *Options
	refusal    string // a phrase as in Refusal.Reason; empty: usable
	implied    bool   // from a public key file: nobody wrote that it may log in
}

func (l *line) source() string { return l.file + ":" + strconv.Itoa(l.number) }

// plain is the options of every line that has none.
var plain = defaultOptions()

// parseLine reads one line of an authorized_keys file without its line end.
// It is nil for a blank line and a comment. The error of a line whose key can
// be read stands in refusal instead, so that the key's owner can be told.
func parseLine(s string) (*line, error) {
	s = strings.Trim(s, " \t")
	if s == "" || s[0] == '#' {
		return nil, nil
	}
	if err := checkText(s); err != nil {
		return nil, err
	}
	if typ, _ := cutField(s); keyTypes[typ] != "" {
		return parseKey(s)
	}
	field, rest := splitOptions(s)
	l, err := parseKey(rest)
	if err != nil {
		return nil, err
	}
	if l.options, err = parseOptions(field); err != nil {
		l.options, l.refusal = refusedOptions(field), err.Error()
	}
	return l, nil
}

// refusedOptions allows nothing. It says whose reason the refusal is: that of
// a login key or of the certificates of an authority.
func refusedOptions(field string) *Options {
	return &Options{text: field, CertAuthority: strings.Contains(strings.ToLower(field), "cert-authority")}
}

// checkText refuses what no editor means to write.
func checkText(s string) error {
	switch {
	case len(s) > maxLine:
		return fmt.Errorf("is longer than %d bytes", maxLine)
	case strings.IndexByte(s, 0) >= 0:
		return errors.New("has a NUL byte")
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8")
	}
	return nil
}

// keyTypes are the types a line may name, each with what it is.
var keyTypes = map[string]string{
	ssh.KeyAlgoED25519:             "key",
	ssh.KeyAlgoRSA:                 "key",
	ssh.KeyAlgoECDSA256:            "key",
	ssh.KeyAlgoECDSA384:            "key",
	ssh.KeyAlgoECDSA521:            "key",
	ssh.KeyAlgoSKED25519:           "key",
	ssh.KeyAlgoSKECDSA256:          "key",
	"ssh-dss":                      "dsa",
	ssh.CertAlgoED25519v01:         "certificate",
	ssh.CertAlgoRSAv01:             "certificate",
	ssh.CertAlgoECDSA256v01:        "certificate",
	ssh.CertAlgoECDSA384v01:        "certificate",
	ssh.CertAlgoECDSA521v01:        "certificate",
	ssh.CertAlgoSKED25519v01:       "certificate",
	ssh.CertAlgoSKECDSA256v01:      "certificate",
	"ssh-dss-cert-v01@openssh.com": "certificate",
}

// refusedType is why a key of a type that can be read is not taken.
func refusedType(typ string) string {
	switch keyTypes[typ] {
	case "key":
		return ""
	case "dsa":
		return "is of type ssh-dss, which is too weak"
	case "certificate":
		return "stands as a certificate where a key should"
	}
	return "is of a type that adit does not know"
}

// parseKey reads "type base64 comment".
func parseKey(s string) (*line, error) {
	typ, rest := cutField(s)
	if keyTypes[typ] == "" {
		return nil, fmt.Errorf("has no key: %s is no key type", quote(typ))
	}
	data, comment := cutField(rest)
	blob, err := base64.StdEncoding.Strict().DecodeString(data)
	if err != nil {
		return nil, fmt.Errorf("has a broken key: %w", err)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, fmt.Errorf("has a broken key: %s", quote(err.Error()))
	}
	if key.Type() != typ {
		return nil, fmt.Errorf("calls its key %s, which is %s", typ, key.Type())
	}
	l := &line{key: digestOf(key), keyType: typ, comment: strings.Trim(comment, " \t"), options: plain}
	l.refusal = refusedKey(key)
	return l, nil
}

// cutField takes one field, and the spaces and tabs before it.
func cutField(s string) (field, rest string) {
	s = strings.TrimLeft(s, " \t")
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// refusedKey is why a key, wherever it comes from, is not taken.
func refusedKey(k ssh.PublicKey) string {
	if n := rsaBits(k); n != 0 && (n < minRSA || n > maxRSA) {
		return fmt.Sprintf("is an RSA key of %d bits, and %d to %d are taken", n, minRSA, maxRSA)
	}
	return refusedType(k.Type())
}

// rsaBits is the modulus of an RSA key, else 0.
func rsaBits(k ssh.PublicKey) int {
	c, ok := k.(ssh.CryptoPublicKey)
	if !ok {
		return 0
	}
	r, ok := c.CryptoPublicKey().(*rsa.PublicKey)
	if !ok {
		return 0
	}
	return r.N.BitLen()
}
