//go:build linux

package main

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of the times in /proc, which is the same on every Linux
// that Go runs on.
const tick = 0.01

// census is the processes of the machine at one moment, by their parents.
type census map[int][]int

func takeCensus() census {
	c := census{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if f := stat(pid); f != nil {
				c[atoi(f[1])] = append(c[atoi(f[1])], pid)
			}
		}
	}
	return c
}

// stat is what follows the name in /proc/PID/stat, which proc(5) counts from
// field 3; nil if there is no such process.
func stat(pid int) []string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	return strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
}

func atoi(s string) int { n, _ := strconv.Atoi(s); return n }

// tree is the processes and all that descend from them.
func (c census) tree(roots []int) (all []int) {
	for _, pid := range roots {
		all = append(append(all, pid), c.tree(c[pid])...)
	}
	return all
}

// cpu is the CPU seconds that the processes and their descendants have used,
// those that have ended and were waited for too (sshd's children come and go).
func (c census) cpu(roots []int) (seconds float64) {
	for _, pid := range c.tree(roots) {
		seconds += clock(pid)
		if f := stat(pid); f != nil {
			seconds += tick * float64(atoi(f[13])+atoi(f[14])) // cutime and cstime
		}
	}
	return seconds
}

// clock is a process's CPU clock. It counts nanoseconds, where /proc counts in
// hundredths of a second; its number is made of the process's as the kernel's
// CPUCLOCK_SCHED has it.
func clock(pid int) float64 {
	var t unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|2), &t) != nil {
		return 0
	}
	return time.Duration(t.Nano()).Seconds()
}

// holding is what a set of processes has at one moment.
type holding struct{ kib, files int }

func holdings(roots []int) (h holding) {
	for _, pid := range takeCensus().tree(roots) {
		dir := "/proc/" + strconv.Itoa(pid)
		h.kib += proportionalKiB(dir + "/smaps_rollup")
		if fds, err := os.ReadDir(dir + "/fd"); err == nil {
			h.files += len(fds)
		}
	}
	return h
}

// proportionalKiB is a process's resident memory, of which a page that several
// processes share counts for each in part. For a process that shares none it
// is the resident set size.
func proportionalKiB(file string) int {
	data, _ := os.ReadFile(file)
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			return atoi(strings.Fields(rest)[0])
		}
	}
	return 0
}

// steady is what processes hold when they have been idle for a while.
func steady(roots []int) holding {
	time.Sleep(idleAfter)
	return holdings(roots)
}

// idleAfter is how long they are left alone: a runtime gives back what it
// does not need by and by.
const idleAfter = 10 * time.Second

// spent is CPU seconds between two moments.
type spent struct{ gateway, client, origin float64 }

// meter starts to count, and gives the function that stops.
func (b *bench) meter(p *peer) func() spent {
	before := b.spentBy(p)
	return func() spent {
		s := b.spentBy(p)
		return spent{s.gateway - before.gateway, s.client - before.client, s.origin - before.origin}
	}
}

func (b *bench) spentBy(p *peer) spent {
	c := takeCensus()
	return spent{c.cpu(pids(p.gateway)), c.cpu(pids(p.client)), c.cpu(pids(p.origin))}
}

func pids(ps []*process) (list []int) {
	for _, p := range ps {
		list = append(list, p.pid())
	}
	return list
}

// each adds the CPU time of n things, in microseconds, to f.
func (s spent) each(f figures, p *peer, n float64) {
	s.add(f, p, 1e6/n, gatewayCPU, clientCPU, originCPU)
}

// perGB adds the CPU time for a volume, in seconds a gigabyte, to f.
func (s spent) perGB(f figures, p *peer, bytes float64) {
	s.add(f, p, 1e9/bytes, gatewayGB, clientGB, originGB)
}

func (s spent) add(f figures, p *peer, factor float64, gateway, client, origin string) {
	if len(p.gateway) > 0 {
		f[gateway], f[client] = s.gateway*factor, s.client*factor
	}
	f[origin] = s.origin * factor
}

// watchMachine gives the function that says which share of the machine went to
// processes that are none of ours since then.
func watchMachine() func() float64 {
	total, busy := machineTime()
	own := takeCensus().cpu([]int{os.Getpid()})
	return func() float64 {
		t, b := machineTime()
		others := b - busy - (takeCensus().cpu([]int{os.Getpid()}) - own)
		return max(0, others) / max(t-total, tick)
	}
}

// machineTime is the first line of /proc/stat in seconds of all processors:
// all of the time, and what was neither idle nor waiting for a disk.
func machineTime() (total, busy float64) {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	for i, s := range strings.Fields(line)[1:9] {
		v := tick * float64(atoi(s))
		total += v
		if i != 3 && i != 4 {
			busy += v
		}
	}
	return total, busy
}
