//go:build unix

package vhost

import (
	"net"
	"syscall"
)

// quiet reports whether nothing has arrived on an idle connection: neither
// bytes that no request asked for nor its end. Nobody waits for that while it
// is idle, so it is asked before the next use.
func quiet(c net.Conn) bool {
	if q, ok := c.(interface{ Quiet() bool }); ok {
		return q.Quiet()
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		return true
	}
	raw, err := t.SyscallConn()
	return err == nil && nothingWaits(raw)
}

// nothingWaits looks at the socket's queue without waiting for it.
func nothingWaits(raw syscall.RawConn) (nothing bool) {
	err := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		nothing = err == syscall.EAGAIN
		return true
	})
	return err == nil && nothing
}
