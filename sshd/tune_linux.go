package sshd

import (
	"net"

	"adit/tcp"

	"golang.org/x/sys/unix"
)

// notSentLowAt is how many bytes may wait unsent in the kernel for one SSH
// connection. Channels share it in the order of their writes, so all that a
// bulk transfer has queued stands before another channel's next byte.
const notSentLowAt = 32 << 10

// acknowledged is how many bytes sent on nc the client's system has
// acknowledged, of how many that were sent; 0 where nobody knows.
func acknowledged(nc net.Conn) (acked, sent uint64) {
	control(nc, func(fd int) {
		left, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		if err != nil {
			return
		}
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			acked, sent = info.Bytes_acked, info.Bytes_acked+uint64(left)
		}
	})
	return acked, sent
}

// tune sets the options of an SSH connection's socket. They only help, so an
// error changes nothing.
func tune(nc net.Conn) {
	control(nc, func(fd int) {
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowAt)
	})
}

// control calls f with nc's descriptor, if it has one that is open.
func control(nc net.Conn, f func(fd int)) {
	tc, ok := tcp.SocketOf(nc)
	if !ok {
		return
	}
	if raw, err := tc.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
