// Package tcp is layer 4: joining two connections, telling what a client speaks
// by its first bytes, and the range of public ports. It knows nothing of SSH,
// HTTP or names.
package tcp

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// bufferSize is what one direction copies at a time: an SSH channel's packet
// is 32 KiB, and two of them make one write to the public side.
const bufferSize = 64 << 10

// headroom is the room before the bytes in a buffer, for who has to put a head
// there: an SSH channel's is nine bytes.
const headroom = 16

var buffers = sync.Pool{New: func() any { b := make([]byte, headroom+bufferSize); return &b }}

// halfCloser is a connection whose sending direction can be ended alone, as
// *net.TCPConn and an SSH channel can.
type halfCloser interface{ CloseWrite() error }

// Splice copies both ways between a and b until each direction has ended, and
// closes both. The end of one direction is passed on as a half-close, and the
// other direction goes on for as long as it likes; silence is no error. stall
// bounds how long either side may take none of the bytes it was sent (0: for
// ever).
//
// It returns the bytes copied and the first error that was not an end of
// file. After an error both connections are cut at once (a TCP connection is
// reset), so that a stream that broke never looks complete.
func Splice(a, b net.Conn, stall time.Duration) (aToB, bToA int64, err error) {
	s := &splice{a: a, b: b, stall: stall}
	s.wait.Add(1)
	if !s.lean() {
		go s.back()
	}
	aToB = s.copy(b, a)
	s.wait.Wait()
	s.end()
	return aToB, s.fromB, s.err
}

// splice is one pair of joined connections.
type splice struct {
	a, b  net.Conn
	stall time.Duration
	wait  sync.WaitGroup
	fromB int64
	ended atomic.Int32 // directions that came to their end

	once sync.Once // guards err and the cutting of both
	err  error
}

// back is the second direction, b to a.
func (s *splice) back() {
	defer s.wait.Done()
	s.fromB = s.copy(s.a, s.b)
}

// copy moves src to dst until src ends, and then half-closes dst. A socket
// whose other direction has ended too is about to be closed, which says it.
func (s *splice) copy(dst, src net.Conn) (n int64) {
	n, err := s.relay(dst, src)
	if err == nil {
		err = s.over(dst)
	}
	if err != nil {
		s.fail(err)
	}
	return n
}

// over half-closes dst, for which there is no more.
func (s *splice) over(dst net.Conn) error {
	_, socket := SocketOf(dst)
	if last := s.ended.Add(1) == 2; last && socket {
		return nil
	}
	return closeWrite(dst)
}

// fail cuts both sides.
func (s *splice) fail(err error) {
	s.once.Do(func() { s.err = err; Reset(s.a); Reset(s.b) })
}

// packets is a connection that hands out what has arrived without copying it:
// appended to dst, as far as that has room. It waits until there is something.
type packets interface {
	ReadBuffers(dst [][]byte) ([][]byte, error)
}

// behindWriter is a connection that can write without a copy where there is
// room before the bytes: see WriteBehind of an SSH channel.
type behindWriter interface {
	WriteBehind(p []byte, room int) (int, error)
}

// AtOnce is how many packets of an SSH channel's go into one write: as much as a
// socket holds unsent. What is taken at once is kept until the peer has taken it.
const AtOnce = 4

// relay is the copy loop. A buffer is held only while bytes flow.
func (s *splice) relay(dst, src net.Conn) (n int64, err error) {
	if p, ok := src.(packets); ok {
		if t, ok := SocketOf(dst); ok {
			return s.relayPackets(t, p)
		}
	}
	read, to := readerOf(src), Stall{Limit: s.stall}
	for {
		buf, r, rerr := read()
		if r > 0 {
			w, werr := to.write(dst, (*buf)[:headroom+r])
			n += int64(w)
			if werr == io.EOF { // is no end of what is read
				werr = io.ErrClosedPipe
			}
			if werr != nil {
				rerr = werr
			}
		}
		if buf != nil {
			buffers.Put(buf)
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

// relayPackets is relay for a source that has its packets in memory already:
// they go out as they are, several in one writev.
func (s *splice) relayPackets(dst *Socket, src packets) (n int64, err error) {
	for to := (Stall{Limit: s.stall}); ; {
		w, err := to.passPackets(dst, src)
		n += w
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// passPackets reads once and writes that.
func (s *Stall) passPackets(dst *Socket, src packets) (n int64, err error) {
	var room [AtOnce][]byte
	got, err := src.ReadBuffers(room[:0])
	if len(got) == 0 {
		return 0, err
	}
	n, werr := s.WriteBuffers(dst, (*net.Buffers)(&got))
	if werr != nil {
		err = werr
	}
	return n, err
}

// write sends what is in a buffer behind its headroom.
func (s *Stall) write(dst net.Conn, buf []byte) (n int, err error) {
	behind, ok := dst.(behindWriter)
	if !ok {
		return s.Write(dst, buf[headroom:])
	}
	if err := s.Extend(dst); err != nil {
		return 0, err
	}
	return behind.WriteBehind(buf, headroom)
}

// reader reads once into a pooled buffer, which it takes when there is
// something to be read; the caller puts it back unless it is nil.
type reader func() (buf *[]byte, n int, err error)

// readerOf gives the way to read c that holds no buffer while it waits, where
// c offers one.
func readerOf(c net.Conn) reader {
	switch c := c.(type) {
	case *Peeked:
		return c.readAgain()
	case interface{ WaitRead() }:
		return func() (*[]byte, int, error) {
			c.WaitRead()
			return readInto(c.(net.Conn))
		}
	case *net.TCPConn, *Socket:
		if s, ok := SocketOf(c); ok {
			return s.reader()
		}
	}
	return func() (*[]byte, int, error) { return readInto(c) }
}

// readAgain reads what was peeked at, and then as the connection below does.
func (p *Peeked) readAgain() reader {
	below := readerOf(p.Conn)
	return func() (*[]byte, int, error) {
		if len(p.head) > 0 {
			return readInto(p)
		}
		return below()
	}
}

func readInto(c net.Conn) (*[]byte, int, error) {
	buf := buffers.Get().(*[]byte)
	n, err := c.Read((*buf)[headroom:])
	return buf, n, err
}

// end closes both sides; after an error they are closed already.
func (s *splice) end() {
	s.once.Do(func() {})
	s.a.Close()
	s.b.Close()
}

// closeWrite half-closes c. A peer that is gone already has had its end.
func closeWrite(c net.Conn) error {
	h, ok := c.(halfCloser)
	if !ok {
		return c.Close()
	}
	err := h.CloseWrite()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return c.Close()
	case err != nil && !gone(err):
		return err
	}
	return nil
}

// gone reports whether err only says that the other end has closed.
func gone(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &op) && !op.Timeout()
}

// Reset closes c so that its peer cannot take what it got for all there was:
// a TCP connection sends RST instead of FIN, also one that is below another
// (NetConn, as *tls.Conn has it), which then has no last word. Anything else is
// closed.
func Reset(c net.Conn) {
	for {
		below, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = below.NetConn()
	}
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	c.Close()
}
