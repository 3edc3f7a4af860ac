package tcp

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// notSentLowAt is how many bytes may wait unsent in the kernel for one
// connection. It is writable again when half of them are gone: without this
// bound a third of a buffer of four MiB would have to be taken first, and a peer
// that takes a few KiB a second would pass for one that takes nothing. It is a
// millisecond's worth of a fast link.
const notSentLowAt = 128 << 10

// listener opens what Listen gives. On Linux a connection inherits its
// options from the socket it was accepted on, tcp(7), which is five system
// calls less for every visitor than setting them on each. Multipath TCP (RFC
// 8684), which the net package would listen for, costs every connection that
// does not speak it, and lets only some of the options through.
var listener = func() (l net.ListenConfig) {
	l.KeepAlive, l.Control = -1, inherit
	l.SetMultipathTCP(false)
	return l
}()

// inherit sets the options that accepted connections are to have. They only
// help, so an error changes nothing.
func inherit(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		set := func(level, option, value int) { unix.SetsockoptInt(int(fd), level, option, value) }
		set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepalivePause.Seconds()))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepalivePause.Seconds()))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepaliveProbes)
		set(unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowAt)
	})
}
