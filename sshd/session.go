package sshd

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anmitsu/go-shlex"
	"github.com/gliderlabs/ssh"
	gossh "golang.org/x/crypto/ssh"
)

const (
	// maxEnv and maxEnvBytes bound what env requests may leave behind.
	maxEnv      = 32
	maxEnvBytes = 8 << 10
	// maxWords bounds an exec request.
	maxWords = 32 << 10
	// maxNotices bounds what is written before a session has spoken.
	maxNotices = 8
	// noticeLimit is how long one of them may take.
	noticeLimit = time.Second
	// leaveGrace is how long a client may take to hang up by itself after
	// it was told its exit status.
	leaveGrace = 500 * time.Millisecond
)

// Window is a terminal's size in characters.
type Window struct{ Width, Height int }

// Session is one session channel (RFC 4254, section 6) that has asked for a
// shell or a command.
type Session struct {
	conn  *Conn
	heard atomic.Bool // the handler has decided about pending forwards
	// channel is set when gliderlabs has accepted it.
	channel atomic.Pointer[Channel]
	notices atomic.Int32

	sess   ssh.Session // set before ServeSession
	ctx    context.Context
	cancel context.CancelFunc
	exited atomic.Bool

	mu     sync.Mutex
	held   []string // what to say once it is known whether there is a terminal
	taken  bool     // Held was called
	window Window
	winch  chan struct{} // capacity 1: the size has changed
}

// Conn is the connection the session belongs to.
func (s *Session) Conn() *Conn { return s.conn }

// Command is the exec request's text as it was sent; empty for a shell.
func (s *Session) Command() string { return s.sess.RawCommand() }

// Words are the command split as a POSIX shell would; nil where that cannot be
// done because a quote is not closed (gliderlabs gives what came before it).
func (s *Session) Words() []string {
	words, err := shlex.Split(s.sess.RawCommand(), true)
	if err != nil {
		return nil
	}
	return words
}

// PTY reports whether the client has a terminal.
func (s *Session) PTY() bool {
	_, _, ok := s.sess.Pty()
	return ok
}

// Window is the terminal's present size; Resized gets a value after it has
// changed.
func (s *Session) Window() Window {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.window
}

// Resized has a value pending after a change of the window's size.
func (s *Session) Resized() <-chan struct{} { return s.winch }

// Read reads what the user types; io.EOF when the client closed its side.
func (s *Session) Read(p []byte) (int, error) { return s.sess.Read(p) }

// Write writes to the client's stdout; with a PTY, "\n" becomes "\r\n". It
// blocks while the client takes nothing.
func (s *Session) Write(p []byte) (int, error) { return s.sess.Write(p) }

// Stderr is the client's stderr (on a PTY, ssh shows both on the terminal).
func (s *Session) Stderr() io.Writer { return s.sess.Stderr() }

// Exit ends the session with an exit status. Where it is the connection's
// last session, the whole connection is left: ssh waits for every forwarded
// channel before it exits, so these are closed after the status was sent,
// and the client has half a second to hang up by itself.
func (s *Session) Exit(status int) {
	if s.exited.Swap(true) {
		return
	}
	last := s.conn.lastSession(s)
	if last {
		s.conn.leaving.Store(true)
	}
	s.sess.Exit(status)
	if last {
		s.conn.leave()
	}
}

// Heard says that the handler has read what the session wants, and has
// cancelled or released the forwards that waited for it. Until then the session
// holds the connection's forwards pending, for Settle's limit at most.
func (s *Session) Heard() { s.heard.Store(true) }

// Detach ends the session with an exit status and nothing else: what the
// connection has, be it other sessions or only forwards (ssh -N with a
// ControlMaster), goes on until the client hangs up.
func (s *Session) Detach(status int) {
	if s.exited.Swap(true) {
		return
	}
	s.conn.lastSession(s)
	s.sess.Exit(status)
}

