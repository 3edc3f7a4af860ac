package sshd

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/ssh"
)

// A packet that ends the connection, with many more behind it, leaves nothing
// of ours behind, wherever it comes.
func TestPacketsBehindTheLast(t *testing.T) {
	bad := ssh.Marshal(channelOpen("session"))
	places := map[string]func(t *testing.T, ts *testServer) *raw{
		"before authentication": func(t *testing.T, ts *testServer) *raw {
			c := greet(t, ts.connect())
			c.exchange()
			return c
		},
		"during authentication": func(t *testing.T, ts *testServer) *raw {
			c := greet(t, ts.connect())
			c.exchange()
			c.service()
			return c
		},
		"after it": func(t *testing.T, ts *testServer) *raw {
			c, _ := ts.dialRaw("ann")
			c.write([]byte{msgChannelData})
			return c
		},
	}
	for name, play := range places {
		for _, size := range []int{0, 30000} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { // which fails where a goroutine stays
					c := play(t, newServer(t, script{}))
					p := append(bad[:len(bad):len(bad)], strings.Repeat("x", size)...)
					if size == 0 {
						p = []byte{msgChannelData} // the smallest there is
					}
					go func() {
						for range 200 {
							c.write(p)
						}
					}()
					c.closed()
					c.nc.Close()
				})
			})
		}
	}
}

// Who sends all of its login in one piece is only slowed down.
func TestEarlyBytesPassInTheEnd(t *testing.T) {
	ts := newServer(t, script{})
	c := greet(t, ts.connect())
	c.exchange()
	c.send(serviceRequest("ssh-userauth"))
	for range 10 {
		c.sign("me", "stranger")
	}
	c.sign("me", "ann")
	c.want(msgUserAuthOK)
	c.nc.Close()
	within(t, within(t, ts.conns).closed)
}

func TestGateShutsAtNewKeysOnly(t *testing.T) {
	var g gate
	buf := make([]byte, 4096)
	newKeys := []byte(str(12, "\x0a\x15"+strings.Repeat("\x00", 10)))
	for _, p := range [][]byte{nil, newKeys[:15], append(newKeys, 0), []byte(strings.Repeat("\x14", 16))} {
		if g.watch(p); len(g.admit(buf)) != 4096 {
			t.Errorf("shut by %q", p)
		}
	}
	g.watch(newKeys)
	if n := len(g.admit(buf)); n != earlyBytes {
		t.Error("may pass:", n)
	}
	g.passed(500)
	g.watch(newKeys) // is no new allowance
	if n := len(g.admit(buf)); n != earlyBytes-500 {
		t.Error("may pass:", n)
	}
	g.open()
	if n := len(g.admit(buf)); n != 4096 {
		t.Error("may pass after it opened:", n)
	}
}

// slowToClose does not close until everybody else has had their turn.
type slowToClose struct{ net.Conn }

func (c slowToClose) Close() error {
	synctest.Wait()
	return c.Conn.Close()
}

// Who waits at the gate when the connection is closed reads nothing more.
func TestNothingPassesTheGateAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := &socket{Conn: slowToClose{ours}}
		s.early.watch([]byte(str(12, "\x0a\x15"+strings.Repeat("\x00", 10))))
		s.early.passed(earlyBytes)
		go theirs.Write(make([]byte, 4096))
		read := make(chan int)
		go func() {
			n, _ := s.Read(make([]byte, 4096))
			read <- n
		}()
		synctest.Wait()
		s.Close()
		if n := <-read; n != 0 {
			t.Error("read after the end:", n, "bytes")
		}
	})
}

// The library is relied on in ways it does not promise. This fails where a new
// version of it has another shape.
func TestLibraryHasTheShapeReliedOn(t *testing.T) {
	c := newServer(t, script{}).dial("ann")
	if _, err := transportOf(c.h.conn.meta); err != nil {
		t.Error(err)
	}
	for _, other := range []any{nil, 1, struct{ transport int }{}, io.Discard, &struct{ transport struct{ incoming chan int } }{}, &struct {
		transport *struct{ incoming chan []byte }
	}{}} {
		if _, err := transportOf(other); err == nil {
			t.Errorf("%T was taken for the library's connection", other)
		}
	}
}
