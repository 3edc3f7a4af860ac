package sshd

import "sync"

// The library reads up to sixteen packets ahead of whoever takes them. When a
// login fails on one packet nobody takes the rest, and its reader waits to hand
// on the next for good: a client that sends on buys half a MiB and two
// goroutines of ours with every connection, without having logged in. So what
// was read ahead is taken when the connection has closed.
//
// The channel it lies in is first seen when authentication begins; until then
// the client is let send no more than fits into it.

// takeAhead lets the reader of a closed connection come to its end.
func takeAhead(packets <-chan []byte) {
	if packets == nil {
		return
	}
	for range packets {
	}
}

const (
	// earlyBytes is what a client may send between our NEWKEYS and the begin
	// of authentication. Stock clients send 140 bytes: NEWKEYS, EXT_INFO and
	// SERVICE_REQUEST. Behind its NEWKEYS no more than 17 packets of the
	// smallest size, 28 bytes, fit in: the one that fails, and sixteen.
	earlyBytes = 512
	msgNewKeys = 21
)

// gate holds back what a client sends too early.
type gate struct {
	mu   sync.Mutex
	wake *sync.Cond
	shut bool
	left int // what may pass while it is shut
	gone bool
}

// watch shuts the gate when p, which is written, is our first NEWKEYS: a
// packet of its own, and not encrypted yet (RFC 4253, section 7.3).
func (g *gate) watch(p []byte) {
	if len(p) != 16 || p[5] != msgNewKeys {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wake == nil {
		g.wake, g.shut, g.left = sync.NewCond(&g.mu), true, earlyBytes
	}
}

// admit waits until something may pass, and gives the part of p for it.
func (g *gate) admit(p []byte) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.shut && g.left == 0 && !g.gone {
		g.wake.Wait()
	}
	if g.shut && !g.gone {
		p = p[:min(len(p), g.left)]
	}
	return p
}

// passed counts n bytes that were read.
func (g *gate) passed(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left = max(g.left-n, 0)
}

// open lets everything pass from now on.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = true
	if g.wake != nil {
		g.wake.Broadcast()
	}
}
