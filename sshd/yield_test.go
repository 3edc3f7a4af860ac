package sshd

import (
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// TestYield: where there is one processor, goroutines that would have it to
// themselves let a connection's bytes go to and fro in a few of their turns.
// With Gosched in yield's place it is some hundred thousand.
func TestYield(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	server, client := pair(t)
	var stop atomic.Bool
	var turns atomic.Int64
	var wait sync.WaitGroup
	wait.Go(func() { io.Copy(server, server); server.Close() })
	for range 3 {
		wait.Go(func() {
			for f := flow(0); !stop.Load(); turns.Add(1) {
				f.moved(yieldBytes, false)
			}
		})
	}
	const trips = 100
	b := []byte("x")
	for range trips {
		client.Write(b)
		if _, err := io.ReadFull(client, b); err != nil {
			t.Fatal(err)
		}
	}
	if n := turns.Load(); n > 100*trips {
		t.Errorf("%d turns for %d round trips", n, trips)
	}
	stop.Store(true)
	client.Close()
	wait.Wait()
}

// TestFlow: who waits anyhow does not yield.
func TestFlow(t *testing.T) {
	var f flow
	for range 10 {
		f.moved(yieldBytes-1, false)
		if f.moved(0, true); f != 0 {
			t.Fatalf("%d bytes since the last wait", f)
		}
	}
	if f.moved(yieldBytes, false); f != 0 {
		t.Errorf("%d bytes after others were let in", f)
	}
}
