package vhost

import (
	"bytes"
)

// field is one field line; both slices belong to the reader's buffer.
type field struct {
	name, value []byte
	kind        kind
}

// head is what the fields of a message say, before anybody acts on it.
type head struct {
	fields []field

	length  int64 // Content-Length; -1: none
	chunked bool  // the message body is chunked
	coded   bool  // there was a Transfer-Encoding

	close, keepAlive bool   // Connection options
	upgrading        bool   // Connection: upgrade
	nominates        int    // how many other fields Connection names
	upgrade          []byte // the value of Upgrade, if there was exactly one
	upgrades         int
}

// mostNominated bounds the options of Connection, each of which is compared
// with each field.
const mostNominated = 32

// headEnd looks for the end of a head (or trailer section) in b: the offset
// behind its empty line, or 0 if that has not arrived. line is the offset of
// the line that is incomplete, to go on from. A line feed that stands alone is
// refused when it is seen, for it would hide the end from this or from the
// next reader (RFC 9112 2.2 allows, and does not ask, to take it for a line's
// end).
func headEnd(b []byte, from int) (end, line int, err error) {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		switch {
		case i < 0:
			return 0, from, nil
		case i == 0 || b[from+i-1] != '\r':
			return 0, from, faultBareLF
		case i == 1:
			return from + 2, from, nil
		}
		from += i + 1
	}
}

// cutLine splits b after its first line, which is returned without CRLF.
// headEnd has seen to it that there is one.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	return b[:i-1], b[i+1:]
}

// scan reads field lines up to and without the empty one, at most limit.
func (h *head) scan(b []byte, limit int) error {
	*h = head{fields: h.fields[:0], length: -1}
	for len(b) > 2 {
		var line []byte
		line, b = cutLine(b)
		if len(h.fields) == limit {
			return faultLongHead
		}
		f, err := scanField(line)
		if err != nil {
			return err
		}
		if err := h.note(&f); err != nil {
			return err
		}
		h.fields = append(h.fields, f)
	}
	if h.coded && h.length >= 0 {
		return faultBoth
	}
	return nil
}

// scanField reads one line: a token, a colon with nothing before it, and a
// value that is stripped of white space at both ends (RFC 9112 5.1).
func scanField(line []byte) (f field, err error) {
	colon := bytes.IndexByte(line, ':')
	switch {
	case line[0] == ' ' || line[0] == '\t':
		return f, faultFold
	case colon < 0:
		return f, faultField
	}
	f.name, f.value = line[:colon], trim(line[colon+1:])
	if f.kind = kindOf(f.name); f.kind == kindBad {
		return f, faultField
	}
	for _, c := range f.value {
		if !isText[c] {
			return f, faultValue
		}
	}
	return f, nil
}

// trim removes optional white space (RFC 9110 5.6.3) at both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// note draws from one field what framing and connection handling need.
func (h *head) note(f *field) error {
	switch f.kind {
	case kindLength:
		return h.noteLength(f.value)
	case kindTransfer:
		if h.coded || !equalFold(f.value, "chunked") {
			return faultTransfer
		}
		h.coded, h.chunked = true, true
	case kindConnection:
		if h.noteConnection(f.value); h.nominates > mostNominated {
			return faultOptions
		}
	case kindUpgrade:
		h.upgrade = f.value
		h.upgrades++
	}
	return nil
}

// noteLength takes one Content-Length of digits. A list of equal values, which
// RFC 9110 8.6 would let a recipient repair, is refused like any other.
func (h *head) noteLength(value []byte) error {
	n, ok := parseDecimal(value)
	if !ok || h.length >= 0 {
		return faultLength
	}
	h.length = n
	return nil
}

// parseDecimal reads digits only, and at most 18 of them.
func parseDecimal(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// noteConnection remembers the options that are known; any other names a
// field that is meant for this hop.
func (h *head) noteConnection(value []byte) {
	for option := range listOf(value) {
		switch {
		case equalFold(option, "close"):
			h.close = true
		case equalFold(option, "keep-alive"):
			h.keepAlive = true
		case equalFold(option, "upgrade"):
			h.upgrading = true
		case len(option) > 0:
			h.nominates++
		}
	}
}

// nominated reports whether a Connection field names the given field.
func (h *head) nominated(name []byte) bool {
	for i := range h.fields {
		if h.fields[i].kind != kindConnection {
			continue
		}
		for option := range listOf(h.fields[i].value) {
			if bytes.EqualFold(option, name) {
				return true
			}
		}
	}
	return false
}

// listOf yields the elements of a comma-separated list (RFC 9110 5.6.1).
func listOf(value []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(value) > 0 {
			element, rest, _ := bytes.Cut(value, comma)
			if !yield(trim(element)) {
				return
			}
			value = rest
		}
	}
}

var comma = []byte{','}

// equalFold compares with a word in lower case, ASCII only.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c != lower[i] && lowerToken[c] != lower[i] {
			return false
		}
	}
	return true
}
