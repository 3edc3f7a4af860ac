package gateway

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"adit/keys"
	"adit/sshd"
)

const (
	// maxForwards is how many forwards one connection may have.
	maxForwards = 32
	// maxRefused is how many refusals are kept for a session that is to come.
	maxRefused = 64
	// refusedGrace is how long a connection without a session and without a
	// tunnel is kept after a refusal, so that it does not hang uselessly.
	refusedGrace = 2 * time.Second
	// answerLimit is how long the holder of a name has to answer when two
	// connections of one user fight for it; a forward's reply has 3 s.
	answerLimit = 2 * time.Second
)

// client is one SSH connection's side of the gateway: whose it is, which
// tunnels it has, and which sessions show them. It is an sshd.Handler.
type client struct {
	g       *Gateway
	conn    *sshd.Conn
	current atomic.Pointer[keys.Key]
	direct  sync.Once // a refused -L, -W or -J was logged: ssh -D asks for many

	mu       sync.Mutex
	tunnels  map[*Tunnel]struct{} // pending and live
	sessions []*session           // those that show tunnels, oldest first
	refused  []refused            // not told to anybody yet
	spoken   bool                 // a session that shows tunnels has been here
	asked    int                  // counts forwards, for their order
	served   bool                 // one of them was live
	ending   bool
}

// refused is one forward that was not granted.
type refused struct {
	bind string
	port uint32
	ref  *refusal
}

// key is the identity in its present form.
func (cl *client) key() *keys.Key { return cl.current.Load() }

// ServeForward is one tunnel's life.
func (cl *client) ServeForward(ctx context.Context, f *sshd.Forward) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	bind, port := f.Addr(), f.Port()
	t, ref := cl.claim(ctx, f, cancel)
	if ref != nil {
		cl.refuse(bind, port, ref)
		f.Reject()
		return
	}
	defer cl.drop(t)
	if f.Accept(uint32(t.port)) != nil {
		cl.refuse(bind, port, refuseBusy())
		return
	}
	if f.Settle(ctx, t.released) != nil {
		return
	}
	if ref := cl.goLive(ctx, t); ref != nil {
		cl.refuse(bind, port, ref)
		return
	}
	cl.serves()
	<-ctx.Done()
	cause := context.Cause(ctx)
	t.withdraw(cl.g, cause)
	cl.ended(t, cause)
}

// goLive publishes the tunnel unless it was withdrawn in the meantime, and
// tells its session.
func (cl *client) goLive(ctx context.Context, t *Tunnel) *refusal {
	if ctx.Err() != nil {
		return refuseBusy()
	}
	if err := new(options).read(keywords(cl.conn.User())); err != nil {
		return &refusal{"option", err.Error()} // no session was there to say so
	}
	cl.adopt(t)
	if ref := t.publish(cl.g); ref != nil {
		return ref
	}
	k := cl.key()
	cl.g.log.Info("tunnel live", "user", k.User, "key", k.Fingerprint, "kind", t.kind, "name", t.name, "port", t.port,
		"remote", cl.conn.RemoteAddr().String())
	if s := t.session.Load(); s != nil {
		s.show(t)
	}
	return nil
}

// adopt gives t to the oldest session, unless one shows it.
func (cl *client) adopt(t *Tunnel) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if len(cl.sessions) > 0 {
		t.session.CompareAndSwap(nil, cl.sessions[0])
	}
}

// drop gives the tunnel's place back. A session none of whose tunnels ever
// went live has nothing left to wait for.
func (cl *client) drop(t *Tunnel) {
	cl.leave(t)
	cl.g.registry.giveBack(t)
	if t.kind == kindTLS {
		cl.g.certifyLeft(t.name)
	}
	s := t.session.Load()
	if s == nil {
		return
	}
	s.forget(t)
	if !s.live.Load() && !cl.hasTunnels() {
		s.end(func() { s.s.Exit(exitRefused) })
	}
}

