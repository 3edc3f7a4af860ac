package vhost

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// The limits of a response's head.
const (
	longestResponseHead = 128 << 10
	mostResponseFields  = 1000
	mostInterim         = 8
)

// response is a service's response as it was read. Its slices belong to the
// upstream connection's buffer and are good until the body is read.
type response struct {
	head
	status  int
	line    []byte // "200 OK", as it came after the version
	old     bool   // HTTP/1.0
	dated   bool   // there is a Date
	bodied  bool   // a body follows
	toClose bool   // the body ends with the connection
}

// parse reads a whole head, b. forHead says that the request was HEAD.
func (p *response) parse(b []byte, forHead bool) error {
	line, rest := cutLine(b)
	*p = response{head: p.head}
	if err := p.parseLine(line); err != nil {
		return err
	}
	if err := p.scan(rest, mostResponseFields); err != nil {
		return err
	}
	if p.old && p.coded {
		return faultTransfer
	}
	for i := range p.fields {
		p.dated = p.dated || p.fields[i].kind == kindDate
	}
	p.frame(forHead)
	return nil
}

// parseLine takes "HTTP/1.1 200 OK"; the reason may be missing (RFC 9112 4).
func (p *response) parseLine(line []byte) error {
	if len(line) < 12 || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return faultStatusLine
	}
	switch string(line[:8]) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		p.old = true
	default:
		return faultStatusLine
	}
	n, ok := parseDecimal(line[9:12])
	if !ok || n < 100 {
		return faultStatusLine
	}
	for _, c := range line[12:] {
		if !isText[c] {
			return faultStatusLine
		}
	}
	p.status, p.line = int(n), line[9:]
	return nil
}

// frame decides where the body ends (RFC 9112 6.3).
func (p *response) frame(forHead bool) {
	p.bodied = !forHead && p.framed()
	p.toClose = p.bodied && !p.chunked && p.length < 0
}

// framed reports whether the status lets a response say how a body is framed,
// be it that of a GET (RFC 9112 6.1).
func (p *response) framed() bool { return p.status >= 200 && p.status != 204 && p.status != 304 }

// start sets b to read the response's body.
func (p *response) start(b *body) {
	switch {
	case !p.bodied:
		b.reset(stateEnd, 0)
	case p.toClose:
		b.reset(stateClose, 0)
	default:
		b.requestBody(&p.head)
	}
}

// reusable reports whether the connection may carry another request.
func (p *response) reusable() bool { return !p.old && !p.close && !p.toClose }

// delivery is how a response goes to one visitor.
type delivery struct {
	old       bool   // the visitor speaks HTTP/1.0
	framed    bool   // it speaks HTTP/2 or HTTP/3, which have no connection fields
	keep      bool   // the connection goes on afterwards
	domain    string // cookies may not be set for this domain or above it
	host      string // that was asked for
	altSvc    string // a field line
	switching string // the protocol that a 101 switches to
}

// chunked reports whether the body is sent in chunks: as it came, or because
// its end could not be told otherwise without ending the connection.
func (d *delivery) chunked(p *response) bool {
	return !d.old && !d.framed && (p.chunked || p.toClose)
}

// chunks reports whether there is a body to be sent so: the answer to a HEAD may
// only say it.
func (d *delivery) chunks(p *response) bool { return p.bodied && d.chunked(p) }

// keeps reports whether the connection goes on after the response.
func (d *delivery) keeps(p *response) bool {
	return d.keep && !(d.old && p.bodied && p.length < 0)
}

// appendResponse adds the head that the visitor gets: the service's fields in
// their order and spelling, and then those of this hop.
func (d *delivery) appendResponse(dst []byte, p *response) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = append(dst, p.line...)
	if len(p.line) == 3 {
		dst = append(dst, ' ')
	}
	dst = append(dst, "\r\n"...)
	for i := range p.fields {
		switch f := &p.fields[i]; {
		case f.kind == kindLength && p.status >= 200 && p.status != 204:
			dst = appendLength(dst, p.length)
		case f.kind == kindTransfer && p.framed() && d.chunked(p):
			dst = append(dst, chunkedLine...)
		case !p.relayedBack(f):
		case f.kind == kindSetCookie:
			dst = appendCookie(dst, f.name, f.value, d.domain)
		case f.kind == kindClearSiteData && d.shares():
			dst = appendClearing(dst, f.name, f.value)
		default:
			dst = appendField(dst, f.name, f.value)
		}
	}
	return append(d.appendFraming(dst, p), "\r\n"...)
}

// appendFraming adds the fields of this hop, and the Date that RFC 9110 6.6.1
// asks of a recipient that forwards a response without one.
func (d *delivery) appendFraming(dst []byte, p *response) []byte {
	if p.status < 200 {
		return d.appendSwitch(dst)
	}
	if p.toClose && d.chunked(p) {
		dst = append(dst, chunkedLine...)
	}
	if !p.dated {
		dst = append(dst, dateLine(time.Now())...)
	}
	dst = append(dst, d.altSvc...)
	switch {
	case d.framed:
	case !d.keeps(p):
		dst = append(dst, "Connection: close\r\n"...)
	case d.old:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	return dst
}

// appendSwitch adds what a 101 must have (RFC 9110 7.8).
func (d *delivery) appendSwitch(dst []byte) []byte {
	if d.switching == "" {
		return dst
	}
	dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
	dst = append(dst, d.switching...)
	return append(dst, "\r\n"...)
}

// lastDate is the Date line of the current second, shared by all.
var lastDate atomic.Pointer[datedLine]

type datedLine struct {
	second int64
	line   string
}

// dateLine returns the Date field line for now.
func dateLine(now time.Time) string {
	if d := lastDate.Load(); d != nil && d.second == now.Unix() {
		return d.line
	}
	d := &datedLine{now.Unix(), "Date: " + now.UTC().Format(http.TimeFormat) + "\r\n"}
	lastDate.Store(d)
	return d.line
}

// appendStatus adds a status line of our own.
func appendStatus(dst []byte, status int, text string) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, text...)
	return append(dst, "\r\n"...)
}
