//go:build unix

package tcp

import (
	"io"
	"net"
	"os"
	"syscall"
)

// rawReader reads a socket as the runtime does, trying first and waiting
// then, but gives the buffer back before it waits.
func rawReader(raw syscall.RawConn) reader {
	return func() (buf *[]byte, n int, err error) {
		var rerr error
		err = raw.Read(func(fd uintptr) bool {
			buf = buffers.Get().(*[]byte)
			for {
				n, rerr = syscall.Read(int(fd), (*buf)[headroom:])
				if rerr != syscall.EINTR {
					break
				}
			}
			if rerr == syscall.EAGAIN {
				buffers.Put(buf)
				buf = nil
				return false
			}
			return true
		})
		switch {
		case err != nil:
		case rerr != nil:
			err = os.NewSyscallError("read", rerr)
		case n == 0:
			err = io.EOF
		}
		return buf, max(n, 0), err
	}
}

// Trial is a socket that is written to only as far as it takes the bytes at once.
type Trial struct {
	raw   syscall.RawConn
	f     func(fd uintptr) bool
	p     []byte
	n     int
	total int64 // bytes taken by all calls
}

// NewTrial is nil where c cannot be tried. Write may be called from one goroutine
// at a time.
func NewTrial(c *net.TCPConn) *Trial {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	t := &Trial{raw: raw}
	t.f = t.once
	return t
}

// Write returns how much of p was taken. An error shows at the next write that
// waits.
func (t *Trial) Write(p []byte) int {
	t.p, t.n = p, 0
	t.raw.Write(t.f)
	t.p = nil
	t.total += int64(t.n)
	return t.n
}

func (t *Trial) once(fd uintptr) bool {
	if n, err := syscall.Write(int(fd), t.p); err == nil {
		t.n = n
	}
	return true
}

// Wait returns when a read of the socket would not wait: nil, or the error of a
// read deadline that has passed or of a socket that was closed here.
func (t *Trial) Wait() error { return t.raw.Read(readable) }

// readable looks whether there are bytes, or an end.
func readable(fd uintptr) bool {
	var b [1]byte
	for {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err != syscall.EINTR {
			return err != syscall.EAGAIN
		}
	}
}
