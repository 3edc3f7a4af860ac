package acme

import (
	"errors"
	"net"
	"strings"
)

// ErrName is what Ensure says of a host that no certificate can be had for: no
// host name, or more than one label below the domain.
var ErrName = errors.New("no certificate can be had for this name")

// hostname gives s as a lower-case host name without port and final dot. ok is
// false for IP addresses and for anything that is no host name in the sense of
// RFC 1123 section 2.1 (RFC 8555 section 7.1.4 takes no other).
func hostname(s string) (name string, ok bool) {
	if len(s) > 300 {
		return "", false
	}
	if strings.IndexByte(s, ':') >= 0 {
		if h, _, err := net.SplitHostPort(s); err == nil {
			s = h
		}
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if s == "" || len(s) > 253 || net.ParseIP(s) != nil {
		return "", false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return "", false
		}
	}
	return s, true
}

// isLabel says whether s is letters, digits and inner hyphens, 1 to 63.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// below says whether name is under domain, and whether by one label only.
func below(name, domain string) (under, oneLabel bool) {
	label, under := strings.CutSuffix(name, "."+domain)
	return under && domain != "", under && domain != "" && !strings.Contains(label, ".")
}
