package main

import (
	"runtime"
	"slices"
	"testing"
)

// TestMemory: traffic makes the collector lazy and its end makes it keen
// again, a burst does neither, and memory goes back in the lull after either.
func TestMemory(t *testing.T) {
	var m memory
	feed := func(bytes uint64, ticks int) (percents []int, trimmed int) {
		for range ticks {
			percent, trim := m.look(bytes)
			if percent != 0 {
				percents = append(percents, percent)
			}
			if trim {
				trimmed++
			}
		}
		return percents, trimmed
	}
	for _, step := range []struct {
		what     string
		bytes    uint64
		ticks    int
		percents []int
		trimmed  int
	}{
		{"nothing yet", 0, 20, nil, 0},
		{"a burst", busyBytes, stretch - 1, nil, 0},
		{"the lull after it", 0, 100, nil, trims},
		{"traffic", busyBytes, 20, []int{busyPercent}, 0},
		{"a pause in it", 0, stretch - 1, nil, 0},
		{"more", busyBytes, 20, nil, 0},
		{"a trickle", busyBytes - 1, 20, []int{quietPercent}, 0},
		{"its end", 0, 100, nil, trims},
		{"a bulk transfer", bulkBytes, 2, []int{busyPercent}, 0},
	} {
		percents, trimmed := feed(step.bytes, step.ticks)
		if !slices.Equal(percents, step.percents) || trimmed != step.trimmed {
			t.Errorf("%s: set to %v, want %v; %d trims, want %d", step.what, percents, step.percents, trimmed, step.trimmed)
		}
	}
}

// TestAllocated: the runtime still has the metric that is read.
func TestAllocated(t *testing.T) {
	before := allocated()
	sink = make([]byte, 1<<20)
	runtime.GC()
	if now := allocated(); now < before+1<<20 {
		t.Errorf("before %d, now %d", before, now)
	}
}

var sink []byte

// TestMemoryThere: the least of what limits the process; none is 0.
func TestMemoryThere(t *testing.T) {
	for _, tt := range [][3]int64{{0, 0, 0}, {0, 5, 5}, {5, 0, 5}, {3, 5, 3}, {5, 3, 3}} {
		if got := lesser(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%d and %d: %d", tt[0], tt[1], got)
		}
	}
	if n := memoryThere(); n < 0 {
		t.Errorf("memory there: %d", n)
	}
}
