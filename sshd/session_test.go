package sshd

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// status gives what a session's requests say of its end: -1 without a status.
func status(reqs <-chan *ssh.Request) chan int {
	got := make(chan int, 1)
	go func() {
		n := -1
		for r := range reqs {
			var m struct{ Status uint32 }
			if r.Type == "exit-status" && ssh.Unmarshal(r.Payload, &m) == nil {
				n = int(m.Status)
			}
			r.Reply(false, nil)
		}
		got <- n
	}()
	return got
}

func TestExitStatus(t *testing.T) {
	tests := []struct {
		name    string
		session func(context.Context, *Session)
		want    int
	}{
		{"exit 2", func(_ context.Context, s *Session) { io.WriteString(s.Stderr(), "no"); s.Exit(2) }, 2},
		{"only the first counts", func(_ context.Context, s *Session) { s.Exit(1); s.Exit(2) }, 1},
		{"abandoned", func(_ context.Context, s *Session) { s.Abandon(ErrHungUp) }, -1},
		{"hung up", func(_ context.Context, s *Session) { s.Conn().HangUp(ErrHungUp) }, -1},
		{"panicked", func(context.Context, *Session) { panic("oh") }, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newServer(t, script{session: func(ctx context.Context, s *Session) {
					tt.session(ctx, s)
					if tt.name == "hung up" {
						<-ctx.Done()
					}
				}}).dial("ann")
				ch, reqs := c.session()
				got := status(reqs)
				ch.SendRequest("shell", true, nil)
				began := time.Now()
				if n := <-got; n != tt.want {
					t.Errorf("status %d, want %d", n, tt.want)
				}
				c.ended()
				if took := time.Since(began); took > time.Second {
					t.Errorf("the connection lived on for %v", took)
				}
			})
		})
	}
}

// A stock ssh that was told its status waits until no forwarded channel is
// open, and one that is frozen does not even do that.
func TestExitEndsAConnectionWithStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forwards := make(chan *Forward, 1)
		refused := make(chan error, 1)
		ts := newServer(t, script{
			forward: func(ctx context.Context, f *Forward) {
				f.Accept(4000)
				forwards <- f
				<-ctx.Done()
			},
			session: func(_ context.Context, s *Session) {
				f := <-forwards
				k, err := f.DialContext(context.Background(), visitor)
				if err != nil {
					t.Error(err)
				}
				s.Exit(3)
				if _, err := k.Read(make([]byte, 1)); err == nil {
					t.Error("the stream is still open")
				}
				_, err = f.DialContext(context.Background(), visitor)
				refused <- err
			},
		})
		c := ts.dial("ann")
		c.forward("blog", 80)
		ch, reqs := c.session()
		got := status(reqs)
		ch.SendRequest("shell", true, nil)
		if n := <-got; n != 3 {
			t.Errorf("status %d", n)
		}
		began := time.Now()
		c.ended()
		if took := time.Since(began); took > leaveGrace {
			t.Errorf("cut after %v", took)
		}
		if err := <-refused; err == nil {
			t.Error("a stream was opened after the status")
		}
	})
}

func TestExitOfOneOfTwoSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newServer(t, script{session: func(ctx context.Context, s *Session) {
			if s.Command() == "stay" {
				<-ctx.Done()
			}
		}}).dial("ann")
		stay, stayReqs := c.session()
		go ssh.DiscardRequests(stayReqs)
		stay.SendRequest("exec", true, ssh.Marshal(struct{ S string }{"stay"}))
		for range 3 {
			ch, reqs := c.session()
			got := status(reqs)
			ch.SendRequest("exec", true, ssh.Marshal(struct{ S string }{"go"}))
			if n := <-got; n != 0 {
				t.Error("status", n)
			}
		}
		time.Sleep(time.Minute)
		if !c.forward("still", 80) {
			t.Error("gone")
		}
	})
}

func TestASessionThatReturnsSaysZero(t *testing.T) {
	c := newServer(t, script{}).dial("ann")
	ch, reqs := c.session()
	got := status(reqs)
	ch.SendRequest("shell", true, nil)
	if n := within(t, got); n != 0 {
		t.Error("status", n)
	}
}

func TestSessionsPerConnection(t *testing.T) {
	c := newServer(t, script{}).dial("ann")
	for range maxSessions {
		_, reqs := c.session()
		go ssh.DiscardRequests(reqs)
	}
	var refused *ssh.OpenChannelError
	if _, _, err := c.OpenChannel("session", nil); !errors.As(err, &refused) || !strings.Contains(refused.Message, "too many sessions") {
		t.Error(err)
	}
}

