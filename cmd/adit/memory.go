package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

const (
	// heapFloor is what the heap is made to count as having in use beside all
	// else, and never touches. Every packet that comes in is a fresh
	// allocation in the SSH library, so with a small heap there are some 800
	// collections for each gigabyte; and as what is alive swings between one
	// and ten MiB, so does the runtime's aim, and what it gives to the system
	// after one collection it has to fault in again before the next.
	heapFloor = 64 << 20
	// busyPercent is the heap's growth between collections while bytes flow,
	// quietPercent that at other times, which keeps the heap of many idle
	// tunnels dense. Both count the floor.
	busyPercent, quietPercent = 60, 12
	// gcHeadroom is what part of the memory there is the heap may use before
	// collections come more often again.
	gcHeadroom = 0.7

	// unlimited is less than what version 1 of the control groups says for no
	// limit, the largest number of whole pages, and more than any machine has.
	unlimited = 1 << 60

	// Traffic is known by what is allocated for it in a tick. One from
	// busyBytes on is busy, one below quietBytes quiet; one from bulkBytes on
	// (200 MB/s) can be nothing but traffic.
	bulkBytes  = 48 << 20
	busyBytes  = 8 << 20
	quietBytes = 512 << 10
	// stretch is how many busy ticks in a row are traffic, and not a burst of
	// logins, and how many others are its end. lull is how many quiet ones
	// follow before memory is given back, trims times: each collection halves
	// stacks that were once deep.
	stretch = 4
	lull    = 8
	trims   = 3
)

// floor is the heapFloor: no page of it is ever written, so that it is none
// of the process's resident memory.
var floor []byte

// limitMemory sets the heap's soft limit from the memory that the machine or
// the control group has, unless GOMEMLIMIT has said it, and lays the heap's
// floor, unless GOGC has said how the collector is to be. It must come before
// the heap has grown: memory that was used before would have to be cleared.
func limitMemory() {
	there := memoryThere()
	if os.Getenv("GOGC") == "" {
		size := int64(heapFloor)
		if there > 0 {
			size = min(size, there/8)
		}
		floor = make([]byte, size)
		debug.SetGCPercent(quietPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" && there > 0 {
		debug.SetMemoryLimit(int64(float64(there)*gcHeadroom) + int64(len(floor)))
	}
}

// memory lets the collector follow the traffic, where limitMemory has laid the
// floor, and gives memory back after a burst: the garbage of a thousand logins
// would otherwise stay until the next collection, which on a quiet gateway is
// minutes away.
type memory struct {
	before uint64 // allocated, at the last tick
	busy   bool   // the collector is set to busyPercent
	run    int    // ticks in a row that spoke for the other setting
	quiet  int    // quiet ticks in a row
	due    int    // times that memory is still to be given back
}

func newMemory() *memory { return &memory{before: allocated()} }

func (m *memory) tick() {
	now := allocated()
	percent, trim := m.look(now - m.before)
	m.before = now
	if percent != 0 && floor != nil {
		debug.SetGCPercent(percent)
	}
	if trim {
		debug.FreeOSMemory()
	}
}

// look takes a tick in which so many bytes were allocated. percent is the
// collector's new target, 0 for no change; trim says to give memory back.
func (m *memory) look(bytes uint64) (percent int, trim bool) {
	if m.run++; bytes >= busyBytes == m.busy {
		m.run = 0
	}
	if m.run == stretch || !m.busy && bytes >= bulkBytes {
		m.busy, m.run, percent = !m.busy, 0, quietPercent
		if m.busy {
			percent = busyPercent
		}
	}
	if m.quiet++; bytes >= quietBytes {
		m.quiet, m.due = 0, trims
	}
	if m.quiet >= lull && m.due > 0 {
		m.quiet, m.due, trim = 0, m.due-1, true
	}
	return percent, trim
}

// allocated is how many bytes of heap the process has ever been given.
func allocated() uint64 { return runtimeMetric("/gc/heap/allocs:bytes") }

// memoryThere is the control group's limit or the machine's memory, in bytes;
// 0 where none of them can be read, as on systems other than Linux.
func memoryThere() int64 {
	return lesser(groupMemory("/proc/self/cgroup", "/sys/fs/cgroup"), machineMemory())
}

// groupMemory is the least limit of the control groups that the process is in,
// by its list in cgroups(7), version 2 or 1. In a container the list may name
// folders of the machine's that are not to be seen: the root is then its own.
func groupMemory(list, root string) (least int64) {
	b, _ := os.ReadFile(list)
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(fields) < 3:
		case fields[0] == "0" && fields[1] == "":
			least = lesser(least, leastLimit(root, fields[2], "memory.max"))
		case slices.Contains(strings.Split(fields[1], ","), "memory"):
			least = lesser(least, leastLimit(filepath.Join(root, "memory"), fields[2], "memory.limit_in_bytes"))
		}
	}
	return least
}

// leastLimit is the least that file says in the folder of group and in those
// above it, up to root: each of them limits all below.
func leastLimit(root, group, file string) (least int64) {
	for dir := filepath.Join("/", group); ; dir = filepath.Dir(dir) {
		b, _ := os.ReadFile(filepath.Join(root, dir, file))
		n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
		if err == nil && n < unlimited { // version 2 says "max"
			least = lesser(least, n)
		}
		if dir == filepath.Dir(dir) {
			return least
		}
	}
}

// machineMemory reads MemTotal of proc(5).
func machineMemory() int64 {
	b, _ := os.ReadFile("/proc/meminfo")
	for line := range bytes.Lines(b) {
		if fields := bytes.Fields(line); len(fields) >= 2 && string(fields[0]) == "MemTotal:" {
			n, _ := strconv.ParseInt(string(fields[1]), 10, 64)
			return n << 10
		}
	}
	return 0
}

// lesser is the smaller of two limits, where 0 is none.
func lesser(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