// ended tells of a live tunnel's end, and ends the connection where it has
// nothing left to stay for: a takeover of its last tunnel, so that loops of
// ssh notice, or the loss of the last one its key allowed.
func (cl *client) ended(t *Tunnel, cause error) {
	t.over.Store(true) // it is not announced any more
	k := cl.key()
	cl.g.log.Info("tunnel closed", "user", k.User, "kind", t.kind, "name", t.name, "port", t.port,
		"for", time.Since(t.opened).Round(time.Millisecond).String(), "why", cause.Error())
	if s := t.session.Load(); s != nil {
		s.tunnelClosed(t, cause)
	}
	if (errors.Is(cause, errTakenOver) || errors.Is(cause, errNarrowed)) && cl.allOver() {
		cl.finish(cause)
	}
}

// allOver reports whether each of the connection's tunnels has ended. Of those
// that end at once the last one to ask hears so.
func (cl *client) allOver() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for other := range cl.tunnels {
		if !other.over.Load() {
			return false
		}
	}
	return true
}

// live lists the connection's live tunnels.
func (cl *client) live() (all []*Tunnel) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for t := range cl.tunnels {
		if t.live.Load() {
			all = append(all, t)
		}
	}
	return all
}

// hasTunnels reports whether the connection has any, pending or live.
func (cl *client) hasTunnels() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return len(cl.tunnels) > 0
}

// refuse records a refusal for the session, the log, and the connection that
// would otherwise hang for nothing.
func (cl *client) refuse(bind string, port uint32, ref *refusal) {
	k := cl.key()
	cl.g.log.Warn("tunnel refused", "user", k.User, "key", k.Fingerprint, "bind", printable(bind, 80), "port", port,
		"code", ref.Code, "why", ref.Message, "remote", cl.conn.RemoteAddr().String())
	cl.g.metrics.refused.WithLabelValues(ref.Code).Inc()
	r := refused{bind, port, ref}
	if s := cl.firstSession(); s != nil {
		s.tunnelRefused(r)
		return
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if len(cl.refused) < maxRefused {
		cl.refused = append(cl.refused, r)
	}
	time.AfterFunc(refusedGrace, cl.closeIfUseless)
}

// serves notes that not all of the connection's forwards are refused.
func (cl *client) serves() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.served = true
}

// closeIfUseless ends a connection all of whose forwards were refused and
// that has no session to say so.
func (cl *client) closeIfUseless() {
	cl.mu.Lock()
	useless := len(cl.refused) > 0 && len(cl.tunnels) == 0 && !cl.served && !cl.spoken
	cl.mu.Unlock()
	if useless && !cl.conn.HasSession() {
		cl.conn.HangUp(errors.New("every forward was refused"))
	}
}

func (cl *client) firstSession() *session {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if len(cl.sessions) == 0 {
		return nil
	}
	return cl.sessions[0]
}

// finish ends the connection without an exit status: sessions are told why
// first, for at most a second.
func (cl *client) finish(cause error) {
	cl.mu.Lock()
	sessions := append([]*session(nil), cl.sessions...)
	first := !cl.ending
	cl.ending = true
	cl.mu.Unlock()
	if !first {
		return
	}
	if len(sessions) == 0 {
		cl.conn.Close(cause)
		return
	}
	for _, s := range sessions {
		s.close(cause)
	}
	time.AfterFunc(time.Second, func() { cl.conn.Close(cause) })
}

// Direct refuses ssh -L, -W and -J: there is nothing behind the gateway yet
// that they may reach, and it never dials out on a user's behalf.
func (cl *client) Direct(context.Context, string, uint32, net.Addr) (net.Conn, error) {
	cl.direct.Do(func() { cl.logRefused("direct-tcpip") })
	return nil, errors.New("adit: this gateway opens no connections for you. Use -R to share a local port")
}

