package main

import (
	"os"
	"path/filepath"
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

// TestGroupMemory: the limit is that of the process's own control group, or of
// one above it, wherever it is the least.
func TestGroupMemory(t *testing.T) {
	const none1 = "9223372036854771712\n"
	for _, tt := range []struct {
		what, list string
		files      map[string]string
		want       int64
	}{
		{"no list", "", map[string]string{"memory.max": "5\n"}, 0},
		{"no files", "0::/a/b\n", nil, 0},
		{"version 2, own", "0::/system.slice/adit.service\n", map[string]string{
			"system.slice/adit.service/memory.max": "300\n", "system.slice/memory.max": "max\n"}, 300},
		{"version 2, above", "0::/system.slice/adit.service\n", map[string]string{
			"system.slice/adit.service/memory.max": "max\n", "system.slice/memory.max": "200\n"}, 200},
		{"version 2, root", "0::/\n", map[string]string{"memory.max": "100\n"}, 100},
		{"version 2, a container's root", "0::/docker/1\n", map[string]string{"memory.max": "100\n"}, 100},
		{"version 2, outside of the namespace", "0::/../../other\n", map[string]string{"memory.max": "100\n"}, 100},
		{"version 2, a neighbour's", "0::/a\n", map[string]string{"b/memory.max": "100\n"}, 0},
		{"version 2, none", "0::/a\n", map[string]string{"a/memory.max": "max\n"}, 0},
		{"version 1, own", "4:memory:/a/b\n0::/\n", map[string]string{
			"memory/a/b/memory.limit_in_bytes": "300\n", "memory/a/memory.limit_in_bytes": none1, "memory/memory.limit_in_bytes": none1}, 300},
		{"version 1, above, beside others", "3:cpu:/x\n4:hugetlb,memory:/a/b\n", map[string]string{
			"memory/a/b/memory.limit_in_bytes": "300\n", "memory/a/memory.limit_in_bytes": "200\n"}, 200},
		{"version 1, none", "4:memory:/a\n", map[string]string{"memory/a/memory.limit_in_bytes": none1}, 0},
		{"a colon", "0::/a:b\n", map[string]string{"a:b/memory.max": "7\n"}, 7},
		{"nonsense", "memory\n\n0:\n", map[string]string{"memory.max": "5\n"}, 0},
	} {
		dir := t.TempDir()
		write := func(name, text string) {
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("list", tt.list)
		for name, text := range tt.files {
			write("root/"+name, text)
		}
		if got := groupMemory(filepath.Join(dir, "list"), filepath.Join(dir, "root")); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.what, got, tt.want)
		}
	}
}
