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
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
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
