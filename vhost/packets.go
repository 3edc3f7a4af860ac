package vhost

import (
	"errors"
	"net"
)

// packets is a connection that hands out what has arrived without copying it,
// as an SSH channel does: appended to dst, as far as that has room. It waits
// until there is something.
type packets interface {
	ReadBuffers(dst [][]byte) ([][]byte, error)
}

// packetSink is a sink that takes several pieces in one write.
type packetSink interface{ writePackets(net.Buffers) error }

// errSurplus says that bytes came behind the end of a body that belong to no
// message.
var errSurplus = errors.New("bytes behind the end of the body")

// direct returns the source if what comes next of the body can be sent on as
// it comes, without a stay in the reader's buffer: the rest is long or ends
// with the source, and is not framed in chunks on either side. The buffer, of
// which nothing is left then, is given back.
func (p *pump) direct() packets {
	from, ok := p.from.conn.(packets)
	b := p.body
	plain := b.state == stateLength && b.left >= bigBuffer || b.state == stateClose && b.tail == nil
	if !ok || !plain || p.chunked || p.from.err != nil || len(p.from.buffered()) > 0 {
		return nil
	}
	p.from.release()
	return from
}

// headroom is the room before bytes that are sent from where they were read to.
const headroom = 16

// behind returns where the body goes if what comes next of it can be sent from
// where it is read to, past the reader's buffer: as direct for the other way.
func (p *pump) behind() *upstream {
	to, ok := p.to.(*upstream)
	if !ok {
		return nil
	}
	_, can := to.conn.(behindWriter)
	b := p.body
	if !can || p.chunked || b.state != stateLength || b.left < bigBuffer || p.from.err != nil || len(p.from.buffered()) > 0 {
		return nil
	}
	return to
}

// passBehind reads once and sends that on. It never reads past the body.
func (p *pump) passBehind(to *upstream) error {
	buf := getBig()
	defer putBuffer(buf)
	n, err := p.from.conn.Read(buf[headroom:])
	if n == 0 {
		return err
	}
	p.from.err = err // as if they had come by fill
	p.n += int64(p.body.count(n))
	p.sent = true
	if err := to.writeBehind(buf[:headroom+n], headroom); err != nil {
		return &sinkError{err}
	}
	return nil
}

// pass sends packets on. What is behind the end of the body is not: it makes
// the connection one that is not used again.
func (p *pump) pass(got net.Buffers) error {
	for i, part := range got {
		n := p.body.count(len(part))
		p.n += int64(n)
		if n < len(part) {
			p.from.err = errSurplus
			got[i] = part[:n]
		}
	}
	p.sent = true
	return p.sendAll(got)
}

func (p *pump) sendAll(parts net.Buffers) error {
	if to, ok := p.to.(packetSink); ok {
		if err := to.writePackets(parts); err != nil {
			return &sinkError{err}
		}
		return nil
	}
	for _, part := range parts {
		if len(part) == 0 {
			continue
		}
		if err := p.send(part); err != nil {
			return err
		}
	}
	return nil
}

// count steps over n bytes of a body's data, and returns how many of them are
// the body's.
func (b *body) count(n int) int {
	n = b.most(n)
	if b.state != stateLength {
		return n
	}
	if b.left -= int64(n); b.left == 0 {
		b.state = stateEnd
	}
	return n
}

// most is how many of the next n bytes of data are the body's.
func (b *body) most(n int) int {
	switch b.state {
	case stateClose:
		return n
	case stateLength:
		return int(min(int64(n), b.left))
	}
	return 0
}
