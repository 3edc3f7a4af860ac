package vhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"adit/tcp"
)

// Dial opens one stream to the local service for a visitor at the given
// address. The connection belongs to the Backend, which may use it for many
// requests of many visitors, one after the other; it must honour deadlines,
// and Close must end a Read or Write that is under way. If it has a method
//
//	Quiet() bool
//
// then that is asked before it is used again: false means that bytes or an end
// have arrived meanwhile, and it is dropped.
//
// Errors are standard: [syscall.ECONNREFUSED] is 502, an error that
// [errors.Is] [context.DeadlineExceeded] or [os.ErrDeadlineExceeded] is 504,
// [net.ErrClosed] says that there is no way to the service any more, whereupon
// the host is resolved again, [ErrBusy] is 503, and anything else is 502.
type Dial func(ctx context.Context, visitor net.Addr) (net.Conn, error)

// Policy is what a visitor must pass and what is rewritten on the way, as a
// plain value. The zero value asks and rewrites nothing; so far there is no
// other.
type Policy struct{}

// BackendOptions say how a service is reached.
type BackendOptions struct {
	// Dial reaches the service. It must be set.
	Dial Dial
	// Policy is what visitors must pass.
	Policy Policy
	// MaxConns bounds the connections to the service at once, switched ones
	// (WebSocket) included, and with H2C the requests; one beyond it gets 503.
	// The visitors of one address, or IPv6 network of 64 bits, use half of them
	// at most. 0: 256.
	MaxConns int
	// H2C says that the service speaks HTTP/2 in clear, with prior knowledge
	// (RFC 9113 3.3), as gRPC services do; visitors may speak any version.
	H2C bool
	// ResponseTimeout is how long the service may take to be reached, and
	// then, once it has the request, to answer with a head. 0: 60 s.
	ResponseTimeout time.Duration
	// StallTimeout is how long a visitor or the service may take none of the
	// bytes it was sent. 0: 60 s.
	StallTimeout time.Duration
	// Observe is called after each exchange, on the visitor's goroutine or on
	// that which has read the answer: it must not block. The Exchange is used
	// again; copy what is to be kept. nil: nobody observes, and nothing is
	// gathered.
	Observe func(*Exchange)
}

// Exchange is one request and what became of it.
type Exchange struct {
	ID     string // X-Request-Id
	Method string
	Target string // path and query as they came; may hold any UTF-8 text
	Host   string // canonical
	Status int    // as the visitor saw it; 499: it had left before an answer
	Start  time.Time
	// Duration runs from the complete head to the last byte.
	Duration time.Duration
	Visitor  net.Addr
	// BytesIn and BytesOut count content, without heads and framing.
	BytesIn, BytesOut int64
	// Err is why the service failed; nil if it did not.
	Err error
}

const (
	defaultTimeout  = 60 * time.Second
	defaultMaxConns = 256
	mostIdle        = 64
	idleTimeout     = 90 * time.Second
	// Of the connections that are idle for spareTimeout only a few are kept for
	// longer: each is a socket that ssh looks at for every packet it moves, so
	// sixty of them make a download through the same ssh cost it half as much
	// again.
	spareTimeout = 5 * time.Second
	mostKept     = 4
	// mostLooks is among how many idle connections one is looked for: those
	// that a body has gone over are other visitors'.
	mostLooks = 16
)

// Backend is one service and its connections, which no other service shares.
// It is owned by whoever made it, and ended by Close.
type Backend struct {
	o BackendOptions

	mu     sync.Mutex
	idle   []*upstream // newest last
	all    map[*upstream]struct{}
	count  int         // of all, and of those being dialled
	held   holders     // count, without those that are idle
	closed error       // set once
	sweep  *time.Timer // runs while there is an idle connection
	h2c    *h2c        // nil unless the service speaks HTTP/2
}

