package sshd

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"adit/tcp"

	"golang.org/x/crypto/ssh"
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

// slow is a connection that reads no more than a KiB in every 2 ms.
type slow struct{ net.Conn }

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(2 * time.Millisecond)
	return s.Conn.Read(p[:min(len(p), 1<<10)])
}

// TestASlowClientLives: a ping that queues behind what a slow client is taking
// all the time has not been left unanswered. Of each stream it takes less than
// what a client says a word of.
func TestASlowClientLives(t *testing.T) {
	const size, streams = 90 << 10, 8
	ts := newServer(t, script{session: func(_ context.Context, s *Session) {
		s.Write(make([]byte, size))
		s.Exit(0)
	}}, func(s *Server) { s.tick = 150 * time.Millisecond })
	near, far := tcpPair(t)
	go ts.ServeConn(far)
	conn, chans, reqs, err := ssh.NewClientConn(slow{near}, "", clientConfig("ann"))
	if err != nil {
		t.Fatal(err)
	}
	c := ssh.NewClient(conn, chans, reqs)
	defer c.Close()
	var wait sync.WaitGroup
	for range streams {
		wait.Go(func() {
			s, err := c.NewSession()
			if err != nil {
				t.Error(err)
				return
			}
			if out, err := s.Output("x"); err != nil || len(out) != size {
				t.Errorf("%d bytes, %v", len(out), err)
			}
		})
	}
	wait.Wait()
}

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