// Unsupported tells of a request that is not served here.
func (cl *client) Unsupported(s *sshd.Session, what, bind string) {
	text := unsupported(what)
	if s == nil {
		cl.refuse(bind, 0, &refusal{"unsupported", text})
		return
	}
	cl.logRefused(what)
	if what == "subsystem" { // ssh ends at that one
		s.Notice(text + "\n")
	} else {
		s.Hold(text)
	}
}

// logRefused tells the operator of a request that was refused, but for
// forwards.
func (cl *client) logRefused(what string) {
	cl.g.log.Info("ssh: request refused", "user", cl.key().User, "what", printable(what, 64), "remote", cl.conn.RemoteAddr().String())
}

func unsupported(what string) string {
	switch what {
	case "subsystem":
		return "adit: there is no sftp or other subsystem here, only tunnels. Use -R 80:HOST:PORT or -R 0:HOST:PORT"
	case "x11-req":
		return "adit: X11 is not forwarded here. Leave out -X and -Y"
	case "auth-agent-req@openssh.com":
		return "adit: agents are not forwarded here. Leave out -A"
	case "streamlocal-forward@openssh.com":
		return "adit: Unix sockets are not listened on here. Use -R 80:HOST:PORT or -R 0:HOST:PORT"
	}
	return "adit: this is not served here"
}

// Closed is called when everything of the connection has ended.
func (cl *client) Closed(cause error) {
	cl.g.drop(cl)
	cl.g.log.Info("ssh: disconnected", "user", cl.key().User, "remote", cl.conn.RemoteAddr().String(),
		"for", time.Since(cl.conn.Opened()).Round(time.Millisecond).String(), "why", printable(cause.Error(), 200))
}

// enforce holds the connection's tunnels to what its key may do by now.
func (cl *client) enforce() {
	if err := cl.narrowed(); err != nil {
		k := cl.key()
		cl.g.log.Info("ssh: key revoked", "user", k.User, "key", k.Fingerprint, "why", err.Error())
		cl.revoke(revoked{err})
	}
}

// narrowed looks at the key again, and ends the tunnels that it may no longer
// have. It fails where the key itself is no longer good.
func (cl *client) narrowed() error {
	cl.mu.Lock() // over both: of two that look, the later has the last word
	defer cl.mu.Unlock()
	now, err := cl.g.keys.Check(cl.key(), cl.conn.RemoteAddr())
	if err != nil {
		return err
	}
	cl.current.Store(now)
	for t := range cl.tunnels {
		if t.slot != nil && (!now.Options.PortForwarding || !now.Options.PermitsListen(t.host, uint32(t.port))) { // else place sees it
			cl.narrow(t)
		}
	}
	for cl.g.quota.over(now.Identity, now.Options.MaxTunnels) {
		t := cl.newest()
		if t == nil {
			break // the rest are another connection's
		}
		cl.narrow(t)
	}
	return nil
}

// narrow ends a tunnel that the key may no longer have. cl.mu is held.
func (cl *client) narrow(t *Tunnel) {
	cl.uncount(t)
	t.cancel(errNarrowed)
}

// newest is the tunnel asked for last of those that count, nil if there is
// none. cl.mu is held.
func (cl *client) newest() (last *Tunnel) {
	for t := range cl.tunnels {
		if t.counted && (last == nil || t.order > last.order) {
			last = t
		}
	}
	return last
}

// revoke ends the connection, and its tunnels before it: nobody is to wait for
// them to come back.
func (cl *client) revoke(cause revoked) {
	cl.finish(cause)
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for t := range cl.tunnels {
		t.cancel(cause)
	}
}

// revoked is why a connection ends whose key is no longer good.
type revoked struct{ err error }

func (r revoked) Error() string {
	var ref *keys.Refusal
	if errors.As(r.err, &ref) {
		return "your key " + ref.Reason
	}
	return "your key was removed"
}
