package tcp

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// listener opens what Listen gives. On Linux a connection inherits its
// options from the socket it was accepted on, tcp(7), which is four system
// calls less for every visitor than setting them on each.
var listener = net.ListenConfig{
	KeepAliveConfig: net.KeepAliveConfig{Enable: false},
	KeepAlive:       -1,
	Control:         inherit,
}

// inherit sets the options that accepted connections are to have. They only
// help, so an error changes nothing.
func inherit(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		set := func(level, option, value int) { unix.SetsockoptInt(int(fd), level, option, value) }
		set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepalivePause.Seconds()))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepalivePause.Seconds()))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepaliveProbes)
	})
}
