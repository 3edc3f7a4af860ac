package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/sethvargo/go-diceware/diceware"
)

// reservedNames are taken by nobody: they are the gateway's own, or names
// that programs on a network look up by themselves and trust.
var reservedNames = []string{
	"inspect", "www", "admin", "api", "mail", "smtp", "imap", "pop", "pop3", "mx", "ftp", "ssh",
	"ns", "dns", "wpad", "autodiscover", "autoconfig", "isatap",
	"localhost", "localdomain", "broadcasthost", "acme", "acme-challenge", "mta-sts", "adit",
	"gateway", "gw", "root", "postmaster", "hostmaster", "webmaster", "abuse", "security", "status",
	"internal", "private", "local", "static", "assets", "cdn", "login", "auth", "sso", "account",
}

// validLabel says what is wrong with a name's label, "" if nothing: RFC 5890,
// section 2.3.1, keeps "--" at the third place.
func validLabel(s string) string {
	if why := hostLabel(s); why != "" {
		return why
	}
	if len(s) > 3 && s[2:4] == "--" {
		return "the third and fourth character may not be --"
	}
	return ""
}

// hostLabel says what is wrong with one label of a host name, "" if nothing
// (RFC 1035, section 2.3.1).
func hostLabel(s string) string {
	switch {
	case s == "":
		return "it is empty"
	case len(s) > 63:
		return "it is longer than 63 characters"
	case strings.ContainsFunc(s, notLabel):
		return "only a-z, 0-9 and - may be used"
	case s[0] == '-' || s[len(s)-1] == '-':
		return "it may not begin or end with -"
	}
	return ""
}

// domainLabel is hostLabel or, but for those of IDNA, validLabel.
func domainLabel(s string) string {
	if strings.HasPrefix(s, "xn--") {
		return hostLabel(s)
	}
	return validLabel(s)
}

// validName says what is wrong with a name as it was asked for.
func validName(name string, custom bool) string {
	if custom {
		return validCustom(name)
	}
	return validLabel(name)
}

func notLabel(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
}

// lower folds the case of A to Z and of nothing else (RFC 4343, section 3):
// Unicode has letters that fold into those.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// bindName reads the address part of -R: name is the label asked for, lower
// case, or "" where none was given. custom is set for a name outside the
// domain.
func bindName(addr, domain string) (name string, custom bool) {
	a := lower(strings.TrimSuffix(addr, "."))
	switch a {
	case "", "localhost", "*", domain:
		return "", false
	}
	if ip := net.ParseIP(strings.Trim(a, "[]")); ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		return "", false
	}
	if label, ok := strings.CutSuffix(a, "."+domain); ok {
		return label, false
	}
	return a, strings.Contains(a, ".")
}

// words are the first two parts of default names. The list is the library's;
// a test holds it to its sum, because names derived from it must never move.
var words = func() []string {
	var all []string
	list := diceware.WordListEffLarge()
	for n := range 7776 {
		d := 0
		for p := 10000; p > 0; p, n = p/10, n/6 {
			d += (n%6 + 1) * p
		}
		if w := list.WordAt(d); validLabel(w) == "" && !strings.Contains(w, "-") && len(w) <= 9 {
			all = append(all, w)
		}
	}
	return all
}()

// defaultShape is what default names look like: two words, and four letters
// or digits with a digit among them.
var defaultShape = regexp.MustCompile(`^[a-z]{3,9}-[a-z]{3,9}-[a-z0-9]{4}$`)

func isDefaultShape(name string) bool {
	return defaultShape.MatchString(name) && strings.ContainsAny(name[len(name)-4:], "0123456789")
}

// defaultName derives the name of an identity's forward with that index. It
// is the same on every node that has the secret, and tells nothing to who
// has not: about 46 bits.
func defaultName(secret []byte, identity string, index int) string {
	for round := 0; ; round++ {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "adit default name\x00%s\x00%d\x00%d", identity, index, round)
		sum := mac.Sum(nil)
		pick := func(i, n int) int { return int(binary.BigEndian.Uint64(sum[i*8:]) % uint64(n)) }
		const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
		tail := make([]byte, 4)
		for i, n := 0, pick(2, 36*36*36*36); i < 4; i, n = i+1, n/36 {
			tail[i] = letters[n%36]
		}
		name := words[pick(0, len(words))] + "-" + words[pick(1, len(words))] + "-" + string(tail)
		if isDefaultShape(name) {
			return name
		}
	}
}
