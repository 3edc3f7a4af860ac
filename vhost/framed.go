package vhost

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// HTTP/2 and HTTP/3 are taken out of their frames, and put into them, by
// libraries. What these have read is written down here in HTTP/1.1's form, and
// then read by the scanner that reads every other message; what the rules have
// written in that form is handed to them field by field. So what is refused,
// dropped, added and bounded is decided in one place for all versions.

// appendRequestText adds the head of q, for request.parse; its fields are in
// the order of their names. announced are the names of its trailer fields, and
// framing is a further field line, or nothing.
func appendRequestText(dst []byte, q *http.Request, announced http.Header, framing string) ([]byte, error) {
	switch {
	case q.Method == "CONNECT": // has no target (RFC 9113 8.5)
		return dst, faultMethod
	case len(q.RequestURI) > longestTarget: // said before the whole head is too long
		return dst, faultLongTarget
	case !isWord(q.Method):
		return dst, faultLine
	case !isWord(q.RequestURI) || q.RequestURI[0] != '/' && q.RequestURI != "*":
		return dst, faultTarget
	case !isWord(q.Host):
		return dst, faultHost
	}
	dst = append(append(dst, q.Method...), ' ')
	dst = append(append(dst, q.RequestURI...), " HTTP/1.1\r\nHost: "...)
	dst = append(append(dst, q.Host...), "\r\n"...)
	dst, err := appendFieldsText(dst, q.Header, q.Host)
	if err != nil {
		return dst, err
	}
	dst = appendAnnounced(dst, announced)
	return append(append(dst, framing...), "\r\n"...), nil
}

// appendResponseText adds the head of a response, for response.parse.
func appendResponseText(dst []byte, status int, h, announced http.Header, framing string) ([]byte, error) {
	dst = strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(status), 10)
	dst = append(append(dst, ' '), http.StatusText(status)...)
	dst, err := appendFieldsText(append(dst, "\r\n"...), h, "")
	if err != nil {
		return dst, err
	}
	dst = appendAnnounced(dst, announced)
	return append(append(dst, framing...), "\r\n"...), nil
}

// appendTrailerText adds a trailer section with its empty line.
func appendTrailerText(dst []byte, h http.Header) ([]byte, error) {
	dst, err := appendFieldsText(dst, h, "")
	return append(dst, "\r\n"...), err
}

// appendFieldsText adds the field lines of h, in the order of names. host is
// what a Host field must say, which is then left out (RFC 9113 8.3.1).
func appendFieldsText(dst []byte, h http.Header, host string) ([]byte, error) {
	var room [24]string // on the stack, which is a new one for each stream
	names := room[:0]
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		var err error
		if dst, err = appendValuesText(dst, name, h[name], host); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// appendValuesText adds the lines of one name. What could end a line is refused
// here, everything else by whoever reads the text. Cookies that came in several
// fields are one (RFC 9113 8.2.3).
func appendValuesText(dst []byte, name string, values []string, host string) ([]byte, error) {
	switch kindOf([]byte(name)) {
	case kindBad:
		return dst, faultField
	case kindConnection, kindTransfer, kindUpgrade: // RFC 9113 8.2.2
		return dst, faultHopField
	case kindHost:
		if len(values) != 1 || !strings.EqualFold(values[0], host) {
			return dst, faultAuthority
		}
		return dst, nil
	}
	if len(values) > 1 && name == "Cookie" {
		values = []string{strings.Join(values, "; ")}
	}
	for _, value := range values {
		if strings.ContainsAny(value, "\r\n\x00") {
			return dst, faultValue
		}
		dst = append(append(dst, name...), ": "...)
		dst = append(append(dst, value...), "\r\n"...)
	}
	return dst, nil
}

// appendAnnounced adds the Trailer field, which libraries take out of a head.
func appendAnnounced(dst []byte, trailer http.Header) []byte {
	prefix := "Trailer: "
	for name := range trailer {
		if kindOf([]byte(name)) != kindBad {
			dst = append(append(dst, prefix...), name...)
			prefix = ", "
		}
	}
	if prefix == ", " {
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// isWord reports whether s is not empty and has no space or control character:
// it can stand in a line that is split at spaces.
func isWord(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != ""
}

// fieldsOf yields the fields of a head that we have written, as text: what
// stands between its first line and its empty one.
func fieldsOf(head string) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		_, head, _ = strings.Cut(head, "\r\n")
		for {
			line, rest, _ := strings.Cut(head, "\r\n")
			name, value, ok := strings.Cut(line, ": ")
			if !ok || !yield(name, value) {
				return
			}
			head = rest
		}
	}
}

// cutHead splits what was written in HTTP/1.1's form after its head, and reads
// the status.
func cutHead(p []byte) (head string, status int, rest []byte) {
	i := bytes.Index(p, []byte("\r\n\r\n")) + 4
	n, _ := parseDecimal(p[9:12])
	return string(p[:i]), int(n), p[i:]
}
