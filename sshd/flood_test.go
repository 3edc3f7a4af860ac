package sshd

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// A flood ends the connection it comes on; the others do not feel it.
func TestFloodsEndTheirConnection(t *testing.T) {
	const many = maxOpensPerTick + 50
	floods := map[string]func(c *raw){
		"unknown channels": func(c *raw) {
			for range many {
				c.send(channelOpen("x"))
			}
		},
		"sessions": func(c *raw) {
			for range many {
				c.send(channelOpen("session"))
			}
		},
		"direct channels": func(c *raw) {
			for range many {
				c.send(struct {
					Kind           string `sshtype:"90"`
					ID, Window, Mx uint32
					Host           string
					Port           uint32
					Origin         string
					OPort          uint32
				}{"direct-tcpip", 0, 1 << 20, 32 << 10, "h", 1, "", 0})
			}
		},
		"global requests": func(c *raw) {
			for range many {
				c.globalRequest("x", false, nil)
			}
		},
		"forwards": func(c *raw) {
			for range many {
				c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80}))
			}
		},
	}
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			ts := newServer(t, script{})
			control := ts.dial("bob")
			baseline := runtime.NumGoroutine()
			c, h := ts.dialRaw("ann")
			go c.closed() // it reads the answers, all the time
			flood(c)
			if err := within(t, h.closed); !errors.Is(err, ErrTooMany) {
				t.Error("cause:", err)
			}
			c.nc.Close()
			alive(t, control, baseline)
		})
	}
}

// Many in a long time are no flood.
func TestSlowRequestsAreNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newServer(t, script{}).dial("ann")
		for range 3 * maxOpensPerTick / 100 {
			for range 100 {
				c.SendRequest("x", false, nil)
			}
			time.Sleep(time.Second)
		}
		if !c.forward("blog", 80) {
			t.Error("gone")
		}
	})
}

// Answers to nothing are thrown away, or end the connection.
func TestUnsolicitedAnswers(t *testing.T) {
	answers := map[string][]byte{
		"REQUEST_SUCCESS":      {msgRequestSuccess},
		"REQUEST_FAILURE":      {msgRequestFailure},
		"CHANNEL_SUCCESS":      {msgChannelSuccess, 0, 0, 0, 0},
		"OPEN_CONFIRMATION":    {msgChannelConfirm, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 128, 0},
		"of an unknown number": {msgChannelSuccess, 0xff, 0, 0, 0},
		"window of nobody":     {93, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
	}
	for name, p := range answers {
		t.Run(name, func(t *testing.T) {
			ts := newServer(t, script{session: func(ctx context.Context, _ *Session) { <-ctx.Done() }})
			control := ts.dial("bob")
			baseline := runtime.NumGoroutine()
			c, h := ts.dialRaw("ann")
			c.openSession(3, 1<<20)
			go c.closed()
			for range 20000 {
				c.write(p)
			}
			if !control.forward("during", 80) {
				t.Error("the control connection was hit")
			}
			c.nc.Close()
			within(t, h.closed)
			alive(t, control, baseline)
		})
	}
}

// A client that answers pings before they are asked gains nothing: its
// forwards still wait for real ones.
func TestStagedAnswersDoNotBlock(t *testing.T) {
	ts, dial := streaming(t)
	c, _ := ts.dialRaw("ann")
	for range 1000 {
		c.write([]byte{msgRequestFailure})
	}
	c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80}))
	c.want(msgRequestSuccess)
	got := make(chan error, 1)
	go func() {
		k, err := dial()
		if err == nil {
			_, err = io.WriteString(k, "x")
		}
		got <- err
	}()
	c.acceptOpen()
	if err := within(t, got); err != nil {
		t.Error(err)
	}
	c.nc.Close()
}