func TestSessionWordsWindowAndPTY(t *testing.T) {
	type seen struct {
		words  []string
		pty    bool
		window Window
	}
	got := make(chan seen, 1)
	ts := newServer(t, script{session: func(ctx context.Context, s *Session) {
		io.WriteString(s, "a\n")
		for s.Window().Width != 132 {
			<-s.Resized()
		}
		got <- seen{s.Words(), s.PTY(), s.Window()}
	}})
	c := ts.dial("ann")
	ch, reqs := c.session()
	go ssh.DiscardRequests(reqs)
	size := func(w, h uint32) []byte { return ssh.Marshal(struct{ W, H, X, Y uint32 }{w, h, 0, 0}) }
	ch.SendRequest("pty-req", true, ssh.Marshal(struct {
		Term       string
		W, H, X, Y uint32
		Modes      string
	}{"xterm", 80, 24, 0, 0, ""}))
	ch.SendRequest("exec", true, ssh.Marshal(struct{ S string }{`json 'two words'`}))
	for range 1000 { // none waits for the session to take them
		ch.SendRequest("window-change", false, size(1<<31, 1))
	}
	ch.SendRequest("window-change", true, size(132, 1<<31))
	s := within(t, got)
	if len(s.words) != 2 || s.words[1] != "two words" || !s.pty || s.window != (Window{132, 10000}) {
		t.Errorf("%+v", s)
	}
	if b, _ := io.ReadAll(ch); string(b) != "a\r\n" {
		t.Errorf("output %q", b)
	}
}

// A panic costs the connection it happened on; the others go on, and nothing
// of it is left behind.
func TestPanicsCostTheirConnectionOnly(t *testing.T) {
	boom := func() { panic("boom") }
	provoke := map[string]func(c *client){
		"forward": func(c *client) { c.SendRequest("tcpip-forward", true, ssh.Marshal(bind{"boom", 80})) },
		"direct": func(c *client) {
			c.OpenChannel("direct-tcpip", ssh.Marshal(opened{"boom", 1, "", 1}))
		},
		"global request": func(c *client) {
			for range 100 { // more than the library holds for us
				c.SendRequest("streamlocal-forward@openssh.com", false, nil)
			}
		},
		"session request": func(c *client) {
			ch, reqs := c.session()
			go ssh.DiscardRequests(reqs)
			for range 100 {
				ch.SendRequest("subsystem", false, nil)
			}
		},
		"session": func(c *client) {
			ch, reqs := c.session()
			go ssh.DiscardRequests(reqs)
			ch.SendRequest("shell", true, nil)
		},
	}
	for name, f := range provoke {
		t.Run(name, func(t *testing.T) {
			ts := newServer(t, script{
				forward: func(ctx context.Context, f *Forward) {
					if f.Addr() == "boom" {
						boom()
					}
					hold(ctx, f)
				},
				session:     func(context.Context, *Session) { boom() },
				direct:      func(string, uint32) (net.Conn, error) { boom(); return nil, nil },
				unsupported: func(*Session, string) { boom() },
			})
			other := ts.dial("bob")
			c := ts.dial("ann")
			f(c)
			if cause := c.ended(); !strings.Contains(cause.Error(), "panic") {
				t.Error("cause:", cause)
			}
			if !other.forward("fine", 80) {
				t.Error("the other connection was hit")
			}
		})
	}
}

func TestPanicInConnected(t *testing.T) {
	ts := newServer(t, script{}, func(s *Server) {
		s.Connected = func(*Conn) (Handler, error) { panic("oh") }
	})
	nc := ts.connect()
	if c, chans, reqs, err := ssh.NewClientConn(nc, "test", clientConfig("ann")); err == nil {
		drain(chans, reqs)
		c.Wait()
	}
}

// A connection that is refused after its login leaves nothing behind, however much
// has come of it by then.
func TestConnectedRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails where a goroutine stays
		sent := make(chan struct{})
		ts := newServer(t, script{}, func(s *Server) {
			s.Connected = func(*Conn) (Handler, error) { <-sent; return nil, errors.New("stopping") }
		})
		c := greet(t, ts.connect())
		c.exchange()
		c.service()
		c.sign("me", "ann")
		c.want(msgUserAuthOK)
		for range 100 {
			c.globalRequest("noise", false, nil)
		}
		close(sent)
		c.closed()
		ts.Server.Conns(func(*Conn) { t.Error("it is listed") })
	})
}
