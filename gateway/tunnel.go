package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"adit/sshd"
	"adit/tcp"
	"adit/vhost"
)

// The kinds of tunnel, as users and programs see them.
const (
	kindHTTP = "http"
	kindTCP  = "tcp"
	kindTLS  = "tls" // TLS passed through by SNI
)

// localhost is what permitlisten calls the host where no name was given.
const localhost = "localhost"

// Why a tunnel ended, where it was not the connection that ended.
var (
	errTakenOver = errors.New("another connection of yours has taken it over")
	errWithdrawn = errors.New("withdrawn before it was live")
	errQuit      = errors.New("ended by its user")
	errNarrowed  = errors.New("your key may no longer have it")
)

// Tunnel is one remote forward that was granted: a place (a virtual host, its
// TLS, or a TCP port), and the client's forward that visitors of that place are given
// to. It lives in the stack frame of client.ServeForward.
type Tunnel struct {
	client   *client
	fwd      *sshd.Forward
	kind     string
	name     string // the virtual host's label, or the name a port was asked under; may be empty
	port     int    // 80, 443, or the public TCP port
	slot     *slot
	held     string     // the name it has reserved, if any
	counted  bool       // among its key's, see quota; the client's mu guards it
	property []property // what going live makes its user's
	host     string     // what permitlisten is matched against: the name as asked, or localhost
	want     uint32     // the port as asked; 0: any
	index    int        // among the connection's forwards that asked alike, see freeIndex; -1 where the place was chosen
	note     string     // what its user is told beside its URL, if anything

	released chan struct{} // closed when its session has spoken
	once     sync.Once
	ctx      context.Context // ServeForward's: its end is the tunnel's
	cancel   context.CancelCauseFunc
	live     atomic.Bool
	session  atomic.Pointer[session] // where it is shown, if anywhere; written under the client's mu
	opened   time.Time               // when it went live
	order    int                     // in which the connection asked
	over     atomic.Bool             // it has ended
	told     atomic.Bool             // its user was told so

	left    atomic.Bool    // kindHTTP: its certificate is left to its name's TLS tunnel
	backend *vhost.Backend // kindHTTP
	failed  atomic.Int64   // Unix seconds of the last complaint to the user
}

// url is the tunnel's address as visitors type it. That of an HTTP tunnel
// turns from http to https when its certificate is there.
func (t *Tunnel) url() string {
	switch t.kind {
	case kindHTTP:
		return t.client.g.httpURL(t.name)
	case kindTLS:
		return t.client.g.tlsURL(t.name)
	}
	return t.client.g.tcpURL(t.port)
}

// release ends the wait for a session.
func (t *Tunnel) release() { t.once.Do(func() { close(t.released) }) }

// giveBack gives up a tunnel's place and name.
func (r *registry) giveBack(t *Tunnel) {
	if t.slot != nil {
		r.release(t.slot)
	}
	if t.held != "" {
		r.dropName(t.held)
	}
}

// publish makes the tunnel live: stored, and found by visitors.
func (t *Tunnel) publish(g *Gateway) *refusal {
	if ref := g.registry.own(t); ref != nil {
		return ref
	}
	if t.kind == kindHTTP {
		t.backend = vhost.NewBackend(g.backendOptions(t))
	}
	t.opened = time.Now()
	if isCustom(t.name) {
		g.proofs.note(t.name, proof{t.client.key().Identity, true, t.opened})
	}
	t.live.Store(true)
	old := t.slot.publish(t, t.opened)
	if t.kind == kindTCP {
		g.registry.acceptOn(t.slot)
	}
	if old != nil {
		old.cancel(errTakenOver)
	}
	g.metrics.tunnels.WithLabelValues(t.kind).Inc()
	g.certify(t)
	return nil
}

// withdraw takes the tunnel out of visitors' sight.
func (t *Tunnel) withdraw(g *Gateway, cause error) {
	t.slot.withdraw(t, !deliberate(cause), time.Now())
	if t.backend != nil {
		t.backend.Close(cause)
	}
	g.registry.touch(t)
	g.metrics.tunnels.WithLabelValues(t.kind).Dec()
}

// deliberate reports whether a tunnel ended as somebody wished, so that its
// visitors have nothing to wait for.
func deliberate(cause error) bool {
	return errors.Is(cause, sshd.ErrCancelled) || errors.Is(cause, errQuit) || errors.Is(cause, errNarrowed) ||
		errors.As(cause, new(revoked))
}

// acceptOn starts the accept loop of a TCP slot, once.
func (r *registry) acceptOn(s *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.accepting && s.lns != nil {
		s.accepting = true
		r.serve(s)
	}
}

// startTCP serves a slot's visitors in the background.
func (g *Gateway) startTCP(s *slot) {
	lns := s.lns
	g.background.Go(func() { g.serveTCP(s, lns) })
}

// serveTCP gives a TCP slot's visitors to whichever tunnel is live on it, and
// ends with the slot's listeners and their last visitor.
func (g *Gateway) serveTCP(s *slot, lns []net.Listener) {
	tcp.Serve(g.allBehindProxies(lns), func(c net.Conn) { g.visitTCP(s, c) })
}

// visitTCP is one visitor of a TCP tunnel.
func (g *Gateway) visitTCP(s *slot, c net.Conn) {
	defer g.survive(c)
	if _, up := g.reach(s, c); up != nil {
		g.splice(c, up, g.metrics.tcpIn, g.metrics.tcpOut)
	}
}

// reach opens a stream to the slot's tunnel for a visitor. Where there is
// none the visitor is reset, and up is nil.
func (g *Gateway) reach(s *slot, c net.Conn) (t *Tunnel, up net.Conn) {
	if t = g.await(s); t == nil {
		tcp.Reset(c)
		return nil, nil
	}
	up, err := t.fwd.DialContext(context.Background(), c.RemoteAddr())
	if err != nil {
		if !errors.Is(err, net.ErrClosed) { // the tunnel or its connection is at its end
			t.complain(err)
		}
		tcp.Reset(c)
		return nil, nil
	}
	return t, up
}

// survive keeps a panic to the visitor that caused it. It is to be deferred.
func (g *Gateway) survive(c net.Conn) {
	if v := recover(); v != nil {
		g.log.Error("tcp: panic", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		tcp.Reset(c)
	}
}

// complain tells the tunnel's user, at most once a second, that visitors do
// not get through. What ends with the tunnel, or its connection, is no fault of
// the local service.
func (t *Tunnel) complain(err error) {
	if t.ctx.Err() != nil {
		return
	}
	now := time.Now().Unix()
	if last := t.failed.Load(); last == now || !t.failed.CompareAndSwap(last, now) {
		return
	}
	if s := t.session.Load(); s != nil {
		s.warn(complaint(t, err))
	}
}

// label is the tunnel as its user typed it: "blog:80".
func (t *Tunnel) label() string {
	if t.name == "" {
		return strconv.Itoa(t.port)
	}
	return t.name + ":" + strconv.Itoa(t.port)
}
