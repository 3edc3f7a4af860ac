package main

import (
	"os"
	"runtime"
	"time"
)

const (
	// crowded is what part of the processors in use has to be busy for a tick
	// until all there are come into use.
	crowded = 0.85
	// Half of them are let go when for calmTicks no more than the part roomy of
	// the other half was busy.
	roomy     = 0.7
	calmTicks = 4
)

// processors keeps as many processors in use (GOMAXPROCS) as there is work for.
// With more of them than that, every goroutine that becomes ready has the
// scheduler wake a second thread, which finds that the first has done the work,
// and sleeps again. A tick is soon enough to see that they are needed: until
// then the work waits in a queue, and is not lost.
type processors struct {
	most int // what the runtime had set; 0: the number is not to be touched
	used time.Duration
	at   time.Time // when used was the CPU time of the process
	calm int       // ticks in a row in which half of them would have done
}

// newProcessors does nothing at its ticks where GOMAXPROCS has been set. A start
// is either a rush of clients or a lull, which the first tick tells.
func newProcessors() *processors {
	p := &processors{at: time.Now(), calm: calmTicks - 1}
	if used, ok := cpuTime(); ok && os.Getenv("GOMAXPROCS") == "" {
		p.most, p.used = runtime.GOMAXPROCS(0), used
	}
	return p
}

func (p *processors) tick() {
	if p.most <= 1 {
		return
	}
	used, _ := cpuTime()
	now := time.Now()
	busy := float64(used-p.used) / float64(now.Sub(p.at))
	p.used, p.at = used, now
	n := runtime.GOMAXPROCS(0)
	switch next := p.look(n, busy); {
	case next == n:
	case next < p.most:
		runtime.GOMAXPROCS(next)
	default:
		runtime.SetDefaultGOMAXPROCS() // which follows the control group's quota
		p.most = runtime.GOMAXPROCS(0)
	}
}

// look takes a tick in which that many of n processors were busy, and returns
// how many are to be used from now on.
func (p *processors) look(n int, busy float64) int {
	half := max(n/2, 1)
	if p.calm++; busy > roomy*float64(half) {
		p.calm = 0
	}
	switch {
	case busy >= crowded*float64(n):
		return p.most
	case p.calm >= calmTicks:
		p.calm = 0
		return half
	}
	return n
}
