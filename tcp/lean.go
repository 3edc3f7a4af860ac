package tcp

import "io"

// lender is a source that can do without a reader: see Lend of an SSH channel.
type lender interface {
	packets
	Lend(f func(p []byte, end error) (n int, more bool)) bool
}

// lean is the direction from b to a where b lends what arrives and a is a
// socket: it is written by who has read it, and while the socket takes all of it
// there is no goroutine for the direction, nor is one woken. s.wait is done when
// the direction has ended.
type lean struct {
	s    *splice
	from lender
	dst  *Socket
	to   Stall // catchUp's
	sent int64 // bytes, without those that catchUp has copied
}

// lean begins the direction; false: there must be a goroutine for it.
func (s *splice) lean() bool {
	from, ok1 := s.b.(lender)
	dst, ok2 := SocketOf(s.a)
	if !ok1 || !ok2 {
		return false
	}
	d := &lean{s: s, from: from, dst: dst, to: Stall{Limit: s.stall}}
	if !from.Lend(d.arrived) {
		go d.catchUp()
	}
	return true
}

// arrived takes what has come. Where the socket does not take all of it the
// rest is for catchUp.
func (d *lean) arrived(p []byte, end error) (n int, more bool) {
	switch {
	case end == io.EOF:
		d.end(d.s.over(d.dst))
	case end != nil:
		go d.end(end) // which says goodbye to b, too
	default:
		n = d.dst.TryWrite(p)
		if d.sent += int64(n); n < len(p) {
			go d.catchUp()
		}
	}
	return n, true
}

// catchUp copies until there is nothing to wait for.
func (d *lean) catchUp() {
	for {
		n, err := d.to.passPackets(d.dst, d.from)
		d.s.fromB += n
		switch {
		case err == io.EOF:
			d.end(d.s.over(d.dst))
			return
		case err != nil:
			d.end(err)
			return
		case d.from.Lend(d.arrived):
			return
		}
	}
}

// end ends the direction.
func (d *lean) end(err error) {
	if err != nil {
		d.s.fail(err)
	}
	d.s.fromB += d.sent
	d.s.wait.Done()
}
