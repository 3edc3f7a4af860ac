package sshd

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"
)

// fuzzServer is one server for a whole fuzz run, and a client of it that is
// made anew when an input has ended its connection.
type fuzzServer struct {
	ts   *testServer
	c    *client
	uses int
}

// outside is a testing.TB that may be used within a fuzz target, which the
// testing.F that runs it may not.
type outside struct {
	testing.TB
	cleanups []func()
}

func (o *outside) Helper()                   {}
func (o *outside) Cleanup(f func())          { o.cleanups = append(o.cleanups, f) }
func (o *outside) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (o *outside) Fatalf(s string, a ...any) { panic(fmt.Sprintf(s, a...)) }

func (o *outside) run() {
	for _, f := range slices.Backward(o.cleanups) {
		f()
	}
}

func newFuzzServer(f *testing.F) *fuzzServer {
	o := &outside{}
	f.Cleanup(o.run)
	echo := func(string, uint32) (net.Conn, error) {
		near, far := newPipe()
		go func() { io.Copy(far, far); far.Close() }()
		return near, nil
	}
	return &fuzzServer{ts: newServer(o, script{
		direct:  echo,
		session: func(_ context.Context, s *Session) { s.Words(); s.PTY(); s.Window(); s.Detach(0) },
	})}
}

// client gives a connection that works, a new one before the old has asked
// for so much that it counts as a flood.
func (s *fuzzServer) client() *client {
	if s.uses++; s.c == nil || s.uses%300 == 0 {
		if s.c != nil {
			s.c.Close()
		}
		s.c = s.ts.dial("ann")
	}
	return s.c
}

// FuzzGlobalRequest sends any global request; whatever it was, the connection
// answers the next one. Cancelling what was opened frees it.
func FuzzGlobalRequest(f *testing.F) {
	f.Add("tcpip-forward", []byte(right(bind{"blog", 80})))
	f.Add("tcpip-forward", []byte(right(bind{"", 0})))
	f.Add("tcpip-forward", []byte(str(huge, "blog")))
	f.Add("cancel-tcpip-forward", []byte(right(bind{"blog", 80})))
	f.Add("cancel-tcpip-forward", []byte(str(0, "")))
	f.Add("hostkeys-prove-00@openssh.com", []byte(str(3, "abc")))
	f.Add("streamlocal-forward@openssh.com", []byte(str(4, "/tmp")))
	f.Add("no-more-sessions@openssh.com", []byte{})
	s := newFuzzServer(f)
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		if len(kind)+len(payload) > 30000 {
			t.Skip() // longer than a packet
		}
		c := s.client()
		ok, reply, err := c.SendRequest(kind, true, payload)
		if err != nil {
			t.Fatal(err)
		}
		var b bind
		if kind != "tcpip-forward" || !ok {
			return
		}
		if ssh.Unmarshal(payload, &b) != nil {
			t.Fatal("a malformed forward was granted")
		}
		if b.Port == 0 {
			b.Port = 4000
			if len(reply) != 4 {
				t.Fatalf("reply %q to port 0", reply)
			}
		}
		if ok, _, err := c.SendRequest("cancel-tcpip-forward", true, ssh.Marshal(b)); !ok || err != nil {
			t.Fatal("cancel:", ok, err)
		}
	})
}

// FuzzChannelOpen opens any channel; it is answered.
func FuzzChannelOpen(f *testing.F) {
	f.Add("direct-tcpip", []byte(right(opened{"h", 80, "0.0.0.0", 0})))
	f.Add("direct-tcpip", []byte(str(huge, "h")))
	f.Add("session", []byte{})
	f.Add("forwarded-tcpip", []byte(right(opened{"blog", 80, "192.0.2.7", 1})))
	f.Add("tun@openssh.com", []byte{0, 0, 0, 1})
	s := newFuzzServer(f)
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		if len(kind)+len(payload) > 30000 {
			t.Skip()
		}
		ch, reqs, err := s.client().OpenChannel(kind, payload)
		if err == nil {
			go ssh.DiscardRequests(reqs)
			ch.Close()
		} else if _, refused := err.(*ssh.OpenChannelError); !refused {
			t.Fatal(err)
		}
	})
}

// FuzzSessionRequest sends any request to a fresh session, and then a shell.
func FuzzSessionRequest(f *testing.F) {
	f.Add("pty-req", []byte(right(ptyReq{"xterm", 80, 24, 0, 0, "\x00"})))
	f.Add("pty-req", []byte(str(huge, "xterm")))
	f.Add("pty-req", []byte(str(5, "xterm")+"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"+str(0, "")))
	f.Add("env", []byte(right(struct{ A, B string }{"LANG", "C"})))
	f.Add("exec", []byte(str(8, `a "b c" d`)))
	f.Add("exec", []byte(str(2, `'a`)))
	f.Add("shell", []byte{})
	f.Add("window-change", []byte("\x00\x00\x00\x50\x00\x00\x00\x18\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add("signal", []byte(str(3, "INT")))
	f.Add("subsystem", []byte(str(4, "sftp")))
	s := newFuzzServer(f)
	f.Fuzz(func(t *testing.T, kind string, payload []byte) {
		if len(kind)+len(payload) > 30000 {
			t.Skip()
		}
		c := s.client()
		ch, reqs, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		go ssh.DiscardRequests(reqs)
		ch.SendRequest(kind, true, payload)
		ch.SendRequest("shell", true, nil)
		ch.Close()
		if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			t.Fatal("the connection has ended:", err)
		}
		eventually(t, "the session is gone", func() bool { return !c.h.conn.HasSession() })
	})
}

// FuzzFindKexInit holds the peek at a client's first packet to its bounds.
func FuzzFindKexInit(f *testing.F) {
	k := kexInit(nil)
	f.Add([]byte("SSH-2.0-x\r\n" + str(uint32(len(k)+5), "\x04") + string(k) + "\x00\x00\x00\x00"))
	f.Add([]byte("SSH-2.0-x\n" + str(huge, "\x04\x14")))
	f.Add([]byte("SSH-2.0-x\n" + str(2, "\xff\x14")))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, more := findKexInit(b)
		if more && len(b) >= maxPeek {
			t.Error("no end to it")
		}
		if len(payload) > len(b) || more && payload != nil {
			t.Error("more than there is")
		}
		all := algorithms.Ciphers
		if got := offer(payload, all); len(got) == 0 || len(got) > len(all) {
			t.Error("offer:", got)
		}
	})
}