// NewBackend returns a Backend. Nothing is dialled before the first request.
func NewBackend(o BackendOptions) *Backend {
	if o.MaxConns == 0 {
		o.MaxConns = defaultMaxConns
	}
	if o.ResponseTimeout == 0 {
		o.ResponseTimeout = defaultTimeout
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = defaultTimeout
	}
	b := &Backend{o: o, all: make(map[*upstream]struct{})}
	if o.H2C {
		b.h2c = newH2C(b)
	}
	return b
}

// Close ends the backend: its connections are closed, so that requests in
// flight get 502 if the visitor has not been answered yet and are aborted
// otherwise; those that have not been sent are resolved again. cause is what
// they report (nil: net.ErrClosed). Calls after the first do nothing.
func (b *Backend) Close(cause error) {
	if cause == nil {
		cause = net.ErrClosed
	}
	for _, up := range b.shut(cause) {
		up.conn.Close()
	}
	if b.h2c != nil {
		b.h2c.close()
	}
}

// shut marks the backend closed and hands out its connections, idle and busy.
func (b *Backend) shut(cause error) []*upstream {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		return nil
	}
	b.closed, b.idle = &closedError{cause}, nil
	if b.sweep != nil {
		b.sweep.Stop()
	}
	ups := make([]*upstream, 0, len(b.all))
	for up := range b.all {
		ups = append(ups, up)
	}
	return ups
}

// closedError is the cause of a closed backend. It is net.ErrClosed too,
// whatever the cause.
type closedError struct{ cause error }

func (e *closedError) Error() string { return "backend closed: " + e.cause.Error() }

func (e *closedError) Unwrap() []error { return []error{net.ErrClosed, e.cause} }

// cause returns why the backend is closed, nil if it is not.
func (b *Backend) cause() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// ErrBusy says that MaxConns are in use, or half of them by one address, or from
// a Dial that there is no room for one more: it is 503, and a visitor may soon
// try again.
var ErrBusy = errors.New("too many connections to the service")

// get returns a connection for one exchange of who: the idle one that was used
// last, or a new one if fresh is asked for or none is idle. put or drop gives it
// back.
func (b *Backend) get(ctx context.Context, visitor net.Addr, who any, fresh bool) (*upstream, error) {
	if b.h2c != nil {
		return b.getCall(ctx, visitor, fresh)
	}
	holder := holderOf(visitor)
	for !fresh {
		up, err := b.pop(who, holder)
		if err != nil {
			return nil, err
		}
		if up == nil {
			break
		}
		if quiet(up.conn) {
			return up, nil
		}
		b.drop(up)
	}
	return b.dial(ctx, visitor, holder)
}

// quiet reports whether nothing has arrived on an idle connection, neither bytes
// that no request asked for nor its end, if the connection can say so. Nobody
// waits for that while it is idle, so it is asked before the next use.
func quiet(c net.Conn) bool {
	if q, ok := c.(interface{ Quiet() bool }); ok {
		return q.Quiet()
	}
	s, ok := tcp.SocketOf(c)
	return !ok || s.Quiet()
}

// pop takes the newest idle connection that who may use; nil if there is none
// among those that were used last.
func (b *Backend) pop(who any, holder netip.Prefix) (*upstream, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, up := range slices.Backward(b.idle) {
		if up.of == nil || up.of == who {
			return b.take(i, holder)
		}
		if len(b.idle)-i >= mostLooks {
			break
		}
	}
	return nil, b.closed
}

// take takes out the idle connection at i for holder; mu is held.
func (b *Backend) take(i int, holder netip.Prefix) (*upstream, error) {
	if !b.held.add(holder, b.o.MaxConns) {
		return nil, ErrBusy
	}
	up := b.idle[i]
	up.holder = holder
	b.idle = slices.Delete(b.idle, i, i+1)
	return up, nil
}

// dial opens a new connection, if one more is allowed.
func (b *Backend) dial(ctx context.Context, visitor net.Addr, holder netip.Prefix) (*upstream, error) {
	if err := b.reserve(holder); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.o.ResponseTimeout)
	defer cancel()
	conn, err := b.o.Dial(ctx, visitor)
	if err != nil {
		b.unreserve(holder)
		return nil, fmt.Errorf("dial: %w", err)
	}
	return b.add(&upstream{conn: conn, holder: holder})
}

