package sshd

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/crypto/ssh"
)

// data is a packet of channel data with one byte, or of extended data.
func data(peer uint32, extended bool) []byte {
	if extended {
		return ssh.Marshal(struct {
			Peer, Kind uint32 `sshtype:"95"`
			Data       string
		}{peer, 1, "x"})
	}
	return ssh.Marshal(struct {
		Peer uint32 `sshtype:"94"`
		Data string
	}{peer, "x"})
}

// joinRaw is a forwarded channel of a raw client's, whose side of it is number 7.
func joinRaw(t *testing.T) (c *raw, h *script, k *Channel) {
	t.Helper()
	ts, dial := streaming(t)
	c, h = ts.dialRaw("ann")
	c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80}))
	c.want(msgRequestSuccess)
	dialled := make(chan net.Conn, 1)
	go func() {
		k, _ := dial()
		dialled <- k
	}()
	c.acceptOpen()
	return c, h, within(t, dialled).(*Channel)
}

// A client that fills a channel nobody reads with packets of one byte loses
// the channel, and no more is kept of what it sends all the same.
func TestTinyPacketsUnread(t *testing.T) {
	for name, extended := range map[string]bool{"data": false, "extended data": true} {
		t.Run(name, func(t *testing.T) {
			c, h, k := joinRaw(t)
			tiny := data(k.id, extended)
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				c.want(msgRequestFailure)
			}()
			for range 8 * maxUnread { // an eighth of what the window allows
				c.write(tiny)
			}
			c.globalRequest("x", true, nil) // answered when all that was seen
			within(t, answered)
			k.mu.Lock()
			if n := len(k.arrived); n > maxUnread {
				t.Errorf("%d packets are held, of %d", n, 8*maxUnread)
			}
			k.mu.Unlock()
			eventually(t, "the channel is closed", func() bool {
				k.mu.Lock()
				defer k.mu.Unlock()
				return k.closed || extended
			})
			c.nc.Close()
			if err := within(t, h.closed); errors.Is(err, ErrTooMany) {
				t.Error("the whole connection was ended:", err)
			}
		})
	}
}

// The same into a session, which reads nothing either, ends the connection.
func TestTinyPacketsIntoASession(t *testing.T) {
	ts := newServer(t, script{session: func(ctx context.Context, _ *Session) { <-ctx.Done() }})
	c, h := ts.dialRaw("ann")
	peer := c.openSession(3, 1<<20)
	c.channelRequest(peer, "shell", false, nil)
	go c.closed()
	tiny := data(peer, false)
	for range 8 * maxUnread {
		c.write(tiny)
	}
	if err := within(t, h.closed); !errors.Is(err, ErrTooMany) {
		t.Error("ended:", err)
	}
}

// A window full of packets of the usual size waits for its reader.
func TestFullWindowUnread(t *testing.T) {
	_, k, local := join(t)
	if _, err := local.Write(make([]byte, firstWindow)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(k, make([]byte, firstWindow)); err != nil {
		t.Error(err)
	}
}
