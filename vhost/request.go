package vhost

import (
	"bytes"
)

// The limits of a request's head.
const (
	longestHead   = 32 << 10
	mostFields    = 100
	longestMethod = 32
)

// request is a visitor's request as it was read. Its slices belong to the
// visitor's buffer and are good until the body is read.
type request struct {
	head
	method    string // interned where it is a common one
	target    []byte // origin-form or "*"
	authority []byte // of an absolute-form target
	old       bool   // HTTP/1.0

	hostValue []byte // Host as it was sent
	hosts     int
	shown     []byte // the Host that a trusted proxy was asked for; nil: hostValue

	expect   bool // Expect: 100-continue
	trailers bool // TE: trailers
	html     bool // Accept has text/html

	id, trace []byte // X-Request-Id and traceparent, if they are well-formed
	ids       int
	traces    int
}

// parse reads a whole head, b, from its request line to its empty line.
func (q *request) parse(b []byte) error {
	line, rest := cutLine(b)
	*q = request{head: q.head}
	if err := q.parseLine(line); err != nil {
		return err
	}
	if err := q.scan(rest, mostFields); err != nil {
		return err
	}
	for i := range q.fields {
		if err := q.noteRequest(&q.fields[i]); err != nil {
			return err
		}
	}
	return q.check()
}

// parseLine takes the request line apart: three words, one space between
// (RFC 9112 3).
func (q *request) parseLine(line []byte) error {
	method, rest, ok1 := bytes.Cut(line, []byte{' '})
	target, version, ok2 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 {
		return faultLine
	}
	if err := q.parseVersion(version); err != nil {
		return err
	}
	if err := q.parseMethod(method); err != nil {
		return err
	}
	var err error
	q.target, q.authority, err = originForm(q.method, target)
	return err
}

// parseVersion takes HTTP/1.0 and HTTP/1.1; another well-formed version is
// one we do not speak.
func (q *request) parseVersion(v []byte) error {
	switch string(v) {
	case "HTTP/1.1":
		return nil
	case "HTTP/1.0":
		q.old = true
		return nil
	}
	if len(v) == 8 && string(v[:5]) == "HTTP/" && v[6] == '.' && isDigit(v[5]) && isDigit(v[7]) {
		return faultVersion
	}
	return faultLine
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// parseMethod refuses CONNECT and TRACE, which ask something of the gateway
// itself, and methods in lower case, which some services would take for the
// method in upper case that another reader has checked.
func (q *request) parseMethod(b []byte) error {
	if len(b) == 0 || len(b) > longestMethod {
		return faultLine
	}
	for _, c := range b {
		switch {
		case lowerToken[c] == 0:
			return faultLine
		case c >= 'a' && c <= 'z':
			return faultUnknown
		}
	}
	q.method = internMethod(b)
	switch q.method {
	case "CONNECT", "TRACE":
		return faultMethod
	case "PRI":
		return faultLine
	}
	return nil
}

// internMethod saves the allocation for the methods that occur.
func internMethod(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "HEAD":
		return "HEAD"
	case "POST":
		return "POST"
	case "PUT":
		return "PUT"
	case "DELETE":
		return "DELETE"
	case "PATCH":
		return "PATCH"
	case "OPTIONS":
		return "OPTIONS"
	}
	return string(b)
}

// noteRequest draws from one field what only requests have.
func (q *request) noteRequest(f *field) error {
	switch f.kind {
	case kindHost:
		q.hostValue = f.value
		q.hosts++
	case kindExpect:
		if !equalFold(f.value, "100-continue") {
			return faultExpect
		}
		q.expect = !q.old // RFC 9110 10.1.1: not from HTTP/1.0
	case kindTE:
		for coding := range listOf(f.value) {
			q.trailers = q.trailers || equalFold(coding, "trailers")
		}
	case kindAccept:
		q.html = q.html || bytes.Contains(f.value, []byte("text/html"))
	case kindRequestID:
		q.id = f.value
		q.ids++
	case kindTraceparent:
		q.trace = f.value
		q.traces++
	}
	return nil
}

// check is what is only known once all fields are.
func (q *request) check() error {
	switch {
	case q.hosts != 1:
		return faultHost
	case q.old && q.coded:
		return faultTransfer
	}
	if q.ids != 1 || !validID(q.id) {
		q.id = nil
	}
	if q.traces != 1 || !validTrace(q.trace) {
		q.trace = nil
	}
	return nil
}

// hasBody reports whether a body follows the head (RFC 9112 6).
func (q *request) hasBody() bool { return q.chunked || q.length > 0 }

// persistent reports whether the visitor will send another request on this
// connection (RFC 9112 9.3).
func (q *request) persistent() bool {
	return !q.close && (!q.old || q.keepAlive)
}

// wantsUpgrade returns the protocol that is asked for, if it is one that is
// relayed; everything else is served as if it had not been asked for
// (RFC 9110 7.8).
func (q *request) wantsUpgrade() string {
	if q.old || q.method != "GET" && q.method != "POST" || !q.upgrading || q.upgrades != 1 || q.hasBody() {
		return ""
	}
	for _, name := range upgrades {
		if equalFold(q.upgrade, name) {
			return name
		}
	}
	return ""
}

// idempotent methods may be sent again after a connection broke before an
// answer (RFC 9110 9.2.2); PUT and DELETE are left out, as services differ.
func (q *request) idempotent() bool {
	return (q.method == "GET" || q.method == "HEAD" || q.method == "OPTIONS") && !q.hasBody()
}