// reserve counts a connection that is about to be made for holder.
func (b *Backend) reserve(holder netip.Prefix) error {
	spare, err := b.room(holder)
	if spare != nil {
		b.drop(spare)
	}
	return err
}

// room counts one more connection. Where there are as many as may be, spare is
// one that is idle and has to go, as it is another visitor's.
func (b *Backend) room(holder netip.Prefix) (spare *upstream, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := b.count >= b.o.MaxConns
	switch {
	case b.closed != nil:
		return nil, b.closed
	case full && len(b.idle) == 0, !b.held.add(holder, b.o.MaxConns):
		return nil, ErrBusy
	case full:
		spare = b.oldest()
	}
	b.count++
	return spare, nil
}

// oldest takes out the connection that has been idle for the longest time, nil
// if none is. mu is held.
func (b *Backend) oldest() (up *upstream) {
	if len(b.idle) > 0 {
		up = b.idle[0]
		b.idle = slices.Delete(b.idle, 0, 1)
	}
	return up
}

func (b *Backend) unreserve(holder netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count--
	b.held.remove(holder)
}

// add takes a new connection in, unless the backend has been closed meanwhile.
func (b *Backend) add(up *upstream) (*upstream, error) {
	up.in = reader{conn: up.conn, max: longestResponseHead}
	up.stall.Limit = b.o.StallTimeout
	b.mu.Lock()
	b.all[up] = struct{}{}
	err := b.closed
	b.mu.Unlock()
	if err != nil {
		b.drop(up)
		return nil, err
	}
	return up, nil
}

// put keeps a connection for the next request. A call is over; its connection
// is h2c's.
func (b *Backend) put(up *upstream) {
	if up.call != nil || !b.keep(up) {
		b.drop(up)
	}
}

// keep is put unless the backend is closed.
func (b *Backend) keep(up *upstream) bool {
	up.in.release()
	up.used = true
	spare, ok := b.rest(up)
	if spare != nil {
		b.drop(spare)
	}
	return ok
}

// rest makes up idle, unless the backend is closed; spare is one too many.
func (b *Backend) rest(up *upstream) (spare *upstream, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		return nil, false
	}
	if len(b.idle) >= mostIdle {
		spare = b.oldest()
	}
	b.held.remove(up.holder)
	up.holder, up.since = netip.Prefix{}, time.Now()
	b.idle = append(b.idle, up)
	b.startSweep()
	return spare, true
}

// drop ends a connection.
func (b *Backend) drop(up *upstream) {
	up.conn.Close()
	if up.call != nil {
		up.call.end()
	}
	up.in.release()
	b.mu.Lock()
	delete(b.all, up)
	b.count--
	b.held.remove(up.holder)
	b.mu.Unlock()
}

// startSweep runs the timer that ends old idle connections; mu is held.
func (b *Backend) startSweep() {
	switch {
	case b.sweep == nil:
		b.sweep = time.AfterFunc(spareTimeout, b.sweepIdle)
	case len(b.idle) == 1:
		b.sweep.Reset(spareTimeout)
	}
}

// sweepIdle drops what has been idle for too long, and runs again while
// anything is idle.
func (b *Backend) sweepIdle() {
	for _, up := range b.tooOld(time.Now()) {
		b.drop(up)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed == nil && len(b.idle) > 0 {
		b.sweep.Reset(spareTimeout)
	}
}

// tooOld takes out the connections that have been idle for too long: the list
// is in the order in which they were put back.
func (b *Backend) tooOld(now time.Time) []*upstream {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, up := range b.idle {
		idle, spare := now.Sub(up.since), len(b.idle)-n > mostKept
		if idle < spareTimeout || idle < idleTimeout && !spare {
			break
		}
		n++
	}
	old := append([]*upstream(nil), b.idle[:n]...)
	b.idle = slices.Delete(b.idle, 0, n)
	return old
}
