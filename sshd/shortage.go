package sshd

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Each stream may hold a window of bytes that its visitor does not take, and a
// crowd of visitors who take nothing costs two MiB apiece until they count as
// stalled. So what all hold together is bounded by the memory that there is. From
// an eighth of it on those streams end whose visitors have just taken nothing,
// which is looked for at every look of a connection's watch, from a quarter on at
// once; and beyond three eighths whoever holds more than a little and gets more.

const (
	// aLittle is what a stream may hold all the same.
	aLittle = 64 << 10
	// justNow is how long a visitor has taken nothing to count for that.
	justNow = 2 * time.Second
)

// unread is what the channels of all connections hold unread, apart from a little
// for each: small answers come and go without being counted.
var unread atomic.Int64

// memoryLimit is what the process may use, once that was asked for; 0 before.
var memoryLimit atomic.Int64

// memory is what the process may use: more than anybody has, where there is no
// limit.
func memory() int64 {
	if memoryLimit.Load() == 0 {
		memoryLimit.Store(debug.SetMemoryLimit(-1))
	}
	return memoryLimit.Load()
}

// hold counts n bytes more as unread, or fewer. k.mu is held.
func (k *Channel) hold(n int) {
	before := max(k.unread-aLittle, 0)
	k.unread += n
	more := max(k.unread-aLittle, 0) - before
	if more == 0 {
		return
	}
	unread.Add(int64(more))
	if more < 0 || before == 0 {
		k.took = time.Now()
	}
}

// shortage is called when k has got more to hold. k.mu is held.
func (k *Channel) shortage() {
	all := unread.Load()
	switch {
	case k.unread <= aLittle || all <= memory()/4:
	case all > memory()/8*3 && k.requests == nil:
		k.starve()
	case k.conn.shedding.CompareAndSwap(false, true):
		k.conn.mux.later(0, func() {
			defer k.conn.shedding.Store(false)
			k.conn.shed()
		})
	}
}

// shed ends those of the connection's streams that only hold memory, while that is
// short.
func (c *Conn) shed() {
	if unread.Load() <= memory()/8 {
		return
	}
	for _, k := range c.mux.all() {
		k.shed()
	}
}

func (k *Channel) shed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.unread > aLittle && k.requests == nil && time.Since(k.took) >= justNow {
		k.starve()
	}
}

// starve ends k for the memory that it holds. k.mu is held.
func (k *Channel) starve() {
	held := k.unread
	k.tooMany()
	k.conn.mux.later(0, func() {
		k.conn.srv.Strangers.Warn("ssh: memory is short, the stream of a slow visitor was cut", "remote", k.conn.RemoteAddr().String(), "held", held)
	})
}
