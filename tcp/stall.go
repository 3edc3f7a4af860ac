package tcp

import (
	"errors"
	"net"
	"os"
	"time"
)

// Stall bounds how long the peer of a connection may take none of what it is
// sent; who takes it slowly takes it. It keeps the connection's write deadline,
// and is used by one goroutine at a time.
type Stall struct {
	Limit time.Duration // 0: for ever; a peer has up to a quarter more
	by    time.Time     // the deadline that the connection has
}

// Write writes all of p to c. Where c takes nothing for Limit the error wraps
// os.ErrDeadlineExceeded.
func (s *Stall) Write(c net.Conn, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		if err := s.Extend(c); err != nil {
			return n, err
		}
		var some int
		if some, err = writeSome(c, p[n:]); err != nil {
			some, err = s.again(c, p[n:], some, err)
		}
		n += some
	}
	return n, err
}

// WriteBuffers is Write for several pieces, and takes from b what was written.
func (s *Stall) WriteBuffers(c net.Conn, b *net.Buffers) (n int64, err error) {
	for drop(b, 0); len(*b) > 0 && err == nil; drop(b, 0) {
		if err := s.Extend(c); err != nil {
			return n, err
		}
		var some int64
		if some, err = writeSomeBuffers(c, b); err != nil && len(*b) > 0 {
			var more int
			more, err = s.again(c, (*b)[0], int(some), err)
			drop(b, more-int(some))
			some = int64(more)
		}
		n += some
	}
	return n, err
}

// again decides on a write that has taken n bytes of p and ended in err: where it
// ran out of time without one, a socket is tried once more. The system calls it
// writable only when much of its buffer is free.
func (s *Stall) again(c net.Conn, p []byte, n int, err error) (int, error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	if sock, ok := SocketOf(c); ok && n == 0 && s.Extend(c) == nil {
		n = sock.TryWrite(p)
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// Extend gives c time for its next write. The deadline is moved only when a
// quarter of Limit has passed: setting one costs more than looking at the clock.
func (s *Stall) Extend(c net.Conn) error {
	if s.Limit == 0 {
		return nil
	}
	now := time.Now()
	if left := s.by.Sub(now); left >= s.Limit && left <= s.Limit*5/4 {
		return nil
	}
	s.by = now.Add(s.Limit * 5 / 4)
	return c.SetWriteDeadline(s.by)
}
