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

// trial writes to a socket what that takes at once.
type trial struct {
	raw   syscall.RawConn
	f     func(fd uintptr) bool
	p     []byte
	n     int
	total int64 // bytes taken by all calls
}

// newTrial is nil where c cannot be tried.
func newTrial(c *net.TCPConn) *trial {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	t := &trial{raw: raw}
	t.f = t.once
	return t
}

// write returns how much of p was taken. An error shows at the next write that
// waits.
func (t *trial) write(p []byte) int {
	t.p, t.n = p, 0
	t.raw.Write(t.f)
	t.p = nil
	t.total += int64(t.n)
	return t.n
}

func (t *trial) once(fd uintptr) bool {
	if n, err := syscall.Write(int(fd), t.p); err == nil {
		t.n = n
	}
	return true
}