// Abandon ends the session without an exit status and the connection with
// it; ssh shows 255.
func (s *Session) Abandon(cause error) {
	s.exited.Store(true)
	s.conn.HangUp(cause)
}

func (c *Conn) lastSession(s *Session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, s)
	return len(c.sessions) == 0
}

// leave closes every forwarded channel and then, unless the client does it
// first, the connection.
func (c *Conn) leave() {
	for _, k := range c.mux.all() {
		if k.requests == nil {
			k.Close()
		}
	}
	c.closeSoon(net.ErrClosed)
}

// HangUp ends the connection without an exit status and so that what was
// written is still read: the client gets the end of the stream, and half a
// second.
func (c *Conn) HangUp(cause error) {
	c.leaving.Store(true)
	c.sock.CloseWrite()
	c.closeSoon(cause)
}

// closeSoon closes the connection unless the client does it first.
func (c *Conn) closeSoon(cause error) {
	c.goRun("closing", func() {
		select {
		case <-c.ctx.Done():
		case <-time.After(leaveGrace):
			c.Close(cause)
		}
	})
}

// session takes a session channel and hands its requests, filtered, to
// gliderlabs' session handling.
func (c *Conn) session(nc *newChannel) {
	s := &Session{conn: c, winch: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	if !c.addSession(s) {
		nc.Reject(gossh.ResourceShortage, "adit: too many sessions on this connection")
		return
	}
	c.goRun("session", func() {
		defer c.lastSession(s)
		defer s.cancel()
		srv := &ssh.Server{Handler: s.handle}
		sc := &gossh.ServerConn{Conn: c.meta.(gossh.Conn), Permissions: c.perms}
		ssh.DefaultSessionHandler(srv, sc, &filter{open: nc, s: s}, newGlidContext(c))
	})
}

func (c *Conn) addSession(s *Session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sessions) >= maxSessions || c.leaving.Load() {
		return false
	}
	c.sessions[s] = struct{}{}
	return true
}

// handle is called by gliderlabs on a goroutine of its own when the shell or
// exec request was answered. After it returns gliderlabs would send status 0;
// Close keeps it from that.
func (s *Session) handle(sess ssh.Session) {
	c := s.conn
	defer c.group.leave() // entered by filter.start
	defer c.recover("session handler")
	s.sess = sess
	c.handler.ServeSession(s.ctx, s)
	s.Detach(0) // no effect after Exit or Abandon
	sess.Close()
}

// Done is closed when the client has closed the session.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

func (s *Session) resize(w, h uint32) {
	s.mu.Lock()
	s.window = Window{int(min(w, 10000)), int(min(h, 10000))}
	s.mu.Unlock()
	select {
	case s.winch <- struct{}{}:
	default:
	}
}

// HasSession reports whether the client has a session open.
func (c *Conn) HasSession() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions) > 0
}

// Hold keeps a line for whoever calls Held. Once that was done it is written at
// once.
func (s *Session) Hold(text string) {
	s.mu.Lock()
	taken := s.taken
	if !taken && len(s.held) < maxNotices {
		s.held = append(s.held, text)
	}
	s.mu.Unlock()
	if !taken {
		return
	}
	if s.PTY() {
		text += "\r"
	}
	s.Notice(text + "\n")
}

// Held gives the lines that were held, for the handler to write with the ends
// that the session's kind wants.
func (s *Session) Held() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = true
	return s.held
}

// Notice writes text to the user's stderr, before the session has spoken or
// after. It waits for a moment at most, and writes only a few: the client's
// next message waits behind it, and a client may open a session whose window
// takes nothing.
func (s *Session) Notice(text string) {
	ch := s.channel.Load()
	if ch == nil || s.notices.Add(1) > maxNotices {
		return
	}
	written := make(chan struct{})
	s.conn.goRun("notice", func() {
		defer close(written)
		io.WriteString(ch.Stderr(), text)
	})
	select {
	case <-written:
	case <-time.After(noticeLimit):
		s.notices.Add(maxNotices)
	case <-s.conn.ctx.Done():
	}
}
