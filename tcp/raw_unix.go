//go:build unix

package tcp

import (
	"io"
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
				n, rerr = syscall.Read(int(fd), *buf)
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
