package vhost

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// What the service of one name may do to the cookies of others under the same
// domain: nothing.

// appendCookie adds a Set-Cookie line, without a Domain attribute that equals
// or covers domain: such a cookie would reach every other name there. Without
// it the cookie goes to the host that set it alone (RFC 6265 5.3). Everything
// else stays byte for byte.
func appendCookie(dst, name, value []byte, domain string) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	part, rest, more := bytes.Cut(value, semicolon)
	dst = append(dst, part...)
	for more {
		part, rest, more = bytes.Cut(rest, semicolon)
		if domain != "" && domainAttribute(part, domain) {
			continue
		}
		dst = append(dst, ';')
		dst = append(dst, part...)
	}
	return append(dst, "\r\n"...)
}

var semicolon = []byte{';'}

// domainAttribute reports whether attribute is a Domain that equals domain or
// is above it, or may be to a browser, which maps letters beyond ASCII to others
// (RFC 6265, section 5.1.2).
func domainAttribute(attribute []byte, domain string) bool {
	key, value, ok := bytes.Cut(attribute, []byte{'='})
	if !ok || !equalFold(trim(key), "domain") {
		return false
	}
	value = bytes.Trim(value, " \t\"")
	value = bytes.Trim(value, ".")
	switch {
	case bytes.ContainsFunc(value, func(r rune) bool { return r >= utf8.RuneSelf }):
		return true
	case len(value) > len(domain):
		return false
	}
	above := domain[len(domain)-len(value):]
	return bytes.EqualFold(value, []byte(above)) &&
		(len(value) == len(domain) || len(value) > 0 && domain[len(domain)-len(value)-1] == '.')
}

// shares reports whether the host is one of several under the domain, which
// browsers take for one site.
func (d *delivery) shares() bool {
	return d.domain != "" && strings.HasSuffix(d.host, d.domain)
}

// appendClearing adds a Clear-Site-Data line without "cookies" (W3C Clear Site
// Data, section 3.1): browsers delete those of the whole site, every other name's
// among them. "*" becomes what is the host's own.
func appendClearing(dst, name, value []byte) []byte {
	var own []string
	for what := range strings.SplitSeq(string(value), ",") {
		switch what = strings.Trim(what, " \t"); what {
		case `"cookies"`:
		case `"*"`:
			own = append(own, `"cache"`, `"storage"`, `"executionContexts"`)
		default:
			own = append(own, what)
		}
	}
	if len(own) == 0 {
		return dst
	}
	return appendField(dst, name, []byte(strings.Join(own, ", ")))
}
