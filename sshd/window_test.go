package sshd

import (
	"bytes"
	"io"
	"testing"
	"time"
)

// came is a look at k that finds so many bytes come in so long.
func came(k *Channel, bytes int, in time.Duration) {
	k.mu.Lock()
	k.growth.since = time.Now().Add(-in)
	more := k.grown(bytes)
	k.credit += more
	k.mu.Unlock()
	k.announce(more)
}

// A download that fills its window once a round trip is granted more, and the
// client may use it.
func TestWindowGrows(t *testing.T) {
	_, k, local := join(t)
	came(k, firstWindow, time.Second) // the start tells nothing
	came(k, firstWindow, 50*time.Millisecond)
	if k.growth.window != 2*firstWindow {
		t.Fatalf("window %d, want %d", k.growth.window, 2*firstWindow)
	}
	k.mu.Lock()
	k.growth.done = true // however fast this machine reads
	k.mu.Unlock()
	sent := bytes.Repeat([]byte("adit"), firstWindow/2)
	written := make(chan error, 1)
	go func() {
		_, err := local.Write(sent)
		written <- err
	}()
	got := make([]byte, len(sent))
	first := 256 << 10 // the grant goes out with the window of what was read
	if _, err := io.ReadFull(k, got[:first]); err != nil {
		t.Fatal(err)
	}
	if err := within(t, written); err != nil { // the rest waits for nobody to read
		t.Fatal(err)
	}
	if _, err := io.ReadFull(k, got[first:]); err != nil || !bytes.Equal(got, sent) {
		t.Error("bytes differ,", err)
	}
	before := extraWindow.Load()
	k.Close()
	if now := extraWindow.Load(); before-now != firstWindow {
		t.Errorf("%d given back, want %d", before-now, firstWindow)
	}
}

// Where a wider window brings nothing there is no more of it, nor beyond the
// largest.
func TestWindowStopsGrowing(t *testing.T) {
	for name, tt := range map[string]struct {
		factor int64 // by which the rate grows with each look, in percent
		took   time.Duration
		want   int64
	}{
		"gains":         {200, 50 * time.Millisecond, maxWindow},
		"gains nothing": {100, 50 * time.Millisecond, 2 * firstWindow},
		"fast already":  {200, time.Millisecond, firstWindow},
	} {
		t.Run(name, func(t *testing.T) {
			_, k, _ := join(t)
			came(k, firstWindow, time.Second)
			bytes, took := int64(firstWindow), tt.took
			for range 12 {
				came(k, int(max(bytes, k.growth.window)), took*time.Duration(max(bytes, k.growth.window))/time.Duration(bytes))
				bytes = bytes * tt.factor / 100
			}
			if k.growth.window != tt.want {
				t.Errorf("window %d MiB, want %d", k.growth.window>>20, tt.want>>20)
			}
		})
	}
}

// What nobody reads, and what a channel gets that was closed, widens no window:
// what all channels have been granted beyond the first would not be given back.
func TestNoGrowthWithoutAReader(t *testing.T) {
	for name, take := range map[string]func(k *Channel){
		"extended data": func(k *Channel) { k.discard(firstWindow) },
		"closed":        func(k *Channel) { k.Close(); came(k, firstWindow, 50*time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			_, k, _ := join(t)
			came(k, firstWindow, time.Second)
			k.mu.Lock()
			k.growth.since = time.Now().Add(-50 * time.Millisecond)
			k.mu.Unlock()
			take(k)
			if extra := k.growth.extra.Load(); extra != 0 {
				t.Errorf("%d bytes were granted", extra)
			}
		})
	}
}
