package vhost

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// A body of known length that is shorter than holdSize is sent in one piece
// with its head if it arrives within holdTime: should the service die inside
// it, the visitor gets an error page instead of an aborted connection.
const (
	holdSize = smallBuffer
	holdTime = 500 * time.Millisecond
)

// receive reads responses up to the final one's head, and passes interim ones
// on.
func (x *exchange) receive() error {
	for interim := 0; ; interim++ {
		if err := x.readHead(); err != nil {
			return err
		}
		switch {
		case x.resp.status >= 200:
			x.v.watch.answered()
			return nil
		case x.resp.status == 101:
			x.v.watch.answered()
			return x.checkSwitch()
		case interim == mostInterim:
			return faultInterim
		}
		if err := x.interim(); err != nil {
			return err
		}
	}
}

// readHead reads one response head.
func (x *exchange) readHead() error {
	if x.up.call != nil {
		return x.readCall()
	}
	in := &x.up.in
	for line := 0; ; {
		end, next, err := in.head(line)
		switch {
		case err == errFull:
			return faultLongHead
		case err != nil:
			return err
		}
		if end > 0 {
			err = x.resp.parse(in.buffered()[:end], x.req.method == "HEAD")
			in.discard(end)
			return err
		}
		line = next
		switch err := in.fill(); {
		case err == io.EOF && x.begun:
			return faultEarly
		case err == errFull:
			return faultLongHead
		case err != nil:
			return fmt.Errorf("response: %w", err)
		}
		x.begun = true
	}
}

// interim passes a 1xx response on (RFC 9110 15.2). A 100 goes only to a
// visitor that waits for it, and lets its body come; HTTP/1.0 has none.
func (x *exchange) interim() error {
	if x.req.old || x.resp.status == 100 && !x.sending.awaitsLeave() {
		return nil
	}
	d := x.v.delivery()
	x.out = d.appendResponse(x.out[:0], &x.resp)
	if err := x.to.write(x.out); err != nil {
		x.v.watch.leave()
		return err
	}
	if x.resp.status == 100 {
		x.sending.giveLeave(true)
	}
	return nil
}

// deliver relays the final response. The error is an *abortError if the head
// had gone out.
func (x *exchange) deliver() error {
	if x.resp.status == 101 {
		return x.switchOver()
	}
	d := x.delivery()
	x.keep = d.keeps(&x.resp)
	x.seen.Status = x.resp.status
	reusable, chunked := x.resp.reusable(), d.chunks(&x.resp)
	x.resp.start(&x.back)
	if x.up.call != nil {
		if err := x.startCall(); err != nil {
			return x.explain(err)
		}
	}
	x.out = d.appendResponse(x.out[:0], &x.resp)
	if err := x.hold(); err != nil {
		return x.explain(err)
	}
	if err := x.copyBack(chunked); err != nil {
		return err
	}
	x.finish(reusable)
	return nil
}

// delivery is how a response goes to the exchange's visitor.
func (x *exchange) delivery() delivery {
	d := x.v.delivery()
	d.old, d.keep, d.framed, d.altSvc = x.req.old, x.keepAfter(), x.v.framed, x.v.altSvc
	return d
}

// delivery is what a 1xx, too, has of how responses go to the visitor: what
// keeps services off each other's cookies.
func (v *visitor) delivery() delivery {
	return delivery{domain: v.r.CookieDomain, host: v.request.Host}
}

// keepAfter reports whether the visitor's connection goes on after the
// response. It does not if the service will not take the rest of the body.
func (x *exchange) keepAfter() bool {
	unsent := x.sending.awaitsLeave() || x.sending.failed() || x.resp.close && x.sending.running()
	return x.keep && !unsent && !x.v.r.closing.Load()
}

// hold waits for the rest of a short body.
func (x *exchange) hold() error {
	in := &x.up.in
	if x.back.state != stateLength || x.back.left > holdSize || int64(len(in.buffered())) >= x.back.left {
		return nil
	}
	if x.up.conn.SetReadDeadline(time.Now().Add(holdTime)) != nil {
		return nil
	}
	for int64(len(in.buffered())) < x.back.left {
		if err := in.fill(); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			return early(err)
		}
	}
	return x.up.conn.SetReadDeadline(time.Time{})
}

// copyBack sends out, which holds the head, and the body.
func (x *exchange) copyBack(chunked bool) error {
	p := pump{from: &x.up.in, body: &x.back, to: x.to, chunked: chunked, back: true, out: x.out}
	if x.resp.toClose {
		p.service = x.b
	}
	err := p.run()
	x.out, x.seen.BytesOut = p.out[:0], p.n
	_, gone := errors.AsType[*sinkError](err)
	switch {
	case err == nil:
		x.to.end(&x.back)
		return nil
	case gone || x.v.watch.gone():
		x.v.watch.leave()
		return &abortError{nil}
	case !p.sent:
		return x.explain(err)
	case x.sending.refused() != nil:
		return &abortError{nil} // what the visitor sent is no body
	}
	return &abortError{x.explain(err)}
}

// grace is how long a body may go on after its response. The end of a stream's
// response waits for it, so that one is given only what a service needs that
// has read the body and answered at once.
func (x *exchange) grace() time.Duration {
	switch {
	case x.keep:
		return uploadGrace
	case x.v.framed && x.up.call == nil:
		return streamGrace
	}
	return 0
}

// finish ends an exchange whose response has been delivered: it gives the
// upload, if there still is one, a moment, and the connection back to the
// backend if nothing was odd about it.
func (x *exchange) finish(reusable bool) {
	whole := x.sending.complete(x.grace())
	x.keep = x.keep && whole
	if reusable && whole && x.up.clean() && x.v.watch.detach() {
		x.b.put(x.up)
		x.up = nil
	}
}
