package vhost

import (
	"net"
	"sync"
	"time"

	"adit/tcp"
)

// lull is how long an exchange runs before anybody looks whether the visitor
// is still there: a quick one pays nothing for it.
const lull = 100 * time.Millisecond

// watch looks after one exchange at a time, from beside it: it notices that
// the visitor has left, which only a Read can tell, and that the service takes
// too long. It acts by closing the connection that the exchange waits for.
//
// Its timer's goroutine reads the visitor's connection, at most one byte, with
// stop waiting for it; so does an exchange's upload. There is one of these
// readers at a time, and the exchange itself is none while there is one. A
// stream's end is told by its context, so that only uploads read.
type watch struct {
	v *visitor

	mu      sync.Mutex
	on      bool   // an exchange is under way
	number  uint64 // of the exchange
	slow    bool   // it has lasted for a lull
	waiting bool   // the service has the request and has not answered
	heard   bool   // it has answered, perhaps before it had the whole request
	expired bool   // the service took too long
	left    bool   // the visitor is gone, or was killed
	up      net.Conn
	limit   time.Duration // for the answer

	timer   *time.Timer // calls fire; runs at most once a lull
	running bool
	armed   uint64      // the exchange that timer was set in
	late    *time.Timer // calls expire
	lateFor uint64
	lateAt  time.Time // when late is to do so

	lent bool // the visitor's goroutine waits for its next bytes, see prompt

	done     chan struct{} // of the reader beside the exchange; nil: none
	stopping bool          // the reader is to end
	peek     [1]byte
	peeked   bool // peek belongs behind the buffer
}

// start begins an exchange.
func (w *watch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on, w.slow, w.waiting, w.expired = true, false, false, false
	w.number++
	if !w.running {
		w.rearm()
	}
}

// rearm sets the timer; mu is held.
func (w *watch) rearm() {
	w.running, w.armed = true, w.number
	if w.timer == nil {
		w.timer = time.AfterFunc(lull, w.fire)
		return
	}
	w.timer.Reset(lull)
}

// fire runs on the timer's goroutine. It becomes the reader if the exchange
// that set the timer is still under way; for a later one the timer runs again.
func (w *watch) fire() {
	w.mu.Lock()
	w.running = false
	switch {
	case w.armed != w.number:
		if w.on || w.lent {
			w.rearm()
		}
	case w.lent:
		w.v.prompt.rouse()
		if w.on {
			w.rearm()
		}
	case !w.on:
	default:
		w.slow = true
		w.awaitAnswer()
		if w.done == nil && !w.peeked && !w.v.framed && w.v.in.spare() {
			done := w.begin()
			w.mu.Unlock()
			w.read(done)
			return
		}
	}
	w.mu.Unlock()
}

// begin makes the caller the reader; mu is held.
func (w *watch) begin() (done chan struct{}) {
	w.done = make(chan struct{})
	if !w.v.framed { // a stream's deadline is set once, to end it
		w.v.conn.SetReadDeadline(time.Time{})
	}
	return w.done
}

// read waits for a byte of the visitor, for its end, or for stop. A visitor
// that ends its sending direction counts as gone.
func (w *watch) read(done chan struct{}) {
	defer close(done)
	n, _ := w.v.conn.Read(w.peek[:])
	w.mu.Lock()
	w.peeked = n == 1
	gone := n == 0 && !w.stopping
	w.mu.Unlock()
	if gone {
		w.leave()
	}
}

// leave ends what the exchange waits for, because the visitor is gone.
func (w *watch) leave() {
	w.mu.Lock()
	w.left = true
	up := w.up
	w.mu.Unlock()
	w.v.cancel()
	if up != nil {
		up.Close()
	}
}

// attach names the connection that the exchange is about to use, and how long
// its answer may take; false: the visitor has left already.
func (w *watch) attach(up net.Conn, limit time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up, w.limit, w.waiting, w.heard = up, limit, false, false
	return !w.left
}

