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

// tune sets the options of an SSH connection's socket. They only help, so an
// error changes nothing.
func tune(nc net.Conn) {
	tc, ok := tcp.SocketOf(nc)
	if !ok {
		return
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowAt)
	})
}
