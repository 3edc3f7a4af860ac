package sshd

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// ping is a ping@openssh.com, which is answered with as much.
func ping(size int) []byte {
	return ssh.Marshal(struct {
		Data string `sshtype:"192"`
	}{strings.Repeat("x", size)})
}

// stuffed is joinRaw's channel on the connection of a client that reads nothing
// any more: what the gateway sends waits.
func stuffed(t *testing.T) (c *raw, h *script, k *Channel) {
	t.Helper()
	c, h, k = joinRaw(t)
	for range 9 {
		c.write(ping(100 << 10))
	}
	eventually(t, "answers wait", func() bool { return k.conn.mux.waiting() > 0 })
	t.Cleanup(func() { c.nc.Close(); within(t, h.closed) })
	return c, h, k
}

// waiting is how many messages wait to be sent.
func (m *mux) waiting() int {
	m.outMu.Lock()
	defer m.outMu.Unlock()
	return len(m.outbox)
}

// Pings whose answers nobody reads are not kept for long.
func TestUnreadPings(t *testing.T) {
	c, h, _ := stuffed(t)
	for range 2 * maxOutboxBytes / (100 << 10) {
		c.write(ping(100 << 10))
	}
	err := within(t, h.closed)
	if !errors.Is(err, ErrTooMany) {
		t.Error("ended:", err)
	}
	h.closed <- err // for stuffed
}

// What is refused holds nothing of a message that was large.
func TestUnreadRefusals(t *testing.T) {
	const many, size = 400, 200 << 10
	large := make([]byte, size)
	for name, message := range map[string]func(k *Channel) any{
		"opens": func(*Channel) any { return channelOpenMsg{"session", 1, 1, 1, large} },
		"requests": func(k *Channel) any {
			return channelRequestMsg{k.id, strings.Repeat("x", size/2), true, large[:size/2]}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, k := stuffed(t)
			p, before := ssh.Marshal(message(k)), heapInUse()
			for range many {
				c.write(p)
			}
			eventually(t, "most have come", func() bool { return k.conn.mux.waiting() > many/2 })
			if held := heapInUse() - before; held > many*size/8 {
				t.Errorf("%d messages of %d KiB hold %d KiB", many, size>>10, held>>10)
			}
		})
	}
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// Close has no time to wait for a client: whoever ends a hundred channels, as
// the gateway's stop does, would wait for each.
func TestCloseDoesNotWait(t *testing.T) {
	_, _, k := stuffed(t)
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if cause := context.Cause(k.conn.ctx); cause != nil {
		t.Error("it has waited until the connection ended:", cause)
	}
}

// A channel that has held too many packets has lost some: what comes behind
// them is not passed on, nor does its end pass for that of a whole stream.
func TestTooManyPacketsLeaveNoHole(t *testing.T) {
	c, _, k := stuffed(t) // so that the channel is not closed at once
	tiny := data(k.id, false)
	for range maxUnread + 1 {
		c.write(tiny)
	}
	c.write(tiny)
	c.write(channelMsg(msgChannelEOF, k.id))
	eventually(t, "the end has come", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.gotEOF
	})
	if b, err := io.ReadAll(k); err == nil {
		t.Errorf("%d bytes of %d, and no error", len(b), maxUnread+2)
	}
}
