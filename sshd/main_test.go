package sshd

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// signer is the same key for the same name in every run.
func signer(name string) ssh.Signer {
	seed := sha256.Sum256([]byte(name))
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return s
}

// script is a Handler made of functions; a nil one does the least.
type script struct {
	forward     func(ctx context.Context, f *Forward)
	session     func(ctx context.Context, s *Session)
	direct      func(host string, port uint32) (net.Conn, error)
	unsupported func(s *Session, what string)

	closed chan error // gets Closed's cause
	conn   *Conn
}

func (h *script) ServeForward(ctx context.Context, f *Forward) {
	if h.forward != nil {
		h.forward(ctx, f)
		return
	}
	hold(ctx, f)
}

// hold grants a forward, with port 4000 for any, until it ends.
func hold(ctx context.Context, f *Forward) {
	if f.Accept(4000) == nil {
		<-ctx.Done()
	}
}

func (h *script) ServeSession(ctx context.Context, s *Session) {
	if h.session != nil {
		h.session(ctx, s)
	}
}

func (h *script) Direct(_ context.Context, host string, port uint32, _ net.Addr) (net.Conn, error) {
	if h.direct != nil {
		return h.direct(host, port)
	}
	return nil, errors.New("nothing here")
}

func (h *script) Unsupported(s *Session, what, _ string) {
	if h.unsupported != nil {
		h.unsupported(s, what)
	}
}

func (h *script) Closed(cause error) { h.closed <- cause }

// testServer is a Server that everybody whose key has a name may log in to.
type testServer struct {
	*Server
	t     testing.TB
	conns chan *script // each connection's handler, in order

	mu   sync.Mutex
	good map[string]string // the names of keys, by their wire form
}

// newServer makes a server whose connections are handled as h says.
func newServer(t testing.TB, h script, change ...func(*Server)) *testServer {
	ts := &testServer{t: t, conns: make(chan *script, 64), good: map[string]string{}}
	ts.Server = &Server{
		HostKeys: []ssh.Signer{signer("host")}, Version: "test", Logger: slog.New(slog.DiscardHandler),
		Authenticate: ts.authenticate,
		Refused:      func(errs []error) string { return fmt.Sprintf("refused %d keys\n", len(errs)) },
		Connected: func(c *Conn) (Handler, error) {
			mine := h
			mine.closed, mine.conn = make(chan error, 1), c
			ts.conns <- &mine
			return &mine, nil
		},
	}
	for _, f := range change {
		f(ts.Server)
	}
	ts.allow("ann", "bob")
	t.Cleanup(ts.Close)
	return ts
}

func (ts *testServer) allow(names ...string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, n := range names {
		ts.good[string(signer(n).PublicKey().Marshal())] = n
	}
}

func (ts *testServer) authenticate(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	name, ok := ts.good[string(key.Marshal())]
	if !ok {
		return nil, errors.New("unknown key")
	}
	return &ssh.Permissions{Extensions: map[string]string{"name": name}}, nil
}

// connect gives the client's end of a new connection.
func (ts *testServer) connect() net.Conn {
	near, far := newPipe()
	go ts.ServeConn(far)
	ts.t.Cleanup(func() { near.Close() })
	return near
}

// drain waits for the end of a closed client: the library's own loop ends only
// when somebody takes what it still has to hand over.
func drain(chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
	go ssh.DiscardRequests(reqs)
	for range chans {
	}
}

// client is an SSH client whose incoming requests and channels the test
// answers by itself, or leaves to answerAll.
type client struct {
	ssh.Conn
	t     testing.TB
	nc    net.Conn
	chans <-chan ssh.NewChannel
	reqs  <-chan *ssh.Request
	h     *script // the server's side
}

func clientConfig(keys ...string) *ssh.ClientConfig {
	var signers []ssh.Signer
	for _, k := range keys {
		signers = append(signers, signer(k))
	}
	return &ssh.ClientConfig{
		User: "me", Auth: []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	}
}

// dialMute logs in as name; nothing the server asks is answered.
func (ts *testServer) dialMute(name string) *client {
	ts.t.Helper()
	nc := ts.connect()
	c, chans, reqs, err := ssh.NewClientConn(nc, "test", clientConfig(name))
	if err != nil {
		ts.t.Fatal("login:", err)
	}
	ts.t.Cleanup(func() {
		c.Close()
		drain(chans, reqs)
	})
	return &client{c, ts.t, nc, chans, reqs, <-ts.conns}
}

// dial logs in as name; requests are answered as ssh does, and channels of
// the server's echo.
func (ts *testServer) dial(name string) *client {
	ts.t.Helper()
	c := ts.dialMute(name)
	go ssh.DiscardRequests(c.reqs)
	go echoAll(c.chans)
	return c
}

func echoAll(chans <-chan ssh.NewChannel) {
	for nc := range chans {
		if ch, reqs, err := nc.Accept(); err == nil {
			go ssh.DiscardRequests(reqs)
			go echo(ch)
		}
	}
}

func echo(ch ssh.Channel) {
	buf := make([]byte, 1<<10)
	for {
		n, err := ch.Read(buf)
		if _, werr := ch.Write(buf[:n]); err != nil || werr != nil {
			break
		}
	}
	ch.CloseWrite()
	ch.Close()
}

// ask sends a global request and gives the answer.
func (c *client) ask(kind string, payload []byte) (ok bool, reply []byte) {
	c.t.Helper()
	ok, reply, err := c.SendRequest(kind, true, payload)
	if err != nil {
		c.t.Fatalf("%s: %v", kind, err)
	}
	return ok, reply
}

// forward asks for a remote forward.
func (c *client) forward(addr string, port uint32) bool {
	c.t.Helper()
	ok, _ := c.ask("tcpip-forward", ssh.Marshal(bind{addr, port}))
	return ok
}

// session opens a session channel.
func (c *client) session() (ssh.Channel, <-chan *ssh.Request) {
	c.t.Helper()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		c.t.Fatal("session:", err)
	}
	return ch, reqs
}

// ended waits for the end of the connection and gives its cause.
func (c *client) ended() error {
	c.t.Helper()
	return within(c.t, c.h.closed)
}

// within receives from c, or fails the test after long enough.
func within[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(2 * time.Minute):
		t.Fatal("nothing came")
	}
	return v
}

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time:", what)
		}
	}
}

var visitor = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5555}
