// Package gateway is where a tunnel is known for what it is: an SSH
// connection's remote forward that stands on a name or on a port. It decides
// who may have which, joins the packages that each speak one protocol, and
// starts and stops them.
//
// Read it from here: New opens every listener; Run serves; a connection is a
// client (client.go), its forward a Tunnel (claim.go, tunnel.go) on a slot
// (slot.go, registry.go), shown by a session (session.go); visitors come in
// through http.go and tunnel.go.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"adit/acme"
	"adit/keys"
	"adit/sshd"
	"adit/tcp"
	"adit/vhost"
)

// Gateway is one running gateway. Make it with New, and call Run once.
type Gateway struct {
	cfg       *settings
	log       *slog.Logger
	strangers *slog.Logger // for what anybody can cause
	state     *state
	keys      *keys.Store
	registry  *registry
	quota     quota
	metrics   *metrics
	started   time.Time
	ssh       *sshd.Server
	http      *vhost.Router
	admin     *http.Server
	certs     *acme.Manager // nil: HTTPS is off
	proofs    *proofs
	ports     ports
	lns       struct {
		ssh, http, https, admin []net.Listener
		quic                    []net.PacketConn
	}

	accepting     context.Context // ends when nobody is let in any more
	stopAccepting context.CancelFunc

	ctx        context.Context // ends when the last tunnel has to
	cancel     context.CancelCauseFunc
	background sync.WaitGroup

	mu      sync.Mutex // guards the rest
	clients map[*client]struct{}
	closing bool
}

// ports are the ports shown to users.
type ports struct{ ssh, http, https int }

// New reads the state folder and opens every listener, so that whatever
// stands in the way is one error, before anything is served. Close frees what
// New opened if Run is never called.
func New(cfg Config) (*Gateway, error) {
	s, err := resolve(cfg)
	if err != nil {
		return nil, err
	}
	g := &Gateway{cfg: s, log: cfg.Logger, started: time.Now(), clients: map[*client]struct{}{}}
	if g.log == nil {
		g.log = slog.Default()
	}
	g.quota.on = map[string]map[*slot]int{}
	g.strangers = sampled(g.log)
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
	g.accepting, g.stopAccepting = context.WithCancel(g.ctx)
	g.proofs = newProofs(s.DNSResolver)
	g.metrics = newMetrics()
	if err := g.open(); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// open reads the state and listens, and tells of everything that is wrong with
// either.
func (g *Gateway) open() (err error) {
	dir := g.cfg.State
	if dir == "" {
		if dir, err = DefaultState(!g.cfg.local); err != nil {
			return err
		}
	}
	if err := makeFolders(dir); err != nil {
		return errors.Join(err, g.listen()) // of what is in it nothing can be said
	}
	g.state, err = openState(dir)
	if errors.Is(err, errRunning) {
		return err // it has the ports too
	}
	if err := errors.Join(err, g.openKeys(), g.listen()); err != nil {
		return err
	}
	g.state.ledger.before = g.cfg.BeforeWrite
	g.registry = newRegistry(g.cfg, g.state, g.log)
	g.registry.serve = g.startTCP
	if err := g.openCerts(); err != nil {
		return err
	}
	g.build()
	g.advise(dir)
	return nil
}

// openKeys reads the users' files.
func (g *Gateway) openKeys() (err error) {
	g.keys, err = keys.Open(keys.Config{
		Dir: filepath.Join(g.state.dir, "authorized_keys"), Files: g.cfg.KeyFiles, FilesUser: g.cfg.KeyUser, Logger: g.log,
	})
	return err
}

// build makes the servers; each is handed functions of g, and none knows
// another.
func (g *Gateway) build() {
	g.ssh = &sshd.Server{
		HostKeys: g.state.hostKeys, Version: "adit_" + Version, LoginGrace: g.cfg.LoginGrace, Ciphers: g.cfg.Ciphers, Logger: g.log, Strangers: g.strangers,
		Authenticate: g.authenticate, Refused: refusedLogin, Connected: g.connected, Dropped: g.handshakeDropped,
	}
	g.http = &vhost.Router{
		Resolve: g.resolveHost, CookieDomain: g.cfg.domain, Proto: "http", AltSvc: g.altSvc(), TrustedProxy: g.trustedProxy(), Logger: g.log,
	}
	g.admin = &http.Server{Handler: g.adminHandler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug)}
}

