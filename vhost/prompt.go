package vhost

import (
	"errors"
	"sync"
	"sync/atomic"

	"adit/tcp"
)

// Most answers are there whole in one packet of the SSH connection. Such a one
// is passed on by the goroutine that has read the packet, while the visitor's
// own goroutine waits for the visitor's next request already: nobody is woken
// for the answer, which costs more than all else that is done for it. Where
// the answer is of another kind, or the visitor's socket is full, or a lull has
// passed, the visitor's goroutine is roused and goes on as for any other.

// lender is a connection that can do without a reader: see Lend of an SSH
// channel. The function is called by who has read the connection; it must not
// wait.
type lender interface {
	Lend(f func(p []byte, end error) (n int, more bool)) bool
	Recall() bool
}

// The states of a prompt.
const (
	promptOff  int32 = iota
	promptLent       // the answer is awaited
	promptDone       // it has gone out, and the exchange is over
	promptRest       // part of it has; the rest is to be written
	promptLeft       // it is left to the visitor's goroutine
)

// prompt is where a visitor's goroutine, and the one that has read the answer,
// meet.
type prompt struct {
	v      *visitor
	sock   *tcp.Socket // nil: not looked for yet, or there is none
	none   bool        // there is none
	roused atomic.Bool

	mu      sync.Mutex // guards the rest
	decided sync.Cond  // state is not promptLent any more
	state   int32
	x       *exchange // the visitor's present one
	rest    []byte    // of the answer
}

// prompt has the answer passed on by who reads it, and waits for that, and for
// the visitor's next bytes. It reports false where the answer is still to be
// received.
func (x *exchange) prompt() (bool, error) {
	p := &x.v.prompt
	l := x.lender()
	if l == nil || !p.ready() || !x.v.watch.lend() {
		return false, nil
	}
	x.v.readWithin(idleLimit, idleSlack)
	p.set(promptLent, x)
	if !l.Lend(p.arrived) {
		x.v.watch.takeBack()
		p.set(promptOff, nil)
		p.calm()
		return false, nil
	}
	p.sock.Wait()
	return x.prompted(p.settle(l))
}

// lender is the connection to the service, if an answer may come from it that
// goes to the visitor as it is: the request is whole and is a plain one, and
// no other has been sent behind it.
func (x *exchange) lender() lender {
	plain := x.up.call == nil && x.upgrade == "" && x.keep && !x.req.old && !x.req.expect
	if !plain || x.sending.started || len(x.v.in.buffered()) > 0 {
		return nil
	}
	l, _ := x.up.conn.(lender)
	return l
}

// ready reports whether the visitor's connection is a socket, and looks at it
// closely when it is first asked.
func (p *prompt) ready() bool {
	if p.sock == nil && !p.none {
		if _, peeked := p.v.conn.(*tcp.Peeked); !peeked {
			p.sock, _ = tcp.SocketOf(p.v.conn)
		}
		p.none = p.sock == nil
		p.decided.L = &p.mu
	}
	return !p.none
}

func (p *prompt) set(state int32, x *exchange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.x = state, x
}

// settle ends the wait of the visitor's goroutine, and gives what has become of
// the answer.
func (p *prompt) settle(l lender) (state int32) {
	p.v.watch.takeBack()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == promptLent && l.Recall() {
		p.state = promptLeft
	}
	for p.state == promptLent { // who has read it is on its way
		p.decided.Wait()
	}
	p.calm()
	state, p.state, p.x = p.state, promptOff, nil
	return state
}

// calm notes that rouse has moved the read deadline, if it has.
func (p *prompt) calm() {
	if p.roused.Swap(false) {
		p.v.readBy = longAgo
	}
}

// prompted goes on where the answer was left. It reports whether that was the
// end of it.
func (x *exchange) prompted(state int32) (bool, error) {
	p := &x.v.prompt
	switch state {
	case promptLeft:
		return false, nil
	case promptDone:
		x.keep = x.v.state.CompareAndSwap(visitorIdle, visitorBusy)
		return true, nil
	}
	rest := p.rest
	p.rest = nil
	if err := x.to.write(rest); err != nil {
		x.v.watch.leave()
		return true, &abortError{nil}
	}
	x.finish(true)
	return true, nil
}

// arrived takes the packet with the answer, or an end in its place. It is
// called by who has read it.
func (p *prompt) arrived(data []byte, end error) (n int, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.decided.Signal()
	p.state = promptLeft
	p.x.begun = end == nil // out is no longer the request
	if end == nil && p.x.compose(data) {
		n = len(data)
		p.state = p.send()
	}
	if p.state != promptDone {
		p.rouse()
	}
	return n, false
}

// send sends the answer, and ends the exchange if the socket has taken it.
func (p *prompt) send() (state int32) {
	sent := p.sock.TryWrite(p.x.out)
	if p.rest = p.x.out[sent:]; len(p.rest) == 0 && p.x.over() {
		return promptDone
	}
	return promptRest
}

// rouse ends the wait of the visitor's goroutine.
func (p *prompt) rouse() {
	p.roused.Store(true)
	p.v.conn.SetReadDeadline(longAgo)
}

// compose makes the answer in out of a packet that has it whole, and reports
// whether it could.
func (x *exchange) compose(data []byte) bool {
	end, _, err := headEnd(data, 0)
	if err != nil || end == 0 || x.resp.parse(data[:end], x.req.method == "HEAD") != nil {
		return false
	}
	d := x.delivery()
	if x.resp.status < 200 || !x.resp.reusable() || !d.keeps(&x.resp) {
		return false
	}
	x.resp.start(&x.back)
	in := reader{buf: data, r: end, w: len(data)}
	p := pump{from: &in, body: &x.back, to: full{}, chunked: d.chunks(&x.resp), back: true, out: d.appendResponse(x.out[:0], &x.resp)}
	whole, err := p.gather()
	x.out = p.out
	x.seen.Status, x.seen.BytesOut = x.resp.status, p.n
	return whole && err == nil && in.r == in.w
}

// full is a sink that takes nothing.
type full struct{}

var errFullSink = errors.New("nothing is taken")

func (full) write([]byte) error { return errFullSink }

// over ends an exchange whose answer has gone out, as far as others than its
// own goroutine see it. It reports false where that goroutine has to do it.
func (x *exchange) over() bool {
	if !x.v.watch.rest() || !x.b.keep(x.up) {
		return false
	}
	x.up = nil
	x.observe()
	x.v.state.CompareAndSwap(visitorBusy, visitorIdle)
	return true
}
