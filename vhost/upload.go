package vhost

import (
	"errors"
	"os"
	"time"
)

const (
	// leaveTime is how long a body waits for a 100 before it is sent anyway:
	// RFC 9110 10.1.1 forbids to wait for ever, as older services never send
	// one.
	leaveTime = time.Second
	// uploadGrace is how long a body may go on after its response.
	uploadGrace = 500 * time.Millisecond
	streamGrace = 2 * time.Millisecond
)

// errUnsent says that the service answered before the body was asked for.
var errUnsent = errors.New("body not sent")

// sending is the part of a request's body that follows the first write. One
// goroutine, upload, moves it, beside the exchange that reads the response.
type sending struct {
	started bool
	leave   chan bool     // whether the body may come; nil unless a 100 is expected
	given   bool          // leave has been decided
	over    chan struct{} // closed when err is final
	err     error
	n       int64
	watched chan struct{} // closed when the goroutine has ended
}

// startUpload starts upload if there is more of the body to come, and tells
// the watch otherwise that the service has everything.
func (x *exchange) startUpload() {
	if x.from.state == stateEnd {
		x.v.watch.sent()
		return
	}
	s := &x.sending
	*s = sending{started: true, over: make(chan struct{})}
	if x.req.expect {
		s.leave = make(chan bool, 1)
	}
	s.watched = x.v.watch.upload()
	go x.upload(s.watched)
}

// upload moves the body, and then stays to see whether the visitor leaves.
// The exchange ends it through the watch.
func (x *exchange) upload(done chan struct{}) {
	s := &x.sending
	s.err = x.moveBody()
	close(s.over)
	_, refused := errors.AsType[*sinkError](s.err)
	switch {
	case s.err == nil:
		x.v.watch.uploaded(done)
		return
	case errors.Is(s.err, os.ErrDeadlineExceeded) && refused:
		x.up.conn.Close()
	case refused:
		x.v.watch.sent() // it may have answered all the same
	case s.err == errUnsent:
	default:
		x.endBadUpload()
	}
	close(done)
}

// endBadUpload ends the exchange of a body that cannot be read any further:
// the visitor is gone, or has sent what is no body.
func (x *exchange) endBadUpload() {
	_, bad := errors.AsType[*fault](x.sending.err)
	if bad || x.v.watch.halting() {
		x.up.conn.Close()
		return
	}
	x.v.watch.leave()
}

// moveBody waits for the leave to send, and moves the body.
func (x *exchange) moveBody() error {
	s := &x.sending
	if s.leave != nil && !s.mayGo() {
		return errUnsent
	}
	c := x.up.call
	p := pump{from: &x.v.in, body: &x.from, to: x.up, chunked: x.req.chunked && c == nil, out: getSmall()[:0]}
	err := p.run()
	putBuffer(p.out)
	s.n = p.n
	if err == nil && c != nil {
		c.sent(&x.from)
	}
	return err
}

// mayGo waits for a 100, for a final answer, or until it has been long enough.
func (s *sending) mayGo() bool {
	t := time.NewTimer(leaveTime)
	defer t.Stop()
	select {
	case ok := <-s.leave:
		return ok
	case <-t.C:
		return true
	}
}

// awaitsLeave reports whether nothing has been decided about the body yet.
func (s *sending) awaitsLeave() bool { return s.leave != nil && !s.given }

// giveLeave decides whether the body may come.
func (s *sending) giveLeave(ok bool) {
	if s.awaitsLeave() {
		s.given = true
		s.leave <- ok
	}
}

// running reports whether some of the body is still to be moved.
func (s *sending) running() bool {
	if !s.started {
		return false
	}
	select {
	case <-s.over:
		return false
	default:
		return true
	}
}

// failed reports whether the service will not have the whole body.
func (s *sending) failed() bool { return s.started && !s.running() && s.err != nil }

// refused returns the fault of a body that was none.
func (s *sending) refused() error {
	if !s.failed() {
		return nil
	}
	if f, ok := errors.AsType[*fault](s.err); ok {
		return f
	}
	return nil
}

// stalled reports whether the service stopped taking the body.
func (s *sending) stalled() bool {
	return s.failed() && errors.Is(s.err, os.ErrDeadlineExceeded)
}

// complete reports whether the whole body was sent; a body that is still coming
// is given as long as grace says.
func (s *sending) complete(grace time.Duration) bool {
	s.giveLeave(false)
	if !s.started {
		return true
	}
	if grace > 0 && s.running() {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-s.over:
		case <-t.C:
		}
	}
	return !s.running() && s.err == nil
}

// endUpload ends the upload, if it still runs, and waits for it.
func (x *exchange) endUpload() {
	s := &x.sending
	if !s.started {
		return
	}
	s.giveLeave(false)
	if s.running() && x.up != nil {
		x.up.conn.Close()
	}
	x.v.watch.stop()
	x.seen.BytesIn += s.n
}