// Run serves until ctx ends, and then stops: listeners first, then requests
// in flight (up to Config.Drain), then sessions are told, then connections.
// It returns when every goroutine has ended.
func (g *Gateway) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	for _, ln := range g.lns.ssh {
		g.background.Go(func() { report(failed, g.ssh.Serve(g.behindProxies(ln))) })
	}
	for _, ln := range g.lns.http {
		g.background.Go(func() { report(failed, g.http.Serve(g.behindProxies(ln))) })
	}
	g.background.Go(g.serveHTTPS)
	for _, pc := range g.lns.quic {
		g.background.Go(func() { report(failed, g.http.ServeQUIC(pc, g.quicTLS())) })
	}
	for _, ln := range g.lns.admin {
		g.background.Go(func() { report(failed, g.admin.Serve(ln)) })
	}
	watch, stopWatch := context.WithCancel(context.Background())
	defer stopWatch()
	g.background.Go(func() { g.keys.Run(watch) })
	g.background.Go(func() { g.watchKeys(watch) })
	g.background.Go(func() { g.janitor(watch) })
	g.background.Go(func() { g.tendProofs(watch) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	g.stop(stopWatch)
	return err
}

// report passes on a listener's failure; an orderly end is none.
func report(failed chan<- error, err error) {
	if err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return
	}
	select {
	case failed <- err:
	default:
	}
}

var errStopping = errors.New("the gateway is stopping")

func (g *Gateway) stop(stopWatch func()) {
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	limit := g.cfg.now().Drain
	g.log.Info("stopping", "drain", limit.String())
	g.ssh.StopAccepting()
	tcp.Close(g.lns.https)
	g.registry.closePorts()
	g.stopAccepting()
	drain, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := g.http.Shutdown(drain); err != nil {
		g.log.Warn("stopping: requests were cut", "err", err)
	}
	for _, cl := range g.allClients() {
		cl.finish(errStopping)
	}
	g.awaitClients()
	stopWatch()
	g.ssh.Close()
	g.cancel(errStopping)
	g.admin.Close()
	g.background.Wait()
	g.Close()
	g.log.Info("stopped")
}

// awaitClients gives sessions their moment to be told and to hang up; finish
// cuts them after a second.
func (g *Gateway) awaitClients() {
	limit := time.NewTimer(3 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(g.allClients()) > 0 {
		select {
		case <-tick.C:
		case <-limit.C:
			return
		}
	}
}

// Close frees what New opened. Run does it by itself.
func (g *Gateway) Close() {
	for _, lns := range [][]net.Listener{g.lns.ssh, g.lns.http, g.lns.https, g.lns.admin} {
		tcp.Close(lns)
	}
	for _, pc := range g.lns.quic {
		pc.Close()
	}
	if g.certs != nil {
		g.certs.Close()
		g.certs = nil
	}
	if g.state != nil && g.state.ledger != nil {
		g.state.ledger.close()
	}
	g.cancel(net.ErrClosed)
}

// Change puts in force what of cfg can be without a restart: NameTTL, MaxNames,
// MaxPorts, ReservedNames, Park, ResponseTimeout, StallTimeout and Drain, for
// what is asked for from then on. A cfg that New would refuse changes nothing.
func (g *Gateway) Change(cfg Config) error { return g.cfg.change(cfg) }

// Reload reads the users' files now.
func (g *Gateway) Reload() error { return g.keys.Reload() }

func (g *Gateway) stopping() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closing
}

func (g *Gateway) allClients() []*client {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*client, 0, len(g.clients))
	for cl := range g.clients {
		all = append(all, cl)
	}
	return all
}

func (g *Gateway) drop(cl *client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.clients, cl)
	g.metrics.conns.Dec()
}

// tunnelsOf lists a user's live tunnels, over all connections, by URL.
func (g *Gateway) tunnelsOf(user string) []*Tunnel {
	var all []*Tunnel
	for _, cl := range g.allClients() {
		if cl.key().User == user {
			all = append(all, cl.live()...)
		}
	}
	slices.SortFunc(all, func(a, b *Tunnel) int { return strings.Compare(a.url(), b.url()) })
	return all
}

// janitor forgets what is over, and keeps what is live owned.
func (g *Gateway) janitor(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	stored := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		g.registry.sweep(time.Now())
		g.certifyAllLeft()
		if time.Since(stored) >= min(time.Hour, g.cfg.now().NameTTL/4) {
			g.refresh()
			stored = time.Now()
		}
	}
}

// refresh stores now and then that live tunnels are in use, so that a crash
// does not cost an owner the time since.
func (g *Gateway) refresh() {
	for _, cl := range g.allClients() {
		for _, t := range cl.live() {
			g.registry.touch(t)
		}
	}
	if err := g.state.ledger.expire(time.Now(), g.cfg.now().NameTTL); err != nil {
		g.log.Error("state: expired names not removed", "err", err)
	}
}
