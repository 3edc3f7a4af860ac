package sshd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// dead waits for the end of a connection, whose cause must be ErrDead.
func dead(t *testing.T, h *script, began time.Time) time.Duration {
	t.Helper()
	if err := within(t, h.closed); !errors.Is(err, ErrDead) {
		t.Error("cause:", err)
	}
	return time.Since(began)
}

func TestASilentClientIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		ts := newServer(t, script{forward: func(ctx context.Context, f *Forward) {
			hold(ctx, f)
			ended <- context.Cause(ctx)
		}})
		c := ts.dialMute("ann")
		go c.SendRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80}))
		if took := dead(t, c.h, time.Now()); took < 2*livenessTick || took > (missedTicks+1)*livenessTick {
			t.Error("cut after", took)
		}
		if err := <-ended; !errors.Is(err, ErrDead) {
			t.Error("the forward's cause:", err)
		}
	})
}

func TestAnIdleClientLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newServer(t, script{}).dial("ann")
		time.Sleep(24 * time.Hour)
		if !c.forward("blog", 80) {
			t.Error("gone")
		}
	})
}

// Any byte is life: a slow uplink's answers queue behind its data.
func TestAnyByteIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newServer(t, script{})
		c, h := ts.dialRaw("ann")
		for range 100 { // no answer to any ping
			c.send(struct {
				S string `sshtype:"2"`
			}{"x"})
			time.Sleep(livenessTick / 2)
		}
		select {
		case err := <-h.closed:
			t.Fatal("cut:", err)
		default:
		}
		dead(t, h, time.Now())
		c.nc.Close()
	})
}

// It sends, but takes no bytes: its answers are there, and ours do not go out.
func TestAClientThatTakesNothingIsCut(t *testing.T) {
	ts := newServer(t, script{}, func(s *Server) { s.tick = 20 * time.Millisecond })
	c, h := ts.dialRaw("ann")
	c.nc.(*pipe).in.set(func(s *stream) { s.size = 2 << 10 })
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default: // each asks for an answer that is never read
				c.globalRequest("x", true, nil)
				time.Sleep(100 * time.Microsecond)
			}
		}
	}()
	dead(t, h, time.Now())
	c.nc.Close()
	close(stop)
	<-stopped
}

// A key exchange that the client begins and never ends stops every writer.
func TestAnUnfinishedRekeyIsCut(t *testing.T) {
	ts := newServer(t, script{}, func(s *Server) { s.tick = 20 * time.Millisecond })
	c, h := ts.dialRaw("ann")
	c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80}))
	c.want(msgRequestSuccess)
	c.write(kexInit(nil))
	c.want(msgKexInit)
	dead(t, h, time.Now())
	c.nc.Close()
}

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newServer(t, script{})
		live, mute := ts.dial("ann"), ts.dialMute("bob")
		if !live.h.conn.Answers(time.Second) {
			t.Error("a live client")
		}
		began := time.Now()
		if mute.h.conn.Answers(time.Second) || time.Since(began) != time.Second {
			t.Error("a mute one")
		}
		mute.Close()
		mute.ended()
		if mute.h.conn.Answers(time.Hour) {
			t.Error("one that is gone")
		}
	})
}

func TestLivenessLooks(t *testing.T) {
	type look struct {
		reads, writes, finished uint64
		asking                  bool
		dead                    bool
	}
	tests := map[string][]look{
		"silent":                       {{asking: true}, {asking: true}, {asking: true, dead: true}},
		"a byte just in time":          {{asking: true}, {asking: true}, {reads: 1, asking: true}, {reads: 1, asking: true}, {reads: 1, asking: true}, {reads: 1, asking: true, dead: true}},
		"a write that hangs":           {{reads: 1, writes: 1}, {reads: 2, writes: 1, asking: true}, {reads: 3, writes: 1, asking: true}, {reads: 4, writes: 1, asking: true, dead: true}},
		"a write that is slow":         {{reads: 1, writes: 1}, {reads: 2, writes: 2, finished: 1}, {reads: 3, writes: 3, finished: 2}, {reads: 4, writes: 4, finished: 3}, {reads: 5, writes: 5, finished: 4}},
		"a ping that was never sent":   {{reads: 1, asking: true}, {reads: 2, asking: true}, {reads: 3, asking: true, dead: true}},
		"bytes come and pings go out ": {{reads: 1, asking: true}, {reads: 2, writes: 1, finished: 1}, {reads: 3, asking: true}, {reads: 4, writes: 2, finished: 2}},
	}
	for name, looks := range tests {
		t.Run(name, func(t *testing.T) {
			c := &Conn{sock: &socket{}}
			for i, l := range looks {
				c.sock.reads.Store(l.reads)
				c.sock.writes.Store(l.writes)
				c.sock.finished.Store(l.finished)
				c.liveness.asking.Store(true) // so that none goes out here
				if !l.asking {
					c.liveness.asking.Store(false)
					c.group.closed = true
				}
				if err := c.liveness.check(c); errors.Is(err, ErrDead) != l.dead {
					t.Errorf("look %d: %v", i, err)
				}
			}
		})
	}
}
