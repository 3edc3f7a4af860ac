package vhost

import (
	"bytes"
	"unicode/utf8"
)

// longestTarget bounds a request target; longer is 414.
const longestTarget = 16 << 10

// originForm checks a request target and returns it as it goes to the
// service: origin-form, or "*" (RFC 9112 3.2). Path and query stay byte for
// byte. authority is what an absolute-form target named, else nil.
func originForm(method string, target []byte) (origin, authority []byte, err error) {
	if err := checkTarget(target); err != nil {
		return nil, nil, err
	}
	switch {
	case target[0] == '/':
		return target, nil, nil
	case len(target) == 1 && target[0] == '*' && method == "OPTIONS":
		return target, nil, nil
	}
	return absoluteForm(method, target)
}

// absoluteForm takes "http://authority/path" apart. An absent path is "/", or
// "*" for OPTIONS (RFC 9112 3.2.4).
func absoluteForm(method string, target []byte) (origin, authority []byte, err error) {
	scheme, rest, ok := bytes.Cut(target, []byte("://"))
	if !ok || !equalFold(scheme, "http") && !equalFold(scheme, "https") {
		return nil, nil, faultTarget
	}
	i := bytes.IndexAny(rest, "/?")
	switch {
	case i == 0 || len(rest) == 0:
		return nil, nil, faultTarget
	case i < 0 && method == "OPTIONS":
		return []byte{'*'}, rest, nil
	case i < 0:
		return []byte{'/'}, rest, nil
	case rest[i] == '?':
		return append([]byte{'/'}, rest[i:]...), rest[:i], nil
	}
	return rest[i:], rest[:i], nil
}

// checkTarget refuses what no two readers take alike: control characters and
// spaces, a fragment, a backslash or a malformed escape in the path, and text
// that is not UTF-8. Characters beyond ASCII are let through as they came,
// though RFC 3986 has none: clients send them, services take them.
func checkTarget(target []byte) error {
	if len(target) > longestTarget {
		return faultLongTarget
	}
	ascii, query := true, false
	for i, c := range target {
		switch {
		case c <= ' ' || c == 0x7f || c == '#':
			return faultTarget
		case c >= utf8.RuneSelf:
			ascii = false
		case c == '?':
			query = true
		case !query && (c == '\\' || c == '%' && !escape(target[i:])):
			return faultTarget
		}
	}
	if len(target) == 0 || !ascii && !plainText(target) {
		return faultTarget
	}
	return nil
}

// escape reports whether b begins with a percent-encoded byte.
func escape(b []byte) bool {
	return len(b) > 2 && hexDigit(b[1]) >= 0 && hexDigit(b[2]) >= 0
}

// plainText reports whether b is UTF-8 without C1 control characters.
func plainText(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 || r >= 0x80 && r < 0xa0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// hexDigit returns the value of a hexadecimal digit, or -1.
func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
