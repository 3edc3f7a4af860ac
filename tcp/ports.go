package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Range is a range of TCP ports, both ends included. The zero value holds no
// port.
type Range struct{ Lo, Hi int }

// ParseRange reads "20000-29999", a single port, or "off" (no port).
func ParseRange(s string) (Range, error) {
	if s == "off" {
		return Range{}, nil
	}
	lo, hi, found := strings.Cut(s, "-")
	if !found {
		hi = lo
	}
	l, err1 := strconv.Atoi(lo)
	h, err2 := strconv.Atoi(hi)
	if err1 != nil || err2 != nil || l < 1 || h > 65535 || l > h {
		return Range{}, fmt.Errorf("%q is not a range of ports: write LOW-HIGH within 1-65535, or off", s)
	}
	return Range{l, h}, nil
}

// Contains reports whether port lies in the range.
func (r Range) Contains(port int) bool { return r.Lo > 0 && r.Lo <= port && port <= r.Hi }

// Len is how many ports the range holds.
func (r Range) Len() int {
	if r.Lo == 0 {
		return 0
	}
	return r.Hi - r.Lo + 1
}

func (r Range) String() string {
	switch {
	case r.Lo == 0:
		return "off"
	case r.Lo == r.Hi:
		return strconv.Itoa(r.Lo)
	}
	return fmt.Sprintf("%d-%d", r.Lo, r.Hi)
}

// Keepalive is asked for on every connection that is accepted, as net.Listen
// would: probes after 15 s of silence, every 15 s, 9 of them. A peer that has
// gone without a word is noticed within two and a half minutes.
const keepalivePause, keepaliveProbes = 15 * time.Second, 9

// Listen opens one port on each of hosts ("" is all addresses). A host that
// this machine has no address family for is passed over, as long as one is
// left. The caller owns the listeners, whose connections are [Socket]s: each is read
// by one goroutine at a time, and written to by one.
func Listen(hosts []string, port int) ([]net.Listener, error) {
	var lns []net.Listener
	var first error
	for _, h := range hosts {
		ln, err := listener.Listen(context.Background(), "tcp", net.JoinHostPort(h, strconv.Itoa(port)))
		if err == nil {
			lns = append(lns, sockets{ln})
			continue
		}
		if !noSuchAddress(err) {
			Close(lns)
			return nil, err
		}
		first = err
	}
	if len(lns) == 0 {
		return nil, first
	}
	return lns, nil
}

// Close closes every listener.
func Close(lns []net.Listener) {
	for _, ln := range lns {
		ln.Close()
	}
}

// Serve accepts on every listener until all are closed, and gives each
// connection to handle on a goroutine of its own; handle owns it. Serve
// returns when the listeners are closed and every handle has returned.
func Serve(lns []net.Listener, handle func(net.Conn)) {
	var wait sync.WaitGroup
	for _, ln := range lns {
		wait.Go(func() { accept(ln, &wait, handle) })
	}
	wait.Wait()
}

// accept takes connections from one listener until it is closed. Running out
// of descriptors is waited out: what is open goes on.
func accept(ln net.Listener, wait *sync.WaitGroup, handle func(net.Conn)) {
	for pause := time.Duration(0); ; {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			wait.Go(func() { handle(c) })
		case errors.Is(err, net.ErrClosed):
			return
		default:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause)
		}
	}
}
