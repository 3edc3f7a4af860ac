package gateway

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"adit/tcp"
)

// registry knows every slot, and decides who may stand where. A visitor whose
// tunnel is live only loads from names; mu orders those who claim and release.
type registry struct {
	cfg    *settings
	ledger *ledger
	secret []byte
	log    *slog.Logger
	serve  func(*slot) // starts to accept visitors of a TCP slot

	names sync.Map // name to *slot

	mu    sync.Mutex
	holds map[string]*hold // names that somebody has reserved
	ports map[int]*slot
	fresh map[bucket]map[string]string // reserved, not yet owned: name or port to user
}

func newRegistry(cfg *settings, st *state, log *slog.Logger) *registry {
	return &registry{
		cfg: cfg, ledger: st.ledger, secret: st.secret, log: log,
		holds: map[string]*hold{}, ports: map[int]*slot{},
		fresh: map[bucket]map[string]string{bucketNames: {}, bucketPorts: {}},
	}
}

// hold is a name that tunnels of one user have reserved, on whatever port.
type hold struct {
	user string
	n    int
}

// lookup finds a name's slot, nil if nothing was there lately.
func (r *registry) lookup(name string) *slot {
	if s, ok := r.names.Load(name); ok {
		return s.(*slot)
	}
	return nil
}

// expect makes an empty slot for a name whose owner is expected back.
func (r *registry) expect(name string) *slot {
	s := newSlot(name)
	s.idle = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	had, _ := r.names.LoadOrStore(name, s)
	return had.(*slot)
}

// liveAt is the tunnel that is live at key, nil if there is none.
func (r *registry) liveAt(key string) *Tunnel {
	if s := r.lookup(key); s != nil {
		return s.live.Load()
	}
	return nil
}

// holdName reserves a name for user, on every port: it has one owner. chosen
// tells a name the user picked, which is owned once a tunnel of it is live,
// from a default name. port is what it was asked for with. The caller gives it
// back with dropName.
func (r *registry) holdName(user, name string, port uint32, chosen bool) *refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.holds[name]
	if h != nil && h.user != user {
		return refuseNameTaken(name, port)
	}
	if chosen {
		if ref := r.mayOwn(bucketNames, name, port, user); ref != nil {
			return ref
		}
	}
	if h == nil {
		h = &hold{user: user}
		r.holds[name] = h
	}
	h.n++
	return nil
}

func (r *registry) dropName(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.holds[name]
	if h.n--; h.n == 0 {
		delete(r.holds, name)
		delete(r.fresh[bucketNames], name)
	}
}

// claimHost reserves the virtual host of a name that user holds. The caller
// releases the slot.
func (r *registry) claimHost(user, name string) *slot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.lookup(name)
	if s == nil {
		s = newSlot(name)
		r.names.Store(name, s)
	}
	r.claim(s, user)
	return s
}

// mayOwn checks owner and limit, and notes a first claim. port is what was asked
// for. r.mu is held.
func (r *registry) mayOwn(b bucket, key string, port uint32, user string) *refusal {
	rec, owned := r.ledger.owner(b, key, time.Now(), r.cfg.now().NameTTL)
	mine, others := owned && rec.User == user, owned && rec.User != user
	switch {
	case others && b == bucketPorts:
		return refusePortTaken(int(port))
	case others && !isCustom(key): // DNS says whose a custom domain is
		return refuseNameTaken(key, port)
	case mine || r.fresh[b][key] == user:
		return nil
	}
	has := r.ledger.owned(b, user, time.Now(), r.cfg.now().NameTTL)
	for _, k := range r.taken(b, user) {
		has[k] = record{} // it may be stored just now, or was stored long ago
	}
	if _, mine = has[key]; mine {
		return nil
	}
	if ref := r.within(b, len(has)); ref != nil {
		return ref
	}
	r.fresh[b][key] = user
	return nil
}

// within refuses one more where a user has n already.
func (r *registry) within(b bucket, n int) *refusal {
	switch cfg := r.cfg.now(); {
	case b == bucketPorts && n >= cfg.MaxPorts:
		return refuseMaxPorts(n)
	case b == bucketNames && n >= cfg.MaxNames:
		return refuseMaxNames(n)
	}
	return nil
}

// taken are the names or ports that user's tunnels stand on, live or
// reserved: the ledger learns of those that stay live but once an hour. r.mu
// is held.
func (r *registry) taken(b bucket, user string) (keys []string) {
	if b == bucketPorts {
		for _, s := range r.ports {
			if s.user == user {
				keys = append(keys, s.key)
			}
		}
		return keys
	}
	for name, h := range r.holds {
		if h.user == user && !isDefaultShape(name) {
			keys = append(keys, name)
		}
	}
	return keys
}

// claim counts one more tunnel on s. r.mu is held.
func (r *registry) claim(s *slot, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user = user
	s.claims++
	s.notify()
}

// release gives up one claim on s. With the last one a TCP port is closed.
func (r *registry) release(s *slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims--
	s.notify()
	if s.claims > 0 {
		return
	}
	s.idle = time.Now()
	if s.lns != nil {
		tcp.Close(s.lns)
		s.lns = nil
		port, _ := strconv.Atoi(s.key)
		delete(r.fresh[bucketPorts], s.key)
		delete(r.ports, port)
	}
}

// own stores that t's name and port are its user's. It fails only where the
// ownership is new and could not be stored.
func (r *registry) own(t *Tunnel) *refusal {
	for _, p := range t.property {
		_, had := r.ledger.owner(p.bucket, p.key, time.Now(), r.cfg.now().NameTTL)
		if err := r.put(t, p); err != nil && !had {
			return refuseStore(p.key)
		}
		r.settle(p)
	}
	return nil
}

