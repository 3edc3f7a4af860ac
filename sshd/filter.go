package sshd

import (
	"context"
	"net"
	"sync"

	"github.com/gliderlabs/ssh"
	gossh "golang.org/x/crypto/ssh"
)

// filter stands between a session channel and gliderlabs: each request is
// decoded strictly first, what is not served here is refused, and the rest is
// handed on through a channel with room for all that may pass, so that
// nothing a client sends can block the connection.
type filter struct {
	open *newChannel
	s    *Session

	out      chan *gossh.Request
	env      int
	envBytes int
	pty      bool
	started  bool
	told     bool // of a subsystem that is refused
}

// Accept is called by gliderlabs.
func (f *filter) Accept() (gossh.Channel, <-chan *gossh.Request, error) {
	k, err := f.open.Accept(true)
	if err != nil {
		return nil, nil, err
	}
	f.s.channel.Store(k)
	f.out = make(chan *gossh.Request, maxEnv+2) // env, one pty-req, one shell or exec
	if !f.s.conn.goRun("session requests", func() { f.run(k.requests) }) {
		close(f.out) // the connection has ended meanwhile
	}
	return k, f.out, nil
}

// The rest of gossh.NewChannel, which gliderlabs does not call.

func (f *filter) Reject(reason gossh.RejectionReason, text string) error {
	f.open.Reject(reason, text)
	return nil
}

func (f *filter) ChannelType() string { return f.open.open.Kind }
func (f *filter) ExtraData() []byte   { return f.open.open.Extra }

// run serves the channel's requests for as long as there are any.
func (f *filter) run(in *queue[*request]) {
	defer f.s.cancel()
	defer close(f.out)
	for r, ok := in.pop(); ok; r, ok = in.pop() {
		f.request(r)
	}
}

// pass answers a request and hands it on to gliderlabs, whose answer goes
// nowhere.
func (f *filter) pass(r *request) {
	r.Reply(true, nil)
	f.out <- &gossh.Request{Type: r.Type, Payload: r.Payload}
}

func (f *filter) request(r *request) {
	defer f.s.conn.recover("session request")
	ok := false
	switch r.Type {
	case "shell", "exec":
		if f.start(r) {
			return
		}
	case "pty-req":
		if f.terminal(r) {
			return
		}
	case "env":
		if f.environ(r) {
			return
		}
	case "window-change":
		ok = f.resize(r)
	case "subsystem", "x11-req", "auth-agent-req@openssh.com":
		f.s.conn.handler.Unsupported(f.s, r.Type, "")
		if r.Type == "subsystem" && !f.told {
			// ssh ends at this refusal, with a notice that came just before it
			// unwritten; when it has answered, it has written.
			f.told = true
			f.s.conn.Answers(noticeLimit)
		}
	}
	r.Reply(ok, nil)
}

// start hands on the session's one shell or exec request, after the
// connection has answered every forward that was asked for before it.
func (f *filter) start(r *request) bool {
	var m struct{ Command string }
	bad := r.Type == "exec" && (len(r.Payload) > maxWords || gossh.Unmarshal(r.Payload, &m) != nil)
	if f.started || bad || r.Type == "shell" && len(r.Payload) > 0 {
		return false
	}
	f.started = true
	select {
	case <-f.s.conn.served():
	case <-f.s.conn.ctx.Done():
		return false
	}
	if !f.s.conn.group.enter() { // for Session.handle
		return false
	}
	f.pass(r)
	return true
}

// terminal takes one pty-req (RFC 4254, section 6.2).
func (f *filter) terminal(r *request) bool {
	var m struct {
		Term                        string
		Width, Height, PixelW, PixH uint32
		Modes                       string
	}
	if gossh.Unmarshal(r.Payload, &m) != nil || f.pty || f.started || f.s.conn.NoPTY || len(m.Term) > 64 {
		return false
	}
	f.pty = true
	f.s.resize(m.Width, m.Height)
	// Only what was checked goes on: gliderlabs allocates what a size says.
	r.Payload = gossh.Marshal(&m)
	f.pass(r)
	return true
}

func (f *filter) environ(r *request) bool {
	var m struct{ Name, Value string }
	if gossh.Unmarshal(r.Payload, &m) != nil || f.started || f.env >= maxEnv || f.envBytes+len(r.Payload) > maxEnvBytes {
		return false
	}
	f.env++
	f.envBytes += len(r.Payload)
	f.pass(r)
	return true
}

// resize keeps only the latest size: gliderlabs would block on the second.
func (f *filter) resize(r *request) bool {
	var m struct{ Width, Height, PixelW, PixH uint32 }
	if gossh.Unmarshal(r.Payload, &m) != nil || !f.pty {
		return false
	}
	f.s.resize(m.Width, m.Height)
	return true
}

// glidContext is the small context that gliderlabs' session needs.
type glidContext struct {
	context.Context
	sync.Mutex
	conn  *Conn
	perms *ssh.Permissions
}

func newGlidContext(c *Conn) ssh.Context {
	return &glidContext{Context: c.ctx, conn: c, perms: &ssh.Permissions{Permissions: c.perms}}
}

// Value answers for ContextKeyPermissions, without which sess.Permissions
// would panic.
func (g *glidContext) Value(key any) any {
	if key == ssh.ContextKeyPermissions {
		return g.perms
	}
	return g.Context.Value(key)
}

// The rest of ssh.Context.

func (g *glidContext) User() string                  { return g.conn.meta.User() }
func (g *glidContext) SessionID() string             { return string(g.conn.meta.SessionID()) }
func (g *glidContext) ClientVersion() string         { return string(g.conn.meta.ClientVersion()) }
func (g *glidContext) ServerVersion() string         { return string(g.conn.meta.ServerVersion()) }
func (g *glidContext) Permissions() *ssh.Permissions { return g.perms }
func (g *glidContext) SetValue(key, value any)       {}
func (g *glidContext) RemoteAddr() net.Addr          { return g.conn.sock.RemoteAddr() }
func (g *glidContext) LocalAddr() net.Addr           { return g.conn.sock.LocalAddr() }
