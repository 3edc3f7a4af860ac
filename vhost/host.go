package vhost

import (
	"bytes"
	"net/netip"
)

// longestHost is DNS's limit for a name in text form (RFC 1035 2.3.4).
const longestHost = 253

// canonicalHost appends to dst the name that a Host value means: lower case,
// without port and without one trailing dot. An IP literal is a name like any
// other (an IPv6 one keeps its brackets). ok is false for anything that is not
// one name with at most a port: that includes lists, user information and
// non-ASCII.
func canonicalHost(dst, value []byte) (host []byte, ok bool) {
	if len(value) > 0 && value[0] == '[' {
		return canonicalIPv6(dst, value)
	}
	name, port, found := bytes.Cut(value, []byte{':'})
	if found && !validPort(port) {
		return nil, false
	}
	name = bytes.TrimSuffix(name, []byte{'.'})
	if len(name) == 0 || len(name) > longestHost {
		return nil, false
	}
	return appendLabels(dst, name)
}

// appendLabels appends name in lower case if each of its labels has 1 to 63
// letters, digits, hyphens or underscores.
func appendLabels(dst, name []byte) ([]byte, bool) {
	label := 0
	for _, c := range name {
		l := lowerToken[c]
		switch {
		case c == '.' && label > 0:
			label = -1
		case l >= 'a' && l <= 'z', l >= '0' && l <= '9', l == '-', l == '_':
		default:
			return nil, false
		}
		if label++; label > 63 {
			return nil, false
		}
		dst = append(dst, l)
	}
	return dst, label > 0
}

// canonicalIPv6 is canonicalHost for "[address]" and "[address]:port".
func canonicalIPv6(dst, value []byte) ([]byte, bool) {
	end := bytes.IndexByte(value, ']')
	if end < 0 {
		return nil, false
	}
	rest := value[end+1:]
	if len(rest) > 0 && (rest[0] != ':' || !validPort(rest[1:])) {
		return nil, false
	}
	a, err := netip.ParseAddr(string(value[1:end]))
	if err != nil || !a.Is6() || a.Zone() != "" {
		return nil, false
	}
	dst = append(dst, '[')
	dst = a.AppendTo(dst)
	return append(dst, ']'), true
}

// validPort reports whether b is a port of at most five digits; RFC 3986 3.2.3
// lets it be empty.
func validPort(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	n, ok := parseDecimal(b)
	return ok && len(b) <= 5 && n <= 65535
}
