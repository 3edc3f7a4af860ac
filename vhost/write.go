package vhost

import (
	"errors"
	"net"
	"os"
	"time"

	"adit/tcp"
)

// responder is the way back to a visitor. Messages are given to it in HTTP/1.1's
// form: each head whole at the beginning of a write, and content behind it.
type responder interface {
	sink
	// end says that the message is whole. b holds its trailer fields, where
	// these were not in the message; it may be nil.
	end(b *body)
	// abort sees to it that what was sent cannot be taken for all there is.
	abort()
	// linger gives a visitor that is still sending the time to read its answer.
	linger()
}

// writeAll writes p to c, for as long as some of it is taken within stall. by
// is the write deadline that c has.
func writeAll(c net.Conn, p []byte, stall time.Duration, by *time.Time) (n int, err error) {
	for {
		if err := extend(c, stall, by); err != nil {
			return n, err
		}
		m, err := c.Write(p[n:])
		n += m
		if m == 0 || n == len(p) || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// writePackets is writeAll for several pieces, which a socket takes in one
// system call; the slice of them is used up.
func writePackets(c net.Conn, packets net.Buffers, stall time.Duration, by *time.Time) error {
	for {
		if err := extend(c, stall, by); err != nil {
			return err
		}
		m, err := tcp.WriteBuffers(c, &packets)
		if m == 0 || len(packets) == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// extend gives c stall for its next write. The deadline by, which it has, is
// moved only when a quarter of stall has passed: setting one costs more than
// looking at the clock.
func extend(c net.Conn, stall time.Duration, by *time.Time) error {
	now := time.Now()
	if left := by.Sub(now); left >= stall*3/4 && left <= stall {
		return nil
	}
	*by = now.Add(stall)
	return c.SetWriteDeadline(*by)
}
