package sshd

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// settling is a server whose forwards report how long they were pending. A
// session that has spoken releases them.
func settling(t *testing.T) (*testServer, chan time.Duration) {
	pending := make(chan time.Duration, 8)
	spoken := make(chan struct{})
	return newServer(t, script{
		forward: func(ctx context.Context, f *Forward) {
			if f.Accept(4000) != nil {
				return
			}
			began := time.Now()
			if f.Settle(ctx, spoken) == nil {
				pending <- time.Since(began)
				<-ctx.Done()
			}
		},
		session: func(ctx context.Context, s *Session) {
			close(spoken)
			<-ctx.Done()
		},
	}), pending
}

func TestSettleWithoutSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts, pending := settling(t)
		c := ts.dialMute("ann")
		pings := 0
		go func() {
			for r := range c.reqs {
				if r.Type == "keepalive@openssh.com" {
					pings++
					time.Sleep(100 * time.Millisecond)
				}
				r.Reply(false, nil)
			}
		}()
		c.forward("blog", 80)
		if took := <-pending; took != 200*time.Millisecond || pings != 2 {
			t.Errorf("pending for %v and %d pings, want two pings of 100 ms", took, pings)
		}
	})
}

func TestSettleWithoutAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts, pending := settling(t)
		c := ts.dialMute("ann")
		c.forward("blog", 80)
		if took := <-pending; took != settleLimit {
			t.Errorf("pending for %v, want %v", took, settleLimit)
		}
	})
}

func TestSettleWaitsForTheSession(t *testing.T) {
	for _, tt := range []struct {
		name  string
		speak time.Duration // 0: never
		want  time.Duration
	}{
		{"that speaks", 3 * time.Second, 3 * time.Second},
		{"that never speaks", 0, settleLimit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ts, pending := settling(t)
				c := ts.dial("ann")
				ch, reqs := c.session()
				go ssh.DiscardRequests(reqs)
				c.forward("blog", 80)
				if tt.speak > 0 {
					time.Sleep(tt.speak)
					ch.SendRequest("shell", true, nil)
				}
				if took := <-pending; took != tt.want {
					t.Errorf("pending for %v, want %v", took, tt.want)
				}
			})
		})
	}
}

func TestSettleEndsWhenTheSilentSessionCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts, pending := settling(t)
		c := ts.dial("ann")
		ch, reqs := c.session()
		go ssh.DiscardRequests(reqs)
		ch.Close()
		synctest.Wait()
		c.forward("blog", 80)
		if took := <-pending; took > time.Second {
			t.Errorf("pending for %v", took)
		}
	})
}

// Two forwards and a session's open come in one burst. While the second
// forward's answer is being made, the pings behind the first one's reply are
// answered and the open waits unseen: that is no client without a session.
func TestSettleSeesASessionBehindASlowForward(t *testing.T) {
	for range 10 { // the loop may look at either first
		synctest.Test(t, sessionBehindASlowForward)
	}
}

func sessionBehindASlowForward(t *testing.T) {
	pending := make(chan time.Duration, 1)
	spoken := make(chan struct{})
	ts := newServer(t, script{
		forward: func(ctx context.Context, f *Forward) {
			if f.Addr() == "slow" {
				time.Sleep(2 * time.Second)
			}
			if f.Accept(4000) == nil && f.Addr() == "first" {
				began := time.Now()
				f.Settle(ctx, spoken)
				pending <- time.Since(began)
			}
			<-ctx.Done()
		},
		session: func(ctx context.Context, _ *Session) {
			close(spoken)
			<-ctx.Done()
		},
	})
	c, _ := ts.dialRaw("ann")
	c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"first", 80}))
	c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"slow", 80}))
	c.send(channelOpen("session"))
	for confirmed := false; !confirmed; { // answer pings, as ssh does
		p, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if p[0] == msgGlobalRequest {
			c.write([]byte{msgRequestFailure})
		}
		confirmed = p[0] == msgChannelConfirm
	}
	time.Sleep(time.Second)
	c.channelRequest(0, "shell", false, nil)
	if took := <-pending; took != 3*time.Second {
		t.Errorf("pending for %v, want until the session spoke at 3 s", took)
	}
	c.nc.Close()
}

func TestForwardsAreDecidedBeforeTheSessionRuns(t *testing.T) {
	const n = 40 // more than the library holds for us
	for range 20 {
		decided := make(chan int, 1)
		var answered atomic.Int32
		ts := newServer(t, script{
			forward: func(ctx context.Context, f *Forward) {
				answered.Add(1)
				hold(ctx, f)
			},
			session: func(_ context.Context, s *Session) { decided <- int(answered.Load()) },
		})
		c, h := ts.dialRaw("ann")
		ask := func(from, to int) {
			for i := from; i < to; i++ {
				c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"n", uint32(i + 1)}))
			}
		}
		ask(0, n-8)
		c.send(channelOpen("session"))
		c.want(msgChannelConfirm)
		ask(n-8, n)
		c.channelRequest(0, "shell", false, nil)
		if got := within(t, decided); got != n {
			t.Fatalf("the session ran after %d of %d forwards", got, n)
		}
		c.nc.Close()
		within(t, h.closed)
	}
}
