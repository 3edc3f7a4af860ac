package sshd

import (
	"sync/atomic"
	"time"
)

// A channel's receive window is 2 MiB, as stock clients have it, which is all that
// can be under way: one round trip of 100 ms then carries at most 20 MB/s. A
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

// extraWindow is what all channels were granted beyond their first window.
var extraWindow atomic.Int64

// extraLimit bounds extraWindow: an eighth of what the process may use, at
// most 512 MiB.
func extraLimit() int64 { return min(memory()/8, 512<<20) }

// growth is how a channel's receive window grows. The channel's lock guards it.
type growth struct {
	window int64     // as large as it is now; 0: not looked at yet
	came   int64     // bytes read since the last look
	since  time.Time // the last look
	rate   float64   // bytes a second before the last doubling
	vain   int       // looks in a row that saw no gain from the last doubling
	done   bool      // it has brought nothing, or there is no more
	extra  atomic.Int64
}

// size is how large the window is now.
func (g *growth) size() int64 { return max(g.window, firstWindow) }

// grown counts n bytes read, and now and then looks whether the window is what
// limits the speed. It gives by how much the client is to be granted more. k.mu
// is held.
func (k *Channel) grown(n int) (more int64) {
	g := &k.growth
	if g.done || k.closed {
		return 0
	}
	if g.came += int64(n); g.came < g.size() {
		return 0
	}
	now := time.Now()
	took, came := now.Sub(g.since), g.came
	first := g.window == 0
	g.came, g.since = 0, now
	if first { // the start of a transfer tells nothing
		g.window = firstWindow
		return 0
	}
	rate := float64(came) / max(took.Seconds(), 1e-6)
	if took < fastWindow || k.unread > 0 {
		return 0
	}
	if rate < 1.3*g.rate {
		g.vain++
		g.done = g.vain == maxVain
		return 0
	}
	g.rate, g.vain = rate, 0
	more = g.grant()
	g.done = more == 0
	return more
}

// grant doubles the window, within the process's budget; 0 where it may not.
func (g *growth) grant() (more int64) {
	more = g.window
	if g.window+more > maxWindow {
		return 0
	}
	if extraWindow.Add(more) > extraLimit() {
		extraWindow.Add(-more)
		return 0
	}
	g.extra.Add(more)
	g.window += more
	return more
}

// giveBack returns what the channel was granted to the budget.
func (g *growth) giveBack() { extraWindow.Add(-g.extra.Swap(0)) }
