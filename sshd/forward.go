package sshd

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"adit/tcp"

	"golang.org/x/crypto/ssh"
)

// replyLimit is how long a forward's reply may take: every later reply,
// keepalives too, waits behind it.
const replyLimit = 3 * time.Second

// ErrLate is what Accept returns when the answer came after the time limit:
// the client was told no already.
var ErrLate = errors.New("the forward was refused for taking too long")

// bind is a forward's identity on its connection, byte for byte as the
// client asked (RFC 4254, section 7.1).
type bind struct {
	Addr string
	Port uint32
}

// Forward is one remote forward, from tcpip-forward to its end.
type Forward struct {
	conn *Conn
	req  *request
	bind bind // port is the granted one after Accept
	// Repeated is set when the connection has a forward of the same address
	// and port already: ssh could only ever reach the first.
	Repeated bool

	ctx    context.Context
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when ServeForward has returned

	mu      sync.Mutex
	decided chan struct{} // closed by the first Accept or Reject
	done    bool
}

// Addr is the address the client asked to bind, byte for byte.
func (f *Forward) Addr() string { return f.bind.Addr }

// Port is the port the client asked for (0: any; it may be over 65535), or
// the granted one after Accept.
func (f *Forward) Port() uint32 { return f.bind.Port }

// Accept answers the client that the forward stands, on the given port where
// it asked for port 0. Visitors may come only after it. It returns ErrLate
// when the client was told no already.
func (f *Forward) Accept(port uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return ErrLate
	}
	var payload []byte
	if f.bind.Port == 0 {
		payload = ssh.Marshal(struct{ Port uint32 }{port})
		f.bind.Port = port
	}
	f.conn.addForward(f)
	f.decide(true, payload)
	return nil
}

// Reject answers the client that there is no such forward.
func (f *Forward) Reject() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.done {
		f.decide(false, nil)
	}
}

func (f *Forward) decide(ok bool, payload []byte) {
	f.done = true
	f.req.Reply(ok, payload)
	close(f.decided)
}

// forward starts one remote forward and waits for its reply to be sent.
func (c *Conn) forward(r *request) {
	var m bind
	if ssh.Unmarshal(r.Payload, &m) != nil {
		r.Reply(false, nil)
		return
	}
	f := &Forward{conn: c, req: r, bind: m, ended: make(chan struct{}), decided: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancelCause(c.ctx)
	if !c.admit(f) {
		r.Reply(false, nil)
		return
	}
	c.goRun("forward", f.serve)
	limit := time.NewTimer(replyLimit)
	defer limit.Stop()
	select {
	case <-f.decided:
	case <-limit.C:
		f.Reject()
	case <-c.ctx.Done():
		f.Reject()
	}
}

func (f *Forward) serve() {
	defer close(f.ended)
	defer f.conn.dropForward(f)
	defer f.Reject() // no effect when it was answered
	f.conn.handler.ServeForward(f.ctx, f)
}

// admit marks a repeated forward, and refuses past the last limit.
func (c *Conn) admit(f *Forward) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, f.Repeated = c.forwards[f.bind]
	f.Repeated = f.Repeated && f.bind.Port != 0
	return len(c.forwards) < maxForwards
}

func (c *Conn) addForward(f *Forward) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forwards[f.bind] = f
}

func (c *Conn) dropForward(f *Forward) {
	f.cancel(net.ErrClosed)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forwards[f.bind] == f {
		delete(c.forwards, f.bind)
	}
}

// cancelForward ends a forward of this connection; the reply follows only
// when ServeForward has returned, so that the name is free by then.
func (c *Conn) cancelForward(r *request) {
	var m bind
	if ssh.Unmarshal(r.Payload, &m) != nil {
		r.Reply(false, nil)
		return
	}
	c.mu.Lock()
	f := c.forwards[m]
	c.mu.Unlock()
	if f == nil {
		r.Reply(false, nil)
		return
	}
	f.cancel(ErrCancelled)
	limit := time.NewTimer(replyLimit)
	defer limit.Stop()
	select {
	case <-f.ended:
		r.Reply(true, nil)
	case <-limit.C:
		r.Reply(false, nil)
	}
}

// direct answers ssh -L, -W and -J (RFC 4254, section 7.2).
func (c *Conn) direct(nc *newChannel) {
	var m struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if ssh.Unmarshal(nc.open.Extra, &m) != nil {
		nc.Reject(ssh.ConnectionFailed, "adit: malformed direct-tcpip request")
		return
	}
	if c.mux.liveCount() >= maxChannels {
		nc.Reject(ssh.ResourceShortage, "adit: too many streams at once")
		return
	}
	target, err := c.handler.Direct(c.ctx, m.Host, m.Port, c.RemoteAddr())
	if err != nil {
		nc.Reject(ssh.Prohibited, err.Error())
		return
	}
	c.join(nc, target)
}

// originator gives the visitor's address as clients accept it: a literal IP
// and a port from 1 to 65535.
func originator(visitor net.Addr) (host string, port uint32) {
	a, ok := visitor.(*net.TCPAddr)
	if !ok || a.IP == nil {
		return "127.0.0.1", 1
	}
	ip := a.IP
	if v4 := ip.To4(); v4 != nil {
		ip = v4
	}
	return ip.String(), uint32(max(a.Port, 1))
}

// join connects a channel that the client opens with a connection.
func (c *Conn) join(nc *newChannel, target net.Conn) {
	k, err := nc.Accept(false)
	if err != nil {
		target.Close()
		return
	}
	tcp.Splice(k, target, 0)
}
