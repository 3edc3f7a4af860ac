package gateway

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"adit/sshd"
)

// asked is the forward as permitlisten names it, without the port that a name
// has unless another is asked for.
func (t *Tunnel) asked() string {
	if t.host != localhost && t.want == 80 {
		return t.host
	}
	return asked(t.host, t.want)
}

// claim reads what the client asks for and reserves it. The tunnel is
// pending; the caller drops it.
func (cl *client) claim(ctx context.Context, f *sshd.Forward, cancel context.CancelCauseFunc) (*Tunnel, *refusal) {
	if cl.g.stopping() {
		return nil, refuseStopping()
	}
	name, custom := bindName(f.Addr(), cl.g.cfg.domain)
	if name != "" {
		if why := validName(name, custom); why != "" {
			return nil, refuseBadName(name, why, f.Port())
		}
	}
	if custom && f.Port() != 80 && f.Port() != 443 {
		return nil, refuseCustomPort(name, f.Port())
	}
	t := &Tunnel{client: cl, fwd: f, name: name, want: f.Port(), host: cmp.Or(name, localhost),
		ctx: ctx, cancel: cancel, released: make(chan struct{}), index: -1}
	if ref := cl.enter(t); ref != nil {
		return nil, ref
	}
	if ref := cl.grant(t); ref != nil {
		cl.g.registry.giveBack(t)
		cl.leave(t)
		return nil, ref
	}
	return t, nil
}

// grant reserves what t asks for, and checks what is known only of a place that
// is reserved. After a refusal the caller gives back what t has by then.
func (cl *client) grant(t *Tunnel) *refusal {
	for _, step := range []func(*Tunnel) *refusal{cl.proven, cl.reserve, cl.notFoughtOver, cl.withinQuota} {
		if ref := step(t); ref != nil {
			return ref
		}
	}
	return nil
}

// enter checks what concerns this connection alone, and puts t among its
// tunnels.
func (cl *client) enter(t *Tunnel) *refusal {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	o := &cl.key().Options // now: enforce stores it before it looks at the tunnels
	switch {
	case !o.PortForwarding:
		return refuseForwarding()
	case t.fwd.Repeated && t.name == "":
		return refuseTwice(t.want)
	case t.fwd.Repeated:
		return refuseNameTwice(t.name, t.want)
	case len(cl.tunnels) >= maxForwards:
		return refuseMaxForwards(maxForwards)
	case t.want != 0 && !o.PermitsListen(t.host, t.want):
		return refuseKey(t.asked(), o.Listens())
	}
	t.kind = kindOf(t.want)
	if t.name == "" && t.want == 80 || t.want == 0 {
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
func (cl *client) reserve(t *Tunnel) *refusal {
	switch {
	case t.want == 80:
		return cl.reserveHTTP(t)
	case t.want == 443 && t.name == "":
		return refuseTLSName()
	case t.want == 443:
		return cl.reserveTLS(t)
	case t.want != 0 && t.name != "":
		return refusePrivate(t.name, t.want)
	}
	return cl.reserveTCP(t)
}

func (cl *client) reserveHTTP(t *Tunnel) *refusal {
	g, k := cl.g, cl.key()
	if !g.servesHTTP() {
		return refuseHTTPOff()
	}
	if t.name == "" {
		t.name = defaultName(g.state.secret, k.Identity, t.index)
	}
	if ref := cl.hold(t); ref != nil {
		return ref
	}
	return cl.place(t, g.registry.claimHost(k.User, t.name), 80)
}

func (cl *client) reserveTLS(t *Tunnel) *refusal {
	if cl.g.certs == nil {
		return refuseTLSOff(t.name)
	}
	if ref := cl.hold(t); ref != nil {
		return ref
	}
	return cl.place(t, cl.g.registry.claimHost(cl.key().User, tlsKey(t.name)), 443)
}

// hold reserves the name for the tunnel's user: a default name that the key
// derives, or a name that is free or theirs.
func (cl *client) hold(t *Tunnel) *refusal {
	g, k, name := cl.g, cl.key(), t.name
	chosen := !isDefaultShape(name)
	switch {
	case !chosen && !derives(g.state.secret, k.Identity, name):
		return refuseNotDerived(name, t.want)
	case chosen && g.isReserved(name):
		return refuseReserved(name, t.want)
	}
	if ref := g.registry.holdName(k.User, name, t.want, chosen); ref != nil {
		return ref
	}
	t.held = name
	if chosen {
		t.property = append(t.property, property{bucketNames, name, ""})
	}
	return nil
}

// isReserved reports whether a name is nobody's to have: ns10 and mx2 are as
// good as ns and mx.
func (g *Gateway) isReserved(name string) bool {
	base := strings.TrimRight(name, "0123456789")
	return slices.Contains(reservedNames, name) || base == "ns" || base == "mx" || slices.Contains(g.cfg.now().ReservedNames, name)
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

// place puts t on its slot, which was claimed for it. It fails where the key
// may no longer have that, or where another tunnel of this connection stands
// there, asked for by another spelling.
func (cl *client) place(t *Tunnel, s *slot, port int) (ref *refusal) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	o := &cl.key().Options // now: enforce looks at what is placed
	switch {
	case !o.PortForwarding:
		ref = refuseForwarding()
	case !o.PermitsListen(t.host, uint32(port)):
		ref = refuseKey(t.asked(), o.Listens())
	case cl.standsOn(s) && t.name == "":
		ref = refuseTwice(uint32(port))
	case cl.standsOn(s):
		ref = refuseNameTwice(t.name, t.want)
	}
	if ref != nil {
		cl.g.registry.release(s)
		return ref
	}
	t.slot, t.port = s, port
	return nil
}

// standsOn reports whether a tunnel of this connection stands on s. cl.mu is
// held.
func (cl *client) standsOn(s *slot) bool {
	for t := range cl.tunnels {
		if t.slot == s {
			return true
		}
	}
	return false
}

func (cl *client) reserveTCP(t *Tunnel) *refusal {
	g, k := cl.g, cl.key()
	if t.want != 0 && (t.want > 65535 || !g.cfg.ports.Contains(int(t.want))) || g.cfg.ports.Len() == 0 {
		return refusePortRange(t.want, g.cfg.ports.String())
	}
	if t.name != "" {
		if ref := cl.hold(t); ref != nil {
			return ref
		}
	}
	slotName := t.portSlot()
	taken := cl.ports()
	permits := func(port int) bool {
		return k.Options.PermitsListen(t.host, uint32(port)) && !slices.Contains(taken, port)
	}
	s, port, busy, ref := g.registry.claimPort(k.User, slotName, int(t.want), permits)
	if ref != nil {
		if ref.Code == "no_port" && k.Options.Listens() != "" {
			return refuseKey(t.asked(), k.Options.Listens())
		}
		return ref
	}
	t.property = append(t.property, property{bucketPorts, s.key, slotName})
	if busy != 0 {
		t.note = anotherPort(busy, port)
	}
	return cl.place(t, s, port)
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