// detach takes the connection back from the watch; false: the watch has
// closed it, or is about to.
func (w *watch) detach() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up, w.waiting = nil, false
	return !w.left && !w.expired
}

// sent says that the service has the whole request: its time runs.
func (w *watch) sent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = w.on && !w.heard
	if w.slow {
		w.awaitAnswer()
	}
}

// awaitAnswer starts the service's time, which is counted from the first lull
// on; mu is held.
func (w *watch) awaitAnswer() {
	if !w.waiting {
		return
	}
	w.lateFor = w.number
	w.expireIn(w.limit)
}

// expireIn sets the timer of the service's time; mu is held.
func (w *watch) expireIn(limit time.Duration) {
	w.lateAt = time.Now().Add(limit)
	if w.late == nil {
		w.late = time.AfterFunc(limit, w.expire)
		return
	}
	w.late.Reset(limit)
}

// expire runs on a timer's goroutine when the service took too long.
func (w *watch) expire() {
	if up := w.tooSlow(); up != nil {
		up.Close()
	}
}

// tooSlow is the connection to a service that took too long, else nil.
func (w *watch) tooSlow() net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.waiting || w.lateFor != w.number:
		return nil
	case tcp.HeldUp(w.lateAt):
		w.expireIn(tcp.Grace)
		return nil
	}
	w.expired = w.up != nil
	return w.up
}

// answered says that the service's head is there.
func (w *watch) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting, w.heard = false, true
	if w.slow && w.late != nil {
		w.late.Stop()
	}
}

// lend lets the visitor's goroutine wait for the visitor's next bytes, unless
// somebody does that already. A lull later it is roused.
func (w *watch) lend() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lent = !w.slow && w.done == nil && !w.peeked && !w.left && !w.expired
	return w.lent
}

// takeBack ends lend.
func (w *watch) takeBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lent = false
}

// rest ends an exchange whose answer has gone out, and takes the connection
// back from the watch, as detach does.
func (w *watch) rest() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on, w.up, w.waiting = false, nil, false
	return !w.left && !w.expired
}

// upload makes the exchange's upload the reader: the buffer is its own until
// the returned channel, which it closes, is closed.
func (w *watch) upload() (done chan struct{}) {
	for {
		w.halt()
		w.mu.Lock()
		if w.done == nil {
			defer w.mu.Unlock()
			return w.begin()
		}
		w.mu.Unlock() // the timer came in between
	}
}

// uploaded says that the body has been read to its end: the upload goes on as
// the reader until the exchange ends.
func (w *watch) uploaded(done chan struct{}) {
	w.sent()
	if w.v.framed || w.v.in.room() != nil {
		close(done)
		return
	}
	w.read(done)
}

// stop ends an exchange. When it returns nobody else reads the visitor.
func (w *watch) stop() {
	w.mu.Lock()
	w.on, w.waiting, w.up = false, false, nil
	if w.slow && w.late != nil {
		w.late.Stop()
	}
	w.mu.Unlock()
	w.halt()
}

// halt ends the reader, if there is one, and takes over the byte it has read.
func (w *watch) halt() {
	w.mu.Lock()
	done := w.done
	if w.stopping = done != nil; w.stopping {
		w.v.conn.SetReadDeadline(longAgo)
		w.v.readBy = longAgo
	}
	w.mu.Unlock()
	if done == nil {
		return
	}
	<-done
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done, w.stopping = nil, false
	if w.peeked {
		w.peeked = false
		w.v.in.push(w.peek[0])
	}
}

// end stops the timers, when the connection ends.
func (w *watch) end() {
	w.stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range []*time.Timer{w.timer, w.late} {
		if t != nil {
			t.Stop()
		}
	}
}

// halting reports whether the reader beside the exchange is being ended.
func (w *watch) halting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopping
}

// gone reports whether the visitor has left.
func (w *watch) gone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.left
}

// tooLate reports whether the service took too long.
func (w *watch) tooLate() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.expired
}
