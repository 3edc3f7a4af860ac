package sshd

import (
	"reflect"
	"sync"
	"unsafe"

	"golang.org/x/crypto/ssh"
)

// The library reads up to sixteen packets ahead of whoever takes them. When a
// login or a connection fails on one packet nobody takes the rest, and its
// reader waits to hand on the next for good: a client that sends on buys half
// a MiB and two goroutines of ours with every connection, without having
// logged in. So what was read ahead is taken when a connection has closed.
//
// The channel it lies in is first seen when authentication begins; until then
// the client is let send no more than fits into it.

// ahead is where packets of the connection wait that were read ahead. It is
// nil, and nothing is ever taken, where the library has another shape.
func ahead(conn any) <-chan []byte {
	v := reflect.ValueOf(conn)
	for _, name := range []string{"transport", "incoming"} {
		for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return nil
		}
		if v = v.FieldByName(name); !v.IsValid() {
			return nil
		}
	}
	if v.Type() != reflect.TypeFor[chan []byte]() || !v.CanAddr() {
		return nil
	}
	return *(*chan []byte)(unsafe.Pointer(v.UnsafeAddr()))
}

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

// begun is called when authentication begins.
func (l *login) begun(c ssh.ServerPreAuthConn) {
	l.ahead = ahead(c)
	l.sock.begun.Store(true)
	l.sock.early.open()
}
