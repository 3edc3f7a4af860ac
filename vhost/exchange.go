package vhost

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// mostResolves bounds how often one request is resolved, when backend after
// backend turns out to be closed.
const mostResolves = 3

// errResolve says that the request was not sent: its backend is gone, and
// there may be another one.
var errResolve = errors.New("no way to the service")

// statusLeft stands for a visitor who left before an answer, as in nginx.
const statusLeft = 499

// exchange is one request and its response. It is pooled, with its buffers
// for fields; nothing of it outlives run.
type exchange struct {
	v       *visitor
	to      responder // v, or the stream that it is part of
	b       *Backend
	up      *upstream
	req     request
	resp    response
	from    body   // the request's
	back    body   // the response's
	out     []byte // what is about to be written
	head    int    // how much of the request in out is its head
	upgrade string // the protocol asked for, if it is relayed
	begun   bool   // the service has sent something
	keep    bool   // the visitor may send another request
	bad     bool   // the request was no request
	told    bool   // the observer was told

	sending sending // the part of the body that did not come with the head
	seen    Exchange
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func getExchange(v *visitor, to responder) *exchange {
	x := exchanges.Get().(*exchange)
	x.v, x.to, x.out, x.keep = v, to, getSmall()[:0], false
	x.seen = Exchange{Start: time.Now()}
	return x
}

// free puts x back. An unusual number of fields is not kept.
func (x *exchange) free() {
	putBuffer(x.out)
	*x = exchange{req: request{head: head{fields: x.req.fields[:0]}}, resp: response{head: head{fields: x.resp.fields[:0]}}}
	if cap(x.resp.fields) <= mostFields {
		exchanges.Put(x)
	}
}

// run answers the request whose head is the first end bytes of the visitor's
// buffer, and reports whether the connection goes on.
func (x *exchange) run(end int) bool {
	v := x.v
	err := x.req.parse(v.in.buffered()[:end])
	if err == nil {
		err = v.name(&x.req)
	}
	v.in.discard(end)
	x.from.requestBody(&x.req.head)
	if err != nil {
		return x.refuse(err)
	}
	x.upgrade = x.req.wantsUpgrade()
	x.keep = x.req.persistent() && !v.r.closing.Load()
	return x.handle()
}

// handle answers a request that has been checked, and reports whether the
// connection goes on.
func (x *exchange) handle() bool {
	v := x.v
	if v.proxy != nil {
		v.believe(&x.req)
	}
	v.watch.start()
	defer v.watch.stop()
	err := x.forward()
	x.endUpload()
	v.watch.stop()
	keep := x.conclude(err)
	x.observe()
	return keep
}

// forward resolves and relays, again if a backend was closed.
func (x *exchange) forward() error {
	for range mostResolves {
		if page := x.resolve(); page != nil {
			return &pageError{page}
		}
		if err := x.relay(); !errors.Is(err, errResolve) {
			return err
		}
	}
	return &pageError{pageGone}
}

// pageError is an answer of our own, on the way to the visitor.
type pageError struct{ page *Page }

func (e *pageError) Error() string { return "answered with a page" }

// resolve finds the backend, or the page that answers instead.
func (x *exchange) resolve() *Page {
	q := &x.v.request
	q.Method, q.target = x.req.method, x.req.target
	b, page := x.v.r.Resolve(x.v.ctx, q)
	switch {
	case page != nil:
		return page
	case b == nil:
		return pageUnknown
	}
	x.b, x.v.stall.Limit = b, b.o.StallTimeout
	return nil
}

// relay sends the request to the backend and the response to the visitor.
func (x *exchange) relay() error {
	err := x.prepare()
	if x.see(); err != nil {
		return err
	}
	for fresh := false; ; fresh = true {
		if err := x.send(fresh); err != nil {
			return err
		}
		if done, err := x.prompt(); done {
			return err
		}
		err := x.receive()
		if err == nil {
			return x.deliver()
		}
		if err = x.explain(err); fresh || !x.stale(err) {
			return err
		}
		x.b.drop(x.up)
		x.up = nil
	}
}

// prepare writes the head into out, with as much of the body behind it as has
// arrived: a small request is one write. A visitor that expects a 100 is not
// taken at its word; its body waits. What was prepared for one backend serves
// the next one too, unless it is in the wrong form.
func (x *exchange) prepare() error {
	if len(x.out) > 0 {
		if x.b.o.H2C && len(x.out) > x.head {
			return &pageError{pageGone}
		}
		return nil
	}
	if len(x.v.in.buffered()) > smallBuffer/2 {
		putBuffer(x.out)
		x.out = getBig()[:0]
	}
	if x.b.o.H2C {
		x.upgrade = "" // HTTP/2 has none (RFC 9113 8.6)
	}
	x.out = x.req.appendRequest(x.out[:0], x.v.client, x.upgrade)
	if x.head = len(x.out); x.req.expect || x.b.o.H2C {
		return nil
	}
	return x.gather()
}

// gather adds the buffered part of the body to out.
func (x *exchange) gather() error {
	p := pump{chunked: x.req.chunked, body: &x.from, out: x.out}
	for {
		data, err := x.from.next(&x.v.in)
		switch {
		case err == io.EOF:
			err = p.finish()
			x.out = p.out
			return err
		case err == errMore:
			x.out = p.out
			return nil
		case err != nil:
			return err
		}
		p.append(data)
		x.seen.BytesIn += int64(len(data))
	}
}

// send gets a connection and writes out to it. A connection that takes not
// one byte has not seen the request, which may then go elsewhere.
func (x *exchange) send(fresh bool) error {
	for {
		if err := x.connect(fresh); err != nil {
			return err
		}
		n, err := x.transmit()
		switch {
		case err == nil:
			x.startUpload()
			return nil
		case n > 0 || x.v.watch.gone():
			return x.explain(err)
		case x.b.cause() == nil && (fresh || !x.up.used):
			return x.explain(err)
		}
		x.b.drop(x.up)
		x.up, fresh = nil, true // a closed backend says so when it is asked
	}
}

// transmit writes out to the connection, or begins a call with it.
func (x *exchange) transmit() (int, error) {
	if c := x.up.call; c != nil {
		return 0, c.start(&x.req, x.out)
	}
	return x.up.send(x.out)
}

// connect gets a connection from the backend.
func (x *exchange) connect(fresh bool) (err error) {
	x.begun = false
	x.up, err = x.b.get(x.v.ctx, x.v.request.Visitor, x.v.who, fresh)
	switch {
	case err == nil && x.req.hasBody():
		x.up.of = x.v.who
	case err == nil:
	case x.v.watch.gone():
		return context.Canceled
	case errors.Is(err, ErrBusy):
		return &serviceError{err, pageBusy}
	case errors.Is(err, net.ErrClosed):
		return errResolve
	default:
		return x.explain(err)
	}
	if !x.v.watch.attach(x.up.conn, x.b.o.ResponseTimeout) {
		return context.Canceled
	}
	return nil
}

// stale reports whether err is what a connection gives that the service had
// closed before it saw the request, and the request may be sent again.
func (x *exchange) stale(err error) bool {
	return x.up.used && !x.begun && x.req.idempotent() && !x.v.watch.gone() && !x.v.watch.tooLate() &&
		x.b.cause() == nil && !isFault(err)
}

func isFault(err error) bool {
	_, ok := errors.AsType[*fault](err)
	return ok
}

// serviceError is a failure of the service, with the page for the visitor.
type serviceError struct {
	err  error
	page *Page
}

func (e *serviceError) Error() string { return e.err.Error() }
func (e *serviceError) Unwrap() error { return e.err }

// explain turns what a connection returned into why: we close connections to
// end a wait, and then the reason is elsewhere.
func (x *exchange) explain(err error) error {
	if f := x.sending.refused(); f != nil {
		return f
	}
	switch cause := x.b.cause(); {
	case x.v.watch.gone():
		return context.Canceled
	case x.v.watch.tooLate(), x.sending.stalled():
		return &serviceError{os.ErrDeadlineExceeded, pageSlow}
	case cause != nil:
		return &serviceError{cause, pageBroken}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return &serviceError{err, pageSlow}
	}
	return &serviceError{err, pageBroken}
}

// abortError is a response that broke off after its head had gone out. err is
// why the service failed, nil if it was the visitor.
type abortError struct{ err error }

func (e *abortError) Error() string { return "aborted" }
func (e *abortError) Unwrap() error { return e.err }

// conclude answers what has not been answered, gives the upstream connection
// back, and reports whether the visitor's connection goes on.
func (x *exchange) conclude(err error) bool {
	if x.up != nil {
		x.b.drop(x.up) // deliver has put it back if it was good
		x.up = nil
	}
	if err == nil {
		if !x.keep && x.from.state != stateEnd {
			x.to.linger()
		}
		return x.keep
	}
	if broken, ok := errors.AsType[*abortError](err); ok {
		x.seen.Err = broken.err
		x.to.abort()
		return false
	}
	if x.v.watch.gone() {
		x.seen.Status = statusLeft
		return false
	}
	return x.fail(err)
}

// fail answers a request that got no response.
func (x *exchange) fail(err error) bool {
	if page, ok := errors.AsType[*pageError](err); ok {
		return x.answer(page.page)
	}
	if service, ok := errors.AsType[*serviceError](err); ok {
		x.seen.Err = service.err
		return x.answer(service.page)
	}
	return x.refuse(err)
}

// refuse answers a request that is not taken, and ends the connection: where
// the next one begins is not certain.
func (x *exchange) refuse(err error) bool {
	status := 400
	if f, ok := errors.AsType[*fault](err); ok {
		status = f.status
	}
	x.keep, x.bad = false, true
	return x.answer(&Page{Status: status})
}

// answer sends a page. The connection goes on if the request's body has been
// read; a body that is still coming is not waited for.
func (x *exchange) answer(page *Page) bool {
	whole := x.skipBody()
	keep := x.keep && whole
	x.seen.Status = page.status()
	x.out = page.appendPage(x.out[:0], x.pageFor(keep))
	err := x.to.write(x.out)
	if err == nil {
		x.to.end(nil)
	}
	if err == nil && (x.bad || !whole) {
		x.to.linger()
	}
	return err == nil && keep
}

// pageFor is what a page needs to know about this request.
func (x *exchange) pageFor(keep bool) pageFor {
	v := x.v
	return pageFor{
		html: x.req.html, head: x.req.method == "HEAD", old: x.req.old, keep: keep || v.framed,
		tls: v.request.TLS, altSvc: v.altSvc,
	}
}

// skipBody passes over what is buffered of the request's body, and reports
// whether that was all.
func (x *exchange) skipBody() bool {
	for {
		if _, err := x.from.next(&x.v.in); err != nil {
			return err == io.EOF
		}
	}
}

// see notes what the observer is told about the request.
func (x *exchange) see() {
	if x.b.o.Observe == nil {
		return
	}
	s := &x.seen
	s.ID, s.Method, s.Target = string(x.req.id), x.req.method, string(x.req.target)
	s.Host, s.Visitor = x.v.request.Host, x.v.request.Visitor
}

// observe tells the observer.
func (x *exchange) observe() {
	if x.b == nil || x.b.o.Observe == nil || x.told {
		return
	}
	x.told = true
	x.seen.Duration = time.Since(x.seen.Start)
	x.b.o.Observe(&x.seen)
}
