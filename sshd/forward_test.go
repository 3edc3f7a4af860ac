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

func TestForwardReplies(t *testing.T) {
	refuse := func(_ context.Context, f *Forward) { f.Reject() }
	returns := func(context.Context, *Forward) {}
	tests := []struct {
		name    string
		forward func(context.Context, *Forward)
		port    uint32
		ok      bool
		reply   string
	}{
		{"accepted", nil, 80, true, ""},
		{"any port: the reply carries it", nil, 0, true, "\x00\x00\x0f\xa0"},
		{"rejected", refuse, 80, false, ""},
		{"rejected for port 0", refuse, 0, false, ""},
		{"neither", returns, 80, false, ""},
		{"port over 65535 is the handler's to judge", nil, 1 << 31, true, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newServer(t, script{forward: tt.forward}).dial("ann")
			ok, reply := c.ask("tcpip-forward", ssh.Marshal(bind{"blog", tt.port}))
			if ok != tt.ok || string(reply) != tt.reply {
				t.Errorf("got %v %q, want %v %q", ok, reply, tt.ok, tt.reply)
			}
		})
	}
}

// opened is what a forwarded-tcpip open says (RFC 4254, section 7.2).
type opened struct {
	Addr   string
	Port   uint32
	Origin string
	OPort  uint32
}

func TestForwardedOpenEchoesTheAddress(t *testing.T) {
	got := make(chan *Forward, 1)
	ts := newServer(t, script{forward: func(ctx context.Context, f *Forward) {
		if f.Accept(4000) == nil {
			got <- f
			<-ctx.Done()
		}
	}})
	c := ts.dialMute("ann")
	go ssh.DiscardRequests(c.reqs)
	tests := []struct {
		addr    string
		port    uint32
		visitor net.Addr
		want    opened
	}{
		{"BloG.Example", 80, visitor, opened{"BloG.Example", 80, "192.0.2.7", 5555}},
		{"", 0, visitor, opened{"", 4000, "192.0.2.7", 5555}},
		{"*", 81, &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1}, opened{"*", 81, "2001:db8::1", 1}},
		{"\xff\x00\n", 82, &net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.9"), Port: 0}, opened{"\xff\x00\n", 82, "192.0.2.9", 1}},
		{"pipe", 83, &net.UnixAddr{Name: "x"}, opened{"pipe", 83, "127.0.0.1", 1}},
		{"none", 84, nil, opened{"none", 84, "127.0.0.1", 1}},
	}
	for _, tt := range tests {
		if !c.forward(tt.addr, tt.port) {
			t.Fatalf("%q refused", tt.addr)
		}
		f := <-got
		if f.Addr() != tt.addr {
			t.Errorf("Addr %q, want %q", f.Addr(), tt.addr)
		}
		dialled := make(chan error, 1)
		go func() {
			k, err := f.DialContext(context.Background(), tt.visitor)
			if err == nil {
				k.Close()
			}
			dialled <- err
		}()
		nc := <-c.chans
		var m opened
		if err := ssh.Unmarshal(nc.ExtraData(), &m); err != nil || m != tt.want || nc.ChannelType() != "forwarded-tcpip" {
			t.Errorf("%s %+v %v, want %+v", nc.ChannelType(), m, err, tt.want)
		}
		ch, reqs, _ := nc.Accept()
		go ssh.DiscardRequests(reqs)
		if err := <-dialled; err != nil {
			t.Error(err)
		}
		ch.Close()
	}
}

func TestCancelWaitsForTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		causes := make(chan error, 1)
		ts := newServer(t, script{forward: func(ctx context.Context, f *Forward) {
			f.Accept(4000)
			<-ctx.Done()
			time.Sleep(2 * time.Second) // the name is being freed
			causes <- context.Cause(ctx)
		}})
		c := ts.dial("ann")
		c.forward("blog", 80)
		began := time.Now()
		ok, _ := c.ask("cancel-tcpip-forward", ssh.Marshal(bind{"blog", 80}))
		if took := time.Since(began); !ok || took < 2*time.Second {
			t.Errorf("%v after %v, want true after 2 s", ok, took)
		}
		if err := <-causes; !errors.Is(err, ErrCancelled) {
			t.Error("cause:", err)
		}
		if ok, _ := c.ask("cancel-tcpip-forward", ssh.Marshal(bind{"blog", 80})); ok {
			t.Error("the second cancel succeeded")
		}
		if !c.forward("blog", 80) {
			t.Error("not free after the cancel")
		}
	})
}

func TestCancelOnlyOnesOwn(t *testing.T) {
	ts := newServer(t, script{})
	ann, bob := ts.dial("ann"), ts.dial("bob")
	ann.forward("blog", 80)
	_, reply := ann.ask("tcpip-forward", ssh.Marshal(bind{"any", 0}))
	if string(reply) != "\x00\x00\x0f\xa0" {
		t.Fatalf("reply %q", reply)
	}
	tests := []struct {
		who  *client
		bind bind
		ok   bool
	}{
		{bob, bind{"blog", 80}, false},
		{ann, bind{"BLOG", 80}, false},
		{ann, bind{"blog", 81}, false},
		{ann, bind{"", 80}, false},
		{ann, bind{"any", 0}, false}, // RFC 4254, section 7.1: the granted port names it
		{ann, bind{"any", 4000}, true},
		{ann, bind{"blog", 80}, true},
	}
	for _, tt := range tests {
		if ok, _ := tt.who.ask("cancel-tcpip-forward", ssh.Marshal(tt.bind)); ok != tt.ok {
			t.Errorf("cancel %+v: %v, want %v", tt.bind, ok, tt.ok)
		}
	}
}

