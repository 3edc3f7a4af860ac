//go:build unix && (!linux || 386)

package tcp

import (
	"errors"
	"net"
	"syscall"
)

// The system calls of a Socket, as the syscall package has them: elsewhere than
// on Linux there is no other way to make them, and 386 has one call for all.

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	return again(func() (int, error) { return syscall.Read(int(fd), p) })
}

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	return again(func() (int, error) { return syscall.Write(int(fd), p) })
}

func sysPeek(fd uintptr) syscall.Errno {
	var b [1]byte
	_, err := again(func() (int, error) {
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return n, err
	})
	return err
}

// again makes a call until no signal has come between; n is 0 after an error.
func again(call func() (int, error)) (n int, errno syscall.Errno) {
	for {
		n, err := call()
		switch {
		case err == nil:
			return n, 0
		case errors.Is(err, syscall.EINTR):
		case errors.As(err, &errno):
			return 0, errno
		default:
			return 0, syscall.EINVAL
		}
	}
}

// vectors is one of the buffers at a time.
type vectors struct {
	f   func(fd uintptr) bool
	p   []byte
	n   int
	err syscall.Errno
}

func (v *vectors) take(b net.Buffers) bool {
	for _, p := range b {
		if v.p = p; len(p) > 0 {
			return true
		}
	}
	return false
}

func (v *vectors) forget() { v.p = nil }

func (v *vectors) write(fd uintptr) bool {
	v.n, v.err = sysWrite(fd, v.p)
	return v.err != syscall.EAGAIN
}
