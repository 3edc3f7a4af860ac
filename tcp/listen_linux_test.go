package tcp

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestInheritedOptions: every accepted connection has its options, as if they had
// been set on it.
func TestInheritedOptions(t *testing.T) {
	s, _ := socketPair(t)
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for _, o := range []struct{ level, option, want int }{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowAt},
		} {
			if got, err := unix.GetsockoptInt(int(fd), o.level, o.option); err != nil || got != o.want {
				t.Errorf("option %d of level %d is %d, %v; want %d", o.option, o.level, got, err, o.want)
			}
		}
	})
}
