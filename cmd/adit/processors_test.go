package main

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestProcessors: all of them come into use as soon as those in use are, and go
// by halves when they are not.
func TestProcessors(t *testing.T) {
	p := processors{most: 6}
	n := 6
	for _, step := range []struct {
		what  string
		busy  float64
		line  int
		ticks int
		want  []int // the numbers they change to
	}{
		{"a start", 5.9, 0, 1, nil},
		{"a lull", 0, 0, 20, []int{3, 1}},
		{"a little", 0.84, 0, 20, nil},
		{"more", 0.85, 0, 1, []int{6}},
		{"the same", 0.85, 0, 20, []int{3}},
		{"less", 0.7, 0, calmTicks, []int{1}},
		{"much", 1, 0, 1, []int{6}},
		{"pauses", 0, 0, calmTicks - 1, nil},
		{"and more", 3, 0, 1, nil},
		{"pauses again", 0, 0, calmTicks - 1, nil},
		{"an end", 0, 0, 1, []int{3}},
		{"less", 0.1, 0, calmTicks, []int{1}},
		{"a line now and then", 0.4, 2, lineTicks - 1, nil},
		{"none", 0.4, 1, 1, nil},
		{"a line that stays", 0.4, 2, lineTicks, []int{6}},
		{"on all of them", 0.9, 4, 20, nil},
		{"its end", 0.9, 3, calmTicks, []int{3}},
	} {
		var got []int
		for range step.ticks {
			if next := p.look(n, step.busy, step.line); next != n {
				got, n = append(got, next), next
			}
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v", step.what, got, step.want)
		}
	}
}

// TestProcessorsFollow: the runtime's number does, both ways.
func TestProcessorsFollow(t *testing.T) {
	if _, ok := cpuTime(); !ok {
		t.Skip("the CPU time is not known here")
	}
	t.Setenv("GOMAXPROCS", "")
	runtime.GOMAXPROCS(2)
	defer runtime.SetDefaultGOMAXPROCS()
	p := newProcessors()
	p.at = time.Now().Add(-time.Hour) // in which next to nothing was used
	p.tick()
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Errorf("%d when nothing is to do", n)
	}
	p.all()
	if n := runtime.GOMAXPROCS(0); n != p.most {
		t.Errorf("%d of %d before a wait for the disk", n, p.most)
	}
	p.calm = calmTicks
	p.at = time.Now().Add(-time.Hour)
	p.tick()
	p.used -= time.Hour
	p.tick()
	if n := runtime.GOMAXPROCS(0); n != p.most {
		t.Errorf("%d of %d when one is busy", n, p.most)
	}

	t.Setenv("GOMAXPROCS", "2")
	if p := newProcessors(); p.most != 0 {
		t.Errorf("%d, though it has been said", p.most)
	}
}

// TestInLine: the runtime still has the metric, and counts who cannot run.
func TestInLine(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	most := 0
	for range 10 { // the test may itself have to wait in between
		var wait sync.WaitGroup
		for range 10 {
			wait.Go(func() {})
		}
		most = max(most, inLine())
		wait.Wait()
	}
	if most < 10 {
		t.Errorf("at most %d goroutines in line", most)
	}
}
