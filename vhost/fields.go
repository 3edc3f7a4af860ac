package vhost

import "bytes"

// kind is what a field means to the relay. One name has one kind, in requests
// and responses alike; what is done with it is decided in rules.go.
type kind uint8

const (
	kindPlain         kind = iota // relayed, unless Connection names it
	kindKept                      // relayed even then: it is meant for the other end (RFC 9110 7.6.1)
	kindHop                       // ends here (RFC 9110 7.6.1)
	kindForwarding                // says who a client is: ours to say
	kindUnderscore                // x_forwarded_for is X-Forwarded-For to a CGI
	kindLength                    // Content-Length
	kindTransfer                  // Transfer-Encoding
	kindConnection                // Connection
	kindTE                        // TE
	kindUpgrade                   // Upgrade
	kindHost                      // Host
	kindExpect                    // Expect
	kindAccept                    // Accept
	kindRequestID                 // X-Request-Id
	kindTraceparent               // traceparent (W3C Trace Context)
	kindTracestate                // tracestate
	kindDate                      // Date
	kindSetCookie                 // Set-Cookie
	kindClearSiteData             // Clear-Site-Data
	kindBad                       // not a field name
)

// lowerToken maps the characters of a token (RFC 9110 5.6.2) to lower case
// and everything else to 0.
var lowerToken = func() (t [256]byte) {
	for c := '0'; c <= '9'; c++ {
		t[c] = byte(c)
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = byte(c), byte(c)
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = byte(c)
	}
	return t
}()

// isText are the bytes of a field value: no control character but the tab
// (RFC 9110 5.5).
var isText = func() (t [256]bool) {
	for c := range t {
		t[c] = c == '\t' || c >= ' ' && c != 0x7f
	}
	return t
}()

// longestKnown bounds how much of a name is compared.
const longestKnown = 32

// kindOf classifies a field name, compared without case.
func kindOf(name []byte) kind {
	var low [longestKnown]byte
	underscore := false
	for i, c := range name {
		l := lowerToken[c]
		if l == 0 {
			return kindBad
		}
		underscore = underscore || l == '_'
		if i < len(low) {
			low[i] = l
		}
	}
	switch {
	case len(name) == 0:
		return kindBad
	case underscore:
		return kindUnderscore
	}
	return knownKind(low[:min(len(name), len(low))], len(name) > len(low))
}

// knownKind is kindOf for a name in lower case; cut says that it is only the
// beginning of a longer one.
func knownKind(low []byte, cut bool) kind {
	if k, ok := prefixKind(low); ok {
		return k
	}
	if cut {
		return kindPlain
	}
	switch string(low) {
	case "host":
		return kindHost
	case "content-length":
		return kindLength
	case "transfer-encoding":
		return kindTransfer
	case "connection":
		return kindConnection
	case "te":
		return kindTE
	case "upgrade":
		return kindUpgrade
	case "expect":
		return kindExpect
	case "accept":
		return kindAccept
	case "x-request-id":
		return kindRequestID
	case "traceparent":
		return kindTraceparent
	case "tracestate":
		return kindTracestate
	case "date":
		return kindDate
	case "set-cookie":
		return kindSetCookie
	case "clear-site-data":
		return kindClearSiteData
	}
	return otherKind(low)
}

// prefixKind knows the families of names.
func prefixKind(low []byte) (kind, bool) {
	switch {
	case low[0] == 'x' && (bytes.HasPrefix(low, []byte("x-forwarded")) || bytes.HasPrefix(low, []byte("x-original-"))):
		return kindForwarding, true
	case low[0] == 'p' && bytes.HasPrefix(low, []byte("proxy-")):
		return kindHop, true
	case low[0] == 'c' && bytes.HasPrefix(low, []byte("content-")) && string(low) != "content-length":
		return kindKept, true
	}
	return kindPlain, false
}

// otherKind knows the names of which nothing is remembered. Forwarding names
// are those that some proxy sets and some framework believes.
func otherKind(low []byte) kind {
	switch string(low) {
	case "keep-alive", "proxy", "http2-settings", "alt-svc": // the last says where *our* port is spoken otherwise
		return kindHop
	case "forwarded", "x-real-ip", "true-client-ip", "cf-connecting-ip", "cf-connecting-ipv6", "cf-pseudo-ipv4",
		"client-ip", "x-client-ip", "x-cluster-client-ip", "fastly-client-ip", "fly-client-ip",
		"x-remote-ip", "x-remote-addr", "x-originating-ip", "x-azure-clientip", "x-azure-socketip",
		"x-appengine-user-ip", "x-appengine-remote-addr", "x-envoy-external-address",
		"x-envoy-original-path", "wl-proxy-client-ip", "x-proxyuser-ip", "x-rewrite-url",
		"x-host", "x-http-host-override", "x-scheme", "x-url-scheme", "front-end-https":
		return kindForwarding
	case "cookie", "authorization", "origin", "referer", "user-agent", "range", "if-match", "if-none-match",
		"if-modified-since", "if-unmodified-since", "if-range", "cache-control", "accept-encoding",
		"accept-language", "etag", "last-modified", "location", "vary", "expires", "www-authenticate", "server":
		return kindKept
	}
	return kindPlain
}
