package vhost

import "strconv"

// The rules of what passes, each in one place: they are given fields and know
// nothing of where these came from.

// upgrades are the protocols that a visitor may switch to: WebSocket, and what
// Docker and Kubernetes attach to containers by. None of them is HTTP again (h2c,
// TLS), whose requests would pass by these rules.
var upgrades = []string{"websocket", "tcp", "spdy/3.1"}

// relayed reports whether a request's field goes to the service as it is.
// What says who the client is never does: we say it ourselves, if from what a
// trusted proxy says (forwarded.go).
func (q *request) relayed(f *field) bool {
	switch f.kind {
	case kindHop, kindForwarding, kindUnderscore, kindLength, kindTransfer, kindConnection, kindTE, kindUpgrade:
		return false
	case kindRequestID, kindTraceparent:
		return false // set below, the visitor's value if it is well-formed
	case kindTracestate:
		return q.trace != nil
	case kindExpect:
		return q.expect
	case kindPlain:
		return q.nominates == 0 || !q.nominated(f.name)
	}
	return true
}

// relayedBack reports whether a response's field goes to the visitor as it is.
func (h *head) relayedBack(f *field) bool {
	switch f.kind {
	case kindHop, kindLength, kindTransfer, kindConnection, kindTE, kindUpgrade:
		return false
	case kindPlain, kindForwarding, kindUnderscore:
		return h.nominates == 0 || !h.nominated(f.name)
	}
	return true
}

// relayedTrailers yields the trailer fields that may stand there: none that
// frame, route or authenticate a message (RFC 9110 6.5.1), which is to say
// none that we know. back says that the body is a response's, which may have
// underscores in names.
func (b *body) relayedTrailers(back bool) func(yield func(*field) bool) {
	return func(yield func(*field) bool) {
		for i := range b.trailers.fields {
			f := &b.trailers.fields[i]
			if f.kind == kindPlain || back && f.kind == kindUnderscore {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// appendField adds one field line.
func appendField(dst, name, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// chunkedLine is the one Transfer-Encoding there is.
const chunkedLine = "Transfer-Encoding: chunked\r\n"

// appendLength adds Content-Length.
func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

// appendRequest adds the head that the service gets: the visitor's fields in
// their order and spelling, and then what is ours to say. client holds the
// lines about the visitor's connection.
func (q *request) appendRequest(dst []byte, client, upgrade string) []byte {
	dst = append(dst, q.method...)
	dst = append(dst, ' ')
	dst = append(dst, q.target...)
	dst = append(dst, " HTTP/1.1\r\n"...)
	for i := range q.fields {
		switch f := &q.fields[i]; {
		case f.kind == kindLength:
			dst = appendLength(dst, q.length)
		case f.kind == kindTransfer:
			dst = append(dst, chunkedLine...)
		case q.relayed(f):
			dst = appendField(dst, f.name, f.value)
		}
	}
	dst = q.appendHop(dst, upgrade)
	dst = append(dst, client...)
	dst = q.appendForwardedHost(dst)
	dst = q.appendIDs(dst)
	return append(dst, "\r\n"...)
}

// appendForwardedHost adds the name that the visitor asked for.
func (q *request) appendForwardedHost(dst []byte) []byte {
	host := q.hostValue
	if q.shown != nil {
		host = q.shown
	}
	dst = append(dst, "X-Forwarded-Host: "...)
	return append(append(dst, host...), "\r\n"...)
}

// appendHop adds the Connection field of this hop, and what it names.
func (q *request) appendHop(dst []byte, upgrade string) []byte {
	switch {
	case upgrade != "":
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, q.upgrade...)
		dst = append(dst, "\r\n"...)
	case q.trailers:
		dst = append(dst, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	return dst
}

// appendIDs adds X-Request-Id and traceparent, the visitor's or new ones.
func (q *request) appendIDs(dst []byte) []byte {
	dst = append(dst, "X-Request-Id: "...)
	from := len(dst)
	if q.id != nil {
		dst = append(dst, q.id...)
	} else {
		dst = appendRandom(dst, 16)
	}
	q.id = dst[from:]
	dst = append(dst, "\r\ntraceparent: "...)
	if q.trace != nil {
		dst = append(dst, q.trace...)
	} else {
		dst = appendTrace(dst)
	}
	return append(dst, "\r\n"...)
}
