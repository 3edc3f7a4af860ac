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
		time.Sleep(livenessTick * 3 / 2) // so that it has been asked
		for range 100 {                  // no answer to any ping
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

// Nor does one whose client goes on sending: only in key exchanges nothing may
// be sent to it.
func TestAnUnfinishedRekeyIsCutThoughBytesCome(t *testing.T) {
	ts := newServer(t, script{}, func(s *Server) { s.tick = 20 * time.Millisecond })
	c, h := ts.dialRaw("ann")
	c.write(kexInit(nil))
	c.want(msgKexInit)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				c.send(struct {
					S string `sshtype:"2"`
				}{"x"})
			}
		}
	}()
	dead(t, h, time.Now())
	c.nc.Close()
	close(stop)
	<-stopped
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
	type seen struct {
		look
		asking, dead bool
		asked        uint64 // where the ping ends; 0: it has not been sent
	}
	tests := map[string][]seen{
		"silent":                              {{}, {asking: true}, {asking: true, dead: true}},
		"a byte just in time":                 {{}, {asking: true}, {look: look{reads: 1}, asking: true}, {look: look{1, 1, 1, 0}, asking: true}, {look: look{1, 2, 2, 0}, asking: true}, {look: look{1, 3, 3, 0}, asking: true, dead: true}},
		"a write that hangs":                  {{look: look{1, 1, 0, 0}}, {look: look{2, 1, 0, 0}}, {look: look{3, 1, 0, 0}}, {look: look{4, 1, 0, 0}, dead: true}},
		"a write that is slow":                {{look: look{1, 1, 0, 0}}, {look: look{2, 2, 1, 0}}, {look: look{3, 3, 2, 0}}, {look: look{4, 4, 3, 0}}, {look: look{5, 5, 4, 0}}},
		"a write that goes out in parts":      {{look: look{1, 1, 0, 0}}, {look: look{2, 1, 0, 1}}, {look: look{3, 1, 0, 2}}, {look: look{4, 1, 0, 3}}, {look: look{5, 1, 0, 4}}},
		"a ping that was never sent":          {{look: look{reads: 1}}, {look: look{reads: 2}, asking: true}, {look: look{reads: 3}, asking: true}, {look: look{reads: 4}, asking: true, dead: true}},
		"bytes come and pings go out":         {{look: look{reads: 1}}, {look: look{2, 1, 1, 0}}, {look: look{3, 1, 1, 0}}, {look: look{4, 2, 2, 0}}, {look: look{5, 2, 2, 0}}},
		"bytes come, and no answer":           {{look: look{}}, {look: look{0, 1, 1, 9}, asking: true, asked: 9}, {look: look{1, 1, 1, 9}, asking: true, asked: 9}, {look: look{2, 2, 2, 9}, asking: true, asked: 9}, {look: look{3, 2, 2, 9}, asking: true, asked: 9}, {look: look{4, 3, 3, 9}, asking: true, asked: 9}},
		"the ping is queued behind others":    {{look: look{0, 9, 9, 1}}, {look: look{0, 9, 9, 2}, asking: true, asked: 7}, {look: look{0, 10, 10, 3}, asking: true, asked: 7}, {look: look{0, 10, 10, 4}, asking: true, asked: 7}, {look: look{0, 10, 10, 5}, asking: true, asked: 7}, {look: look{0, 10, 10, 6}, asking: true, asked: 7}},
		"the ping has come and the rest does": {{look: look{0, 9, 9, 1}}, {look: look{0, 10, 10, 2}, asking: true, asked: 2}, {look: look{0, 11, 11, 3}, asking: true, asked: 2, dead: true}},
	}
	for name, looks := range tests {
		t.Run(name, func(t *testing.T) {
			l := &liveness{}
			for i, s := range looks {
				l.asking.Store(s.asking)
				l.asked.Store(s.asked)
				if dead, _ := l.judge(s.look); dead != s.dead {
					t.Errorf("look %d: dead is %v", i, dead)
				}
			}
		})
	}
}
