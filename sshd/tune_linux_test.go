package sshd

import (
	"io"
	"net"
	"testing"
	"time"

	"adit/tcp"

	"golang.org/x/sys/unix"
)

// TestTuneBelow: a connection whose first bytes were looked at is tuned too, as
// SSH on the HTTPS port and behind a proxy is.
func TestTuneBelow(t *testing.T) {
	client, server := tcpPair(t)
	io.WriteString(client, "PROXY UNKNOWN\r\nSSH-2.0-x\r\n")
	behind, err := tcp.ReadProxy(server)
	if err != nil {
		t.Fatal(err)
	}
	peeked, _, err := tcp.Peek(behind, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	tune(peeked)
	raw, err := server.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		if got != notSentLowAt || err != nil {
			t.Errorf("TCP_NOTSENT_LOWAT is %d, %v", got, err)
		}
	})
}

// TestAcknowledged: what the client's system has not room for is sent and not
// acknowledged, until the client takes it.
func TestAcknowledged(t *testing.T) {
	const size = 16 << 20 // more than both systems hold
	near, far := tcpPair(t)
	written := make(chan struct{})
	go func() {
		defer close(written)
		far.Write(make([]byte, size))
	}()
	eventually(t, "the client's system is full", func() bool { acked, sent := acknowledged(far); return acked > 0 && sent > acked })
	if acked, sent := acknowledged(far); acked >= size || sent > size {
		t.Errorf("%d of %d bytes", acked, sent)
	}
	if _, err := io.CopyN(io.Discard, near, size); err != nil {
		t.Fatal(err)
	}
	<-written
	eventually(t, "all is acknowledged", func() bool { acked, sent := acknowledged(far); return acked == size && sent == size })
	if acked, sent := acknowledged(other{far}); acked != 0 || sent != 0 {
		t.Errorf("%d of %d bytes of what is no socket", acked, sent)
	}
}

// other is a connection of another kind.
type other struct{ net.Conn }

// tcpPair is a connection's two ends.
func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}