// settle ends a first claim: it is owned now.
func (r *registry) settle(p property) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.fresh[p.bucket], p.key)
}

// touch stores that what t stands on was in use now. A failure is logged.
func (r *registry) touch(t *Tunnel) {
	for _, p := range t.property {
		r.put(t, p)
	}
}

// property is a name or a port that becomes its user's when a tunnel of it is
// live.
type property struct {
	bucket bucket
	key    string
	slot   string // record.Slot
}

func (r *registry) put(t *Tunnel, p property) error {
	now := time.Now()
	err := r.ledger.put(p.bucket, p.key, record{User: t.client.key().User, Slot: p.slot, Created: now, Used: now})
	if err != nil {
		r.log.Error("state: ownership not stored", "key", p.key, "err", err)
	}
	return err
}

// claimPort reserves a public TCP port for user and opens it. want 0 asks for
// the port that slotName (an index, or a name) had before, or for a free one.
// permits says what the key allows. busy is the port that slotName had before
// and could not be opened, 0 for none.
func (r *registry) claimPort(user, slotName string, want int, permits func(int) bool) (s *slot, port, busy int, ref *refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if want != 0 {
		s, ref = r.openPort(user, "", want)
		return s, want, 0, ref
	}
	for _, p := range r.portsOf(user, slotName) {
		if !permits(p) {
			continue
		}
		if s, ref = r.openPort(user, slotName, p); ref == nil {
			return s, p, busy, nil
		}
		busy = cmp.Or(busy, p)
	}
	s, port, ref = r.anyPort(user, slotName, permits)
	return s, port, busy, ref
}

// portsOf are the ports that user's slotName was given, the first one first:
// there are more where that one could not be had for a while.
func (r *registry) portsOf(user, slotName string) (given []int) {
	mine := r.ledger.owned(bucketPorts, user, time.Now(), r.cfg.now().NameTTL)
	for key, rec := range mine {
		if p, _ := strconv.Atoi(key); rec.Slot == slotName && r.cfg.ports.Contains(p) {
			given = append(given, p)
		}
	}
	slices.SortFunc(given, func(a, b int) int {
		return mine[strconv.Itoa(a)].Created.Compare(mine[strconv.Itoa(b)].Created)
	})
	for p, s := range r.ports { // reserved, and not owned yet
		if s.user == user && s.given == slotName && !slices.Contains(given, p) {
			given = append(given, p)
		}
	}
	return given
}

// anyPort tries the range from a place that depends on the user and the
// slot, so that several nodes give the same port.
func (r *registry) anyPort(user, slotName string, permits func(int) bool) (*slot, int, *refusal) {
	mac := hmac.New(sha256.New, r.secret)
	fmt.Fprintf(mac, "adit port\x00%s\x00%s", user, slotName)
	n := r.cfg.ports.Len()
	if n == 0 {
		return nil, 0, refusePortRange(0, r.cfg.ports.String())
	}
	start := int(binary.BigEndian.Uint64(mac.Sum(nil)) % uint64(n))
	for i := range n {
		p := r.cfg.ports.Lo + (start+i)%n
		if r.ports[p] != nil || !permits(p) {
			continue
		}
		if _, owned := r.ledger.owner(bucketPorts, strconv.Itoa(p), time.Now(), r.cfg.now().NameTTL); owned {
			continue
		}
		s, ref := r.openPort(user, slotName, p)
		if ref == nil {
			return s, p, nil
		}
		if ref.Code != "in_use" {
			return nil, 0, ref // and so would every other port be
		}
	}
	return nil, 0, refuseNoPort(r.cfg.ports.String())
}

// openPort claims one port, and listens on it unless a tunnel of the same
// user does already. r.mu is held.
func (r *registry) openPort(user, slotName string, port int) (*slot, *refusal) {
	key := strconv.Itoa(port)
	s := r.ports[port]
	if s != nil && s.user != user {
		return nil, refusePortTaken(port)
	}
	_, pending := r.fresh[bucketPorts][key]
	if ref := r.mayOwn(bucketPorts, key, uint32(port), user); ref != nil {
		return nil, ref
	}
	if s == nil {
		lns, err := tcp.Listen(r.cfg.tcpHosts, port)
		if err != nil {
			if !pending {
				delete(r.fresh[bucketPorts], key)
			}
			return nil, r.notOpened(port, err)
		}
		s = newSlot(key)
		s.lns, s.given = lns, slotName
		r.ports[port] = s
	}
	r.claim(s, user)
	return s, nil
}

// notOpened tells a port that another program has from a machine that opens
// none: its descriptors are used up, say, or --tcp-host has gone.
func (r *registry) notOpened(port int, err error) *refusal {
	if errors.Is(err, syscall.EADDRINUSE) {
		return refusePortBusy(port)
	}
	r.log.Warn("tcp: port not opened", "port", port, "err", err)
	return refuseListen(port)
}

// closePorts lets no more visitors in at TCP ports. Those who are there stay.
func (r *registry) closePorts() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.ports {
		tcp.Close(s.lns)
	}
}

// sweep forgets slots that nothing has stood on for a while.
func (r *registry) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names.Range(func(name, v any) bool {
		s := v.(*slot)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.claims == 0 && now.Sub(s.idle) > 2*lostFor {
			r.names.Delete(name)
		}
		return true
	})
}
