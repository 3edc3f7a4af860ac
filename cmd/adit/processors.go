package main

import (
	"os"
	"runtime"
	"sync"
	"time"
)

const (
	// crowded is what part of the processors in use has to be busy for a tick
	// until all there are come into use. Where others have them too, that part
	// may never be had: so they do when goroutines stand in line, more than
	// there are processors, at each of lineTicks.
	crowded   = 0.85
	lineTicks = 4
	// Half of them are let go when for calmTicks no more than the part roomy of
	// the other half was busy, and no more stood in line.
	roomy     = 0.7
	calmTicks = 4
)

// processors keeps as many processors in use (GOMAXPROCS) as there is work for.
// With more of them than that, every goroutine that becomes ready has the
// scheduler wake a second thread, which finds that the first has done the work,
// and sleeps again. A tick is soon enough to see that they are needed: until
// then the work waits in a queue, and is not lost.
type processors struct {
	mu   sync.Mutex
	most int // what the runtime had set; 0: the number is not to be touched
	used time.Duration
	at   time.Time // when used was the CPU time of the process
	calm int       // ticks in a row in which half of them would have done
	line int       // ticks in a row with a line
}

// newProcessors gives some that do nothing where GOMAXPROCS has been set. A start
// is either a rush of clients or a lull, which the first tick tells.
func newProcessors() *processors {
	p := &processors{at: time.Now(), calm: calmTicks - 1}
	if used, ok := cpuTime(); ok && os.Getenv("GOMAXPROCS") == "" {
		p.most, p.used = runtime.GOMAXPROCS(0), used
	}
	return p
}

func (p *processors) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.most <= 1 {
		return
	}
	used, _ := cpuTime()
	now := time.Now()
	busy := float64(used-p.used) / float64(now.Sub(p.at))
	p.used, p.at = used, now
	p.set(p.look(runtime.GOMAXPROCS(0), busy, inLine()))
}

// all has them all come into use at once, for a few ticks. It is for who is
// about to wait for a disk: the scheduler lets go of a processor only
// when it sees that a system call lasts, which takes it up to 20 ms, and the
// last one would hold up everybody.
func (p *processors) all() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.most <= 1 {
		return
	}
	p.calm = 0
	p.set(p.most)
}

// set changes the number of processors. p.mu is held.
func (p *processors) set(n int) {
	switch {
	case n == runtime.GOMAXPROCS(0):
	case n < p.most:
		runtime.GOMAXPROCS(n)
	default:
		runtime.SetDefaultGOMAXPROCS() // which follows the control group's quota
		p.most = runtime.GOMAXPROCS(0)
	}
}

// look takes a tick in which that many of n processors were busy, and at whose end
// that many goroutines stood in line, and returns how many processors are to be
// used from now on.
func (p *processors) look(n int, busy float64, line int) int {
	half := max(n/2, 1)
	p.calm, p.line = p.calm+1, p.line+1
	if busy > roomy*float64(half) || line > half {
		p.calm = 0
	}
	if line <= n {
		p.line = 0
	}
	switch {
	case busy >= crowded*float64(n) || p.line >= lineTicks:
		return p.most
	case p.calm >= calmTicks:
		p.calm = 0
		return half
	}
	return n
}

// inLine is how many goroutines wait for a processor.
func inLine() int { return int(runtimeMetric("/sched/goroutines/runnable:goroutines")) }
