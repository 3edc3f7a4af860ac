// Package sshd serves SSH connections and their remote forwards (RFC 4254,
// section 7). It knows nothing of HTTP, of names or of who may have them:
// those decisions come in as the functions of Server and as a Handler.
//
// A forward's reply, its visitors and its end are one stack frame: the
// Handler's ServeForward is called when the client asks, answers by Accept or
// Reject, and returns when its context is done.
package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// Limits that are the same for everybody.
const (
	// maxSessions is how many sessions a connection may have open at once,
	// as OpenSSH's MaxSessions.
	maxSessions = 10
	// maxForwards is how many forwards sshd keeps for one connection; the
	// Handler refuses earlier and with a sentence.
	maxForwards = 64
	// maxChannels is how many forwarded channels a connection may have at
	// once, open or waiting for the client's answer: each may hold a window of 2 MiB.
	maxChannels = 1024
	// maxOpensPerTick cuts a client that floods us with channel opens or
	// global requests: so many in one liveness tick.
	maxOpensPerTick = 2000
)

// Handler decides what one authenticated connection's requests mean. Its
// methods are called from several goroutines; none but ServeForward and
// ServeSession may block for longer than an answer takes.
type Handler interface {
	// ServeForward owns one remote forward from request to end. It must
	// Accept or Reject f within 3 s (after that f is refused for it), and
	// return soon after ctx is done; the cause tells why: ErrCancelled when
	// the client cancelled, the connection's end otherwise.
	ServeForward(ctx context.Context, f *Forward)
	// ServeSession runs one session whose shell or exec request was read.
	// Every forward that the client asked for before it has been answered.
	// It calls Session.Heard as soon as it knows what the session wants. The
	// session ends when it returns.
	ServeSession(ctx context.Context, s *Session)
	// Direct answers a direct-tcpip open (ssh -L, -W, -J) with a connection,
	// which sshd then owns, or with an error whose text the user sees.
	Direct(ctx context.Context, host string, port uint32, from net.Addr) (net.Conn, error)
	// Unsupported tells of a request that was refused because this server
	// does not do it: "subsystem", "x11-req", "auth-agent-req@openssh.com",
	// "streamlocal-forward@openssh.com" and the like. s is nil where the
	// request did not belong to a session, and bind is then the socket's path
	// as the client asked for it.
	Unsupported(s *Session, what, bind string)
	// Closed is called last, after every ServeForward and ServeSession of
	// the connection has returned.
	Closed(cause error)
}

// Server accepts SSH connections. Set the fields before Serve.
type Server struct {
	// HostKeys are served, one per key type; the first is preferred. All of
	// them are told to clients that ask (hostkeys-00@openssh.com).
	HostKeys []ssh.Signer
	// Version follows "SSH-2.0-" in the version line.
	Version string
	// Ciphers are offered to every client as they stand. Empty: the offer is
	// made for each client, so that those with AES-GCM use it.
	Ciphers []string
	// LoginGrace bounds the handshake, key exchange and authentication
	// together. 0: 30 s.
	LoginGrace time.Duration
	// MaxStartups is how many connections may be in their handshake at once;
	// past it one goes of the source that has the most, see victim. 0: 100.
	MaxStartups int

	// Authenticate says whether key may log in and what then goes with the
	// connection. It is called when the key is offered and again when its
	// signature was verified; only the second answer, which must be made
	// fresh, becomes the connection's Permissions.
	Authenticate func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error)
	// Refused makes the sentence for a login none of whose keys was taken,
	// from Authenticate's errors in the order of the offers. nil: no sentence.
	Refused func(errs []error) string
	// Connected is called once for each authenticated connection and gives
	// its Handler. An error closes the connection.
	Connected func(c *Conn) (Handler, error)

	// Dropped is told who came when there were more than MaxStartups, which has
	// cost somebody their place. nil: nobody is told.
	Dropped func(newcomer net.Addr)

	// Logger gets one event a record. nil: slog.Default().
	Logger *slog.Logger
	// Strangers gets what those cause who have not logged in, which may be any
	// number of records. nil: Logger.
	Strangers *slog.Logger

	tick     time.Duration // 0: livenessTick; tests hurry
	once     sync.Once
	wait     sync.WaitGroup // connections
	mu       sync.Mutex     // guards the rest
	closed   bool
	conns    map[*Conn]struct{}
	lns      map[net.Listener]struct{}
	startups startups
}

