package sshd

import (
	"os"
	"reflect"
	"runtime/debug"
	"sync/atomic"
	"time"
	"unsafe"
)

// A channel's receive window is 2 MiB in the library, which is all that can
// be under way: one round trip of 100 ms then carries at most 20 MB/s. A
// channel that has shown itself to be a fast download whose visitor keeps up
// is granted more, a doubling at a time, for as long as that brings speed.
const (
	firstWindow = 2 << 20
	maxWindow   = 16 << 20
	// fastWindow is how soon a window comes in where more would bring
	// nothing: the round trip is short, or 140 MB/s have been reached.
	fastWindow = 15 * time.Millisecond
	// maxVain is how many looks without a gain end the growth: one may have
	// met a busy moment.
	maxVain = 3
)

//go:linkname channelAdjustWindow golang.org/x/crypto/ssh.(*channel).adjustWindow
func channelAdjustWindow(ch unsafe.Pointer, bytes uint32) error

// extraWindow is what all channels were granted beyond their first window.
var extraWindow atomic.Int64

// extraLimit bounds extraWindow: an eighth of what the process may use, at
// most 512 MiB.
func extraLimit() int64 { return min(debug.SetMemoryLimit(-1)/8, 512<<20) }

// growth is a channel's receive window beyond the library's. It belongs to
// the channel's reader.
type growth struct {
	window int64     // as large as it is now; 0: not looked at yet
	came   int64     // bytes read since the last look
	since  time.Time // the last look
	rate   float64   // bytes a second before the last doubling
	vain   int       // looks in a row that saw no gain from the last doubling
	done   bool      // it has brought nothing, or there is no more
	extra  atomic.Int64
}

// grown counts n bytes read, and now and then looks whether the window is what
// limits the speed.
func (k *Channel) grown(n int) {
	g := &k.growth
	if g.done {
		return
	}
	if g.came += int64(n); g.came < max(g.window, firstWindow) {
		return
	}
	now := time.Now()
	took, came := now.Sub(g.since), g.came
	first := g.window == 0
	g.came, g.since = 0, now
	if first { // the start of a transfer tells nothing
		g.window = firstWindow
		return
	}
	rate := float64(came) / max(took.Seconds(), 1e-6)
	if took < fastWindow || !k.inside.quiet() {
		return
	}
	if rate < 1.3*g.rate {
		g.vain++
		g.done = g.vain == maxVain
		return
	}
	g.rate, g.vain = rate, 0
	g.done = !k.grant(g.window)
}

// grant allows the client more bytes under way, within the process's budget.
func (k *Channel) grant(more int64) bool {
	g := &k.growth
	if g.window+more > maxWindow || !k.inside.adjustable {
		return false
	}
	if extraWindow.Add(more) > extraLimit() {
		extraWindow.Add(-more)
		return false
	}
	g.extra.Add(more)
	if channelAdjustWindow(k.inside.channel, uint32(more)) != nil {
		return false
	}
	g.window += more
	return true
}

// ReadBuffers is Read without a copy: it waits until something has arrived,
// and appends the packets to dst, as many as dst has room for, which must be
// one at least. They are the caller's.
func (k *Channel) ReadBuffers(dst [][]byte) ([][]byte, error) {
	if k.inside.buffer == nil || !k.inside.adjustable {
		p := make([]byte, 32<<10)
		n, err := k.Read(p)
		return append(dst, p[:n]), err
	}
	if !k.inside.await(&k.late) {
		return dst, os.ErrDeadlineExceeded
	}
	dst, n := k.inside.take(dst)
	if n == 0 {
		return dst, k.eof()
	}
	// An error says that the channel is closed on this side; what has arrived
	// is delivered all the same.
	channelAdjustWindow(k.inside.channel, uint32(n))
	k.grown(n)
	return dst, nil
}

// giveBack returns what the channel was granted to the budget.
func (g *growth) giveBack() { extraWindow.Add(-g.extra.Swap(0)) }

// adjustable reports whether a channel type is the library's whose method is
// called: its name, and the fields the method works on.
func adjustable(t reflect.Type) bool {
	if t.String() != "ssh.channel" {
		return false
	}
	for _, name := range []string{"myWindow", "myConsumed"} {
		if f, ok := t.FieldByName(name); !ok || f.Type.Kind() != reflect.Uint32 {
			return false
		}
	}
	return true
}