func TestForwardRepeated(t *testing.T) {
	repeated := make(chan bool, 4)
	ts := newServer(t, script{forward: func(ctx context.Context, f *Forward) {
		repeated <- f.Repeated
		if f.Repeated {
			f.Reject()
			return
		}
		hold(ctx, f)
	}})
	c := ts.dial("ann")
	for i, tt := range []struct {
		b    bind
		want bool
	}{{bind{"a", 80}, false}, {bind{"a", 80}, true}, {bind{"a", 81}, false}, {bind{"x", 0}, false}} {
		c.forward(tt.b.Addr, tt.b.Port)
		if got := <-repeated; got != tt.want {
			t.Errorf("%d: Repeated is %v", i, got)
		}
	}
	// The refused repetition has not taken the first one's place.
	if ok, _ := c.ask("cancel-tcpip-forward", ssh.Marshal(bind{"a", 80})); !ok {
		t.Error("the first forward is gone")
	}
}

func TestForwardAnsweredTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := make(chan error, 1)
		ts := newServer(t, script{forward: func(_ context.Context, f *Forward) {
			time.Sleep(4 * time.Second)
			late <- f.Accept(4000)
		}})
		c := ts.dial("ann")
		began := time.Now()
		if c.forward("blog", 80) || time.Since(began) != replyLimit {
			t.Errorf("answered after %v", time.Since(began))
		}
		if err := <-late; !errors.Is(err, ErrLate) {
			t.Error("Accept:", err)
		}
		if ok, _ := c.ask("cancel-tcpip-forward", ssh.Marshal(bind{"blog", 80})); ok {
			t.Error("it stands all the same")
		}
	})
}

func TestForwardLimit(t *testing.T) {
	c := newServer(t, script{}).dial("ann")
	for i := range maxForwards + 3 {
		if ok := c.forward("n", uint32(i+1)); ok != (i < maxForwards) {
			t.Fatalf("forward %d: %v", i, ok)
		}
	}
}

func TestForwardsEndWithTheConnection(t *testing.T) {
	ended := make(chan error, 3)
	ts := newServer(t, script{forward: func(ctx context.Context, f *Forward) {
		hold(ctx, f)
		if _, err := f.DialContext(context.Background(), visitor); !errors.Is(err, net.ErrClosed) {
			t.Error("dial on an ended forward:", err)
		}
		ended <- context.Cause(ctx)
	}})
	c := ts.dial("ann")
	for i := range 3 {
		c.forward("n", uint32(i+1))
	}
	c.Close()
	for range 3 {
		if err := within(t, ended); !errors.Is(err, ErrHungUp) {
			t.Error("cause:", err)
		}
	}
	if err := c.ended(); !errors.Is(err, ErrHungUp) {
		t.Error("Closed:", err)
	}
}

func TestDirect(t *testing.T) {
	ts := newServer(t, script{direct: func(host string, port uint32) (net.Conn, error) {
		if host != "inside" || port != 22 {
			return nil, errors.New("adit: no such place")
		}
		near, far := newPipe()
		go func() { io.Copy(far, far); far.Close() }()
		return near, nil
	}})
	c := ts.dial("ann")
	open := func(host string) (ssh.Channel, error) {
		ch, reqs, err := c.OpenChannel("direct-tcpip", ssh.Marshal(opened{host, 22, "0.0.0.0", 0}))
		if err == nil {
			go ssh.DiscardRequests(reqs)
		}
		return ch, err
	}
	var refused *ssh.OpenChannelError
	if _, err := open("outside"); !errors.As(err, &refused) || refused.Reason != ssh.Prohibited || !strings.Contains(refused.Message, "no such place") {
		t.Error("outside:", err)
	}
	ch, err := open("inside")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(ch, "there and back")
	ch.CloseWrite()
	if b, err := io.ReadAll(ch); string(b) != "there and back" || err != nil {
		t.Errorf("%q %v", b, err)
	}
}

func TestOnlyTheServerOpensForwardedChannels(t *testing.T) {
	c := newServer(t, script{}).dial("ann")
	c.forward("blog", 80)
	for _, kind := range []string{"forwarded-tcpip", "forwarded-streamlocal@openssh.com", "x11", "auth-agent@openssh.com", "tun@openssh.com", "direct-streamlocal@openssh.com", ""} {
		_, _, err := c.OpenChannel(kind, ssh.Marshal(opened{"blog", 80, "192.0.2.7", 1}))
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) || !strings.HasPrefix(refused.Message, "adit: ") {
			t.Errorf("%q: %v", kind, err)
		}
	}
	if !c.forward("still", 81) {
		t.Error("the connection has not lived on")
	}
}