func (s *Server) init() {
	s.conns = map[*Conn]struct{}{}
	s.lns = map[net.Listener]struct{}{}
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	if s.Strangers == nil {
		s.Strangers = s.Logger
	}
	if s.LoginGrace == 0 {
		s.LoginGrace = 30 * time.Second
	}
	if s.tick == 0 {
		s.tick = livenessTick
	}
	s.startups.max = s.MaxStartups
	if s.startups.max == 0 {
		s.startups.max = 100
	}
	s.startups.dropped = s.Dropped
}

// Serve accepts connections from ln until Close; it owns and closes ln. It
// returns net.ErrClosed after Close, else why accepting failed for good.
func (s *Server) Serve(ln net.Listener) error {
	s.once.Do(s.init)
	if !s.add(ln) {
		ln.Close()
		return net.ErrClosed
	}
	defer ln.Close()
	for pause := time.Duration(0); ; {
		nc, err := ln.Accept()
		if err == nil {
			pause = 0
			s.start(nc)
			continue
		}
		if s.stopped() || errors.Is(err, net.ErrClosed) {
			return net.ErrClosed
		}
		// Out of descriptors or memory: what is open goes on, the rest waits.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.Strangers.Warn("ssh: accept failed", "err", err, "retry", pause)
		time.Sleep(pause)
	}
}

func (s *Server) start(nc net.Conn) {
	if !s.enter() {
		nc.Close()
		return
	}
	go func() {
		defer s.wait.Done()
		s.serveConn(nc)
	}()
}

// enter counts one more connection, or reports that the server has closed.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wait.Add(1)
	}
	return !s.closed
}

// ServeConn serves one connection that was accepted elsewhere, and returns
// when it has ended. It owns nc.
func (s *Server) ServeConn(nc net.Conn) {
	s.once.Do(s.init)
	if !s.enter() {
		nc.Close()
		return
	}
	defer s.wait.Done()
	s.serveConn(nc)
}

// serveConn is one connection's life.
func (s *Server) serveConn(nc net.Conn) {
	defer s.recover(nc)
	tune(nc)
	sock := &socket{Conn: nc}
	defer sock.Close()
	c, err := s.handshake(sock)
	if err != nil {
		return
	}
	if !s.track(c) {
		c.Close(net.ErrClosed) // and let serve end what Connected began
	}
	defer s.untrack(c)
	c.serve()
}

// recover keeps a panic to the connection that caused it.
func (s *Server) recover(nc net.Conn) {
	if v := recover(); v != nil {
		s.Logger.Error("ssh: panic", "remote", nc.RemoteAddr().String(), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		nc.Close()
	}
}

func (s *Server) add(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.lns[ln] = struct{}{}
	}
	return !s.closed
}

func (s *Server) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Server) track(c *Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.conns[c] = struct{}{}
	}
	return !s.closed
}

func (s *Server) untrack(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Conns calls f for every authenticated connection.
func (s *Server) Conns(f func(*Conn)) {
	s.once.Do(s.init)
	s.mu.Lock()
	all := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

// StopAccepting closes the listeners, and the connections that have not logged in;
// the others live on.
func (s *Server) StopAccepting() {
	s.once.Do(s.init)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for ln := range s.lns {
		ln.Close()
	}
	s.startups.closeAll()
}

// Close closes the listeners and cuts every connection, and returns when the
// last goroutine started for one has ended.
func (s *Server) Close() {
	s.StopAccepting()
	s.Conns(func(c *Conn) { c.Close(net.ErrClosed) })
	s.wait.Wait()
}
