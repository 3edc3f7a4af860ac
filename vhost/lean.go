package vhost

import "adit/tcp"

// lean is the rest of a long body while it goes to the visitor's socket by the
// goroutine that has read it from the SSH connection: nobody is woken for a
// packet. The visitor's goroutine waits meanwhile, and goes on where the socket
// does not take all of one, or there is no more. The pump is used by the one
// goroutine or the other, never by both.
type lean struct {
	p     *pump
	from  lender
	to    *tcp.Socket
	ended chan struct{} // the loan has, see arrived
}

// lean returns the way past the visitor's goroutine, if there is one for the
// rest of the body; from is what [pump.direct] has found.
func (p *pump) lean(from packets) *lean {
	v, ok1 := p.to.(*visitor)
	l, ok2 := from.(lender)
	if !ok1 || !ok2 || !v.prompt.ready() {
		return nil
	}
	if p.past == nil {
		p.past = &lean{p, l, v.prompt.sock, make(chan struct{}, 1)}
	}
	return p.past
}

// pass waits for as long as the body goes past this goroutine. It returns at once
// where something has arrived that was not read.
func (l *lean) pass() {
	if l.from.Lend(l.arrived) {
		<-l.ended
	}
}

// arrived takes what has come, or an end, which the next Read tells too. What the
// socket does not take is left to be read, as are bytes behind the body's end.
func (l *lean) arrived(data []byte, end error) (n int, more bool) {
	if end == nil {
		part := data[:l.p.body.most(len(data))]
		n = l.to.TryWrite(part)
		l.p.body.count(n)
		l.p.n += int64(n)
		if n == len(part) && n < len(data) {
			l.p.from.err = errSurplus
		}
		more = n == len(data) && l.p.body.state != stateEnd
	}
	if !more {
		l.ended <- struct{}{}
	}
	return n, more
}
