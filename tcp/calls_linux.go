//go:build !386

package tcp

import (
	"net"
	"syscall"
	"unsafe"
)

// The system calls of a Socket. RawSyscall is what does not tell the scheduler.

// sysRead is read(2); p must not be empty.
func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	return again(func() (uintptr, uintptr, syscall.Errno) {
		return syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	})
}

// sysWrite is write(2); p must not be empty.
func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	return again(func() (uintptr, uintptr, syscall.Errno) {
		return syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	})
}

// sysPeek is recv(2) of one byte that stays where it is.
func sysPeek(fd uintptr) syscall.Errno {
	var b [1]byte
	_, err := again(func() (uintptr, uintptr, syscall.Errno) {
		return syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	})
	return err
}

// again makes a call until no signal has come between; n is 0 after an error.
func again(call func() (uintptr, uintptr, syscall.Errno)) (n int, err syscall.Errno) {
	for {
		r, _, err := call()
		switch err {
		case 0:
			return int(r), 0
		case syscall.EINTR:
		default:
			return 0, err
		}
	}
}

// vectors are buffers for writev(2).
type vectors struct {
	iov [AtOnce]syscall.Iovec
	len int
	f   func(fd uintptr) bool
	n   int
	err syscall.Errno
}

// take takes as many of b as there is room for, and reports whether that is any.
func (v *vectors) take(b net.Buffers) bool {
	v.forget()
	v.len = 0
	for _, p := range b {
		if v.len == len(v.iov) {
			break
		}
		if len(p) > 0 {
			v.iov[v.len].Base = &p[0]
			v.iov[v.len].SetLen(len(p))
			v.len++
		}
	}
	return v.len > 0
}

func (v *vectors) forget() { clear(v.iov[:v.len]) }

func (v *vectors) write(fd uintptr) bool {
	v.n, v.err = again(func() (uintptr, uintptr, syscall.Errno) {
		return syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&v.iov[0])), uintptr(v.len))
	})
	return v.err != syscall.EAGAIN
}
