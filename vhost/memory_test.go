package vhost

import (
	"runtime"
	"testing"
	"time"
)

// TestIdleVisitor holds one goroutine and little memory: connections that have
// carried requests with bodies, and wait.
func TestIdleVisitor(t *testing.T) {
	const visitors, most = 300, 20 << 10
	g := front(t, rawOrigin(t, answering(benchResponse)).addr)
	var clients []*client
	connect := func() {
		c := g.dial()
		c.send(benchRequest)
		c.response("GET")
		clients = append(clients, c)
	}
	connect()
	memory, goroutines := inUse(), runtime.NumGoroutine()
	for range visitors {
		connect()
	}
	time.Sleep(2 * lull) // timers have run
	each := (int64(inUse()) - int64(memory)) / visitors
	// The test's own ends are in the figure too: a bufio.Reader of 4 KiB and a
	// connection.
	if t.Logf("%d bytes an idle visitor", each); each > most+6<<10 {
		t.Error("too much")
	}
	if n := runtime.NumGoroutine() - goroutines; n > visitors+5 {
		t.Errorf("%d goroutines for %d idle visitors", n, visitors)
	}
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
