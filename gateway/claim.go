package gateway

import (
	"context"
	"slices"
	"strconv"
	"time"

	"adit/sshd"
)

// request is a forward as it was asked for, read but not yet granted.
type request struct {
	f    *sshd.Forward
	name string // "" for none
	host string // what permitlisten is matched against
	port uint32
}

// asked is the forward as permitlisten names it, without the port that a name
// has unless another is asked for.
func (r *request) asked() string {
	if r.name != "" && r.port == 80 {
		return r.name
	}
	return asked(r.host, r.port)
}

// claim reads what the client asks for and reserves it. The tunnel is
// pending; the caller drops it.
func (cl *client) claim(ctx context.Context, f *sshd.Forward, cancel context.CancelCauseFunc) (*Tunnel, *refusal) {
	if cl.g.stopping() {
		return nil, refuseStopping()
	}
	r := request{f: f, port: f.Port(), host: "localhost"}
	name, custom := bindName(f.Addr(), cl.g.cfg.domain)
	if name != "" {
		r.name, r.host = name, name
		if why := validName(name, custom); why != "" {
			return nil, refuseBadName(name, why, r.port)
		}
	}
	if custom && r.port != 80 && r.port != 443 {
		return nil, refuseCustomPort(name, r.port)
	}
	t := &Tunnel{client: cl, fwd: f, name: r.name, host: r.host, ctx: ctx, cancel: cancel, released: make(chan struct{}), index: -1}
	if ref := cl.enter(t, &r); ref != nil {
		return nil, ref
	}
	ref := cl.proven(t)
	if ref == nil {
		ref = cl.reserve(t, &r)
	}
	if ref == nil {
		ref = cl.admit(t)
	}
	if ref != nil {
		cl.leave(t)
		return nil, ref
	}
	return t, nil
}

// admit checks what is known only of a place that is reserved. A refusal gives
// it back.
func (cl *client) admit(t *Tunnel) *refusal {
	ref := cl.notFoughtOver(t)
	if ref == nil {
		ref = cl.withinQuota(t)
	}
	if ref != nil {
		cl.g.registry.giveBack(t)
	}
	return ref
}

// enter checks what concerns this connection alone, and puts t among its
// tunnels.
func (cl *client) enter(t *Tunnel, r *request) *refusal {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	k := cl.key() // now: enforce stores it before it looks at the tunnels
	switch {
	case !k.Options.PortForwarding:
		return refuseForwarding()
	case r.f.Repeated && r.name == "":
		return refuseTwice(r.port)
	case r.f.Repeated:
		return refuseNameTwice(r.name, r.port)
	case len(cl.tunnels) >= maxForwards:
		return refuseMaxForwards(maxForwards)
	case r.port != 0 && !k.Options.PermitsListen(r.host, r.port):
		return refuseKey(r.asked(), k.Options.Listens())
	}
	t.kind = kindOf(r.port)
	if r.name == "" && r.port == 80 || r.port == 0 {
		t.index = cl.freeIndex(t)
	}
	cl.asked++
	t.order = cl.asked
	cl.tunnels[t] = struct{}{}
	return nil
}

// kindOf is the kind of tunnel that a port asks for.
func kindOf(port uint32) string {
	switch port {
	case 80:
		return kindHTTP
	case 443:
		return kindTLS
	}
	return kindTCP
}

// proven asks DNS whether a custom domain is the tunnel's user's.
func (cl *client) proven(t *Tunnel) *refusal {
	if !isCustom(t.name) {
		return nil
	}
	return cl.g.proofs.prove(cl.g.ctx, t.name, cl.key().Identity)
}

// freeIndex is the lowest index that none of the connection's tunnels of t's
// kind has: for http among those without a name, for TCP among those that
// asked for any port by the same name, or by none. cl.mu is held.
func (cl *client) freeIndex(t *Tunnel) int {
	var used []int
	for other := range cl.tunnels {
		if other.index >= 0 && other.kind == t.kind && (t.kind == kindHTTP || other.name == t.name) {
			used = append(used, other.index)
		}
	}
	for i := 0; ; i++ {
		if !slices.Contains(used, i) {
			return i
		}
	}
}

func (cl *client) leave(t *Tunnel) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	delete(cl.tunnels, t)
	cl.uncount(t)
}

// uncount takes t off what the key may have at once. cl.mu is held.
func (cl *client) uncount(t *Tunnel) {
	if t.counted {
		t.counted = false
		cl.g.quota.give(cl.key().Identity, t.slot)
	}
}

// withinQuota counts the tunnel against its key's max-tunnels.
func (cl *client) withinQuota(t *Tunnel) *refusal {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	k := cl.key()
	t.counted = cl.g.quota.take(k.Identity, t.slot, k.Options.MaxTunnels)
	if !t.counted {
		return refuseMaxTunnels(k.Options.MaxTunnels)
	}
	return nil
}

// reserve finds the place that is asked for and claims it.
func (cl *client) reserve(t *Tunnel, r *request) *refusal {
	switch {
	case r.port == 80:
		return cl.reserveHTTP(t, r)
	case r.port == 443 && r.name == "":
		return refuseTLSName()
	case r.port == 443:
		return cl.reserveTLS(t, r)
	case r.port != 0 && r.name != "":
		return refusePrivate(r.name, r.port)
	}
	return cl.reserveTCP(t, r)
}

