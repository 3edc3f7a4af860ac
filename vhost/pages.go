package vhost

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Page is an answer of the gateway's own: an error, a redirect, a page about
// itself. A Page may be shared; nobody changes it.
type Page struct {
	// Status is the status code, 200 to 599. 0: 404.
	Status int
	// ContentType is the body's media type. Empty: text/html; charset=utf-8.
	ContentType string
	// Body is sent as it is. nil: a short page that says what the status
	// means, as HTML or, for a visitor that did not ask for HTML, as text.
	Body []byte
	// RetryAfter, in seconds, is sent as Retry-After (RFC 9110 10.2.3) if it
	// is not 0.
	RetryAfter int
	// Location is sent as Location if it is not empty; what may not stand in
	// a URI is percent-encoded.
	Location string
	// HSTS, if it is not 0, is how long a browser is to come to this host by
	// https only: Strict-Transport-Security, without subdomains, and never over
	// plain http (RFC 6797 7.2).
	HSTS time.Duration
}

// The answers that the relay gives by itself.
var (
	pageUnknown = &Page{Status: 404}
	pageBroken  = &Page{Status: 502}
	pageGone    = &Page{Status: 503, RetryAfter: 5}
	pageBusy    = &Page{Status: 503, RetryAfter: 1}
	pageSlow    = &Page{Status: 504}
)

// meanings are the sentences of the short pages. None of them has anything in
// it that came from outside.
var meanings = map[int]string{
	400: "The request could not be understood.",
	403: "You may not see this page.",
	404: "There is nothing here by this name.",
	405: "This method is not relayed.",
	408: "The request took too long to arrive.",
	414: "The address of the request is too long.",
	417: "The expectation of the request cannot be met.",
	431: "The header of the request is too large.",
	501: "This method is not known here.",
	502: "The service behind this name did not answer. It may have just stopped, or not be running yet.",
	503: "The service behind this name is away for the moment. Please try again soon.",
	504: "The service behind this name took too long to answer.",
	505: "This version of HTTP is not spoken here.",
}

// The policy lets a page have inline style, and load nothing.
const (
	pagePolicy = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n" +
		"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
	pageTop = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n" +
		"<meta name=\"viewport\" content=\"width=device-width\">\n" +
		"<style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:20vh auto;padding:0 1rem;" +
		"color-scheme:light dark}h1{font-size:1.4rem}</style>\n"
	textType = "text/plain; charset=utf-8"
	htmlType = "text/html; charset=utf-8"
)

// content returns a page's body and media type.
func (p *Page) content(html bool) (body, kind string) {
	status := p.status()
	title := strconv.Itoa(status) + " " + http.StatusText(status)
	switch {
	case p.Body != nil && p.ContentType == "":
		return string(p.Body), htmlType
	case p.Body != nil:
		return string(p.Body), p.ContentType
	case html:
		return pageTop + "<title>" + title + "</title>\n<h1>" + title + "</h1>\n<p>" + meanings[status] + "</p>\n", htmlType
	}
	return title + "\n" + meanings[status] + "\n", textType
}

func (p *Page) status() int {
	if p.Status == 0 {
		return 404
	}
	return p.Status
}

// pageFor says how a page goes to one visitor.
type pageFor struct {
	html, head bool   // HTML was asked for; the request was HEAD
	old, keep  bool   // HTTP/1.0; the connection goes on afterwards
	tls        bool   // the visitor came by https
	altSvc     string // a field line
}

// appendPage adds the whole answer.
func (p *Page) appendPage(dst []byte, to pageFor) []byte {
	body, kind := p.content(to.html)
	dst = appendStatus(dst, p.status(), http.StatusText(p.status()))
	dst = append(dst, dateLine(time.Now())...)
	dst = append(dst, "Content-Type: "+printable(kind)+"\r\n"+pagePolicy...)
	if p.status() == 405 {
		dst = append(dst, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"...)
	}
	if p.HSTS > 0 && to.tls {
		dst = append(dst, "Strict-Transport-Security: max-age="+strconv.Itoa(int(p.HSTS.Seconds()))+"\r\n"...)
	}
	dst = append(dst, to.altSvc...)
	if p.RetryAfter > 0 {
		dst = append(dst, "Retry-After: "+strconv.Itoa(p.RetryAfter)+"\r\n"...)
	}
	if p.Location != "" {
		dst = append(dst, "Location: "...)
		dst = append(appendURI(dst, p.Location), "\r\n"...)
	}
	switch {
	case !to.keep:
		dst = append(dst, "Connection: close\r\n"...)
	case to.old:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	dst = append(appendLength(dst, int64(len(body))), "\r\n"...)
	if to.head {
		return dst
	}
	return append(dst, body...)
}

// appendURI adds s with everything but printable ASCII percent-encoded.
func appendURI(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f {
			dst = append(dst, c)
			continue
		}
		dst = fmt.Appendf(dst, "%%%02X", s[i])
	}
	return dst
}

// printable drops what may not stand in a field value.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}