func (cl *client) reserveHTTP(t *Tunnel, r *request) *refusal {
	g, k := cl.g, cl.key()
	if !g.servesHTTP() {
		return refuseHTTPOff()
	}
	if r.name == "" {
		r.name = defaultName(g.state.secret, k.Identity, t.index)
	}
	if ref := cl.hold(t, r); ref != nil {
		return ref
	}
	t.name = r.name
	if !cl.place(t, g.registry.claimHost(k.User, r.name), 80) {
		return refuseNameTwice(r.name, 80)
	}
	return nil
}

func (cl *client) reserveTLS(t *Tunnel, r *request) *refusal {
	g, k := cl.g, cl.key()
	if g.certs == nil {
		return refuseTLSOff(r.name)
	}
	if ref := cl.hold(t, r); ref != nil {
		return ref
	}
	if !cl.place(t, g.registry.claimHost(k.User, tlsKey(r.name)), 443) {
		return refuseNameTwice(r.name, 443)
	}
	return nil
}

// hold reserves the name for the tunnel's user: a default name that the key
// derives, or a name that is free or theirs.
func (cl *client) hold(t *Tunnel, r *request) *refusal {
	g, k, name := cl.g, cl.key(), r.name
	chosen := !isDefaultShape(name)
	switch {
	case !chosen && !derives(g.state.secret, k.Identity, name):
		return refuseNotDerived(name, r.port)
	case chosen && g.isReserved(name):
		return refuseReserved(name, r.port)
	}
	if ref := g.registry.holdName(k.User, name, r.port, chosen); ref != nil {
		return ref
	}
	t.held = name
	if chosen {
		t.property = append(t.property, property{bucketNames, name, ""})
	}
	return nil
}

// isReserved reports whether a name is nobody's to have.
func (g *Gateway) isReserved(name string) bool {
	return slices.Contains(reservedNames, name) || slices.Contains(g.cfg.now().ReservedNames, name)
}

// derives reports whether name is one of the default names that identity's
// connections can have.
func derives(secret []byte, identity, name string) bool {
	for i := range maxForwards {
		if defaultName(secret, identity, i) == name {
			return true
		}
	}
	return false
}

// place puts t on its slot. It fails, and gives back what t has, where another
// tunnel of this connection stands there, asked for by another spelling.
func (cl *client) place(t *Tunnel, s *slot, port int) bool {
	cl.mu.Lock()
	for other := range cl.tunnels {
		if other.slot == s {
			cl.mu.Unlock()
			cl.g.registry.release(s)
			cl.g.registry.giveBack(t)
			return false
		}
	}
	t.slot, t.port = s, port
	cl.mu.Unlock()
	return true
}

func (cl *client) reserveTCP(t *Tunnel, r *request) *refusal {
	g, k := cl.g, cl.key()
	if r.port != 0 && (r.port > 65535 || !g.cfg.ports.Contains(int(r.port))) || g.cfg.ports.Len() == 0 {
		return refusePortRange(r.port, g.cfg.ports.String())
	}
	if r.name != "" {
		if ref := cl.hold(t, r); ref != nil {
			return ref
		}
	}
	slotName := t.portSlot()
	taken := cl.ports()
	permits := func(port int) bool {
		return k.Options.PermitsListen(r.host, uint32(port)) && !slices.Contains(taken, port)
	}
	s, port, busy, ref := g.registry.claimPort(k.User, slotName, int(r.port), permits)
	if ref != nil {
		g.registry.giveBack(t)
		if ref.Code == "no_port" && k.Options.Listens() != "" {
			return refuseKey(r.asked(), k.Options.Listens())
		}
		return ref
	}
	t.property = append(t.property, property{bucketPorts, s.key, slotName})
	if busy != 0 {
		t.note = anotherPort(busy, port)
	}
	if !cl.place(t, s, port) {
		return refuseTwice(uint32(port))
	}
	return nil
}

// portSlot names the one of its user's -R 0 that t is: "#0", "#1", or "db",
// "db#1"; "" where the port was chosen.
func (t *Tunnel) portSlot() string {
	if t.index < 0 || t.index == 0 && t.name != "" {
		return t.name
	}
	return t.name + "#" + strconv.Itoa(t.index)
}

// ports are the TCP ports that the connection has by now.
func (cl *client) ports() (taken []int) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for t := range cl.tunnels {
		if t.kind == kindTCP {
			taken = append(taken, t.port)
		}
	}
	return taken
}

// notFoughtOver refuses a takeover where connections of one user have taken
// the place from each other too often of late, and the one that has it
// answers.
func (cl *client) notFoughtOver(t *Tunnel) *refusal {
	holder := t.slot.live.Load()
	if holder == nil || holder.client == cl || !t.slot.fought(time.Now()) {
		return nil
	}
	if holder.client.conn.Answers(answerLimit) && t.slot.live.Load() == holder {
		return refuseTakeovers(holder.label())
	}
	return nil
}
