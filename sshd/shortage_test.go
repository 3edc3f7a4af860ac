package sshd

import (
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// short has a process that may use so much, until the test ends.
func short(t *testing.T, limit int64) {
	before := memory()
	memoryLimit.Store(limit)
	t.Cleanup(func() { memoryLimit.Store(before) })
}

// While memory is short a stream that holds more than a little ends, and does not
// look whole; one whose visitor keeps up goes on, and nothing is counted that is
// not there.
func TestShortOfMemory(t *testing.T) {
	before := unread.Load()
	short(t, 8*(before+1<<20)/3)
	_, slow, local := join(t)
	go local.Write(make([]byte, firstWindow))
	eventually(t, "the slow one has ended", func() bool {
		slow.mu.Lock()
		defer slow.mu.Unlock()
		return slow.spoilt
	})
	if n, err := io.Copy(io.Discard, slow); err == nil {
		t.Errorf("%d bytes look whole", n)
	}
	slow.Close()
	if now := unread.Load(); now != before {
		t.Errorf("%d bytes are counted", now-before)
	}
	_, quick, local := join(t)
	go func() {
		local.Write(make([]byte, 4*firstWindow))
		local.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, quick); n != 4*firstWindow || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// From an eighth on it is whose visitor has just taken nothing.
func TestShortOfMemoryStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, k, local := join(t)
		if _, err := local.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		look := func() bool {
			synctest.Wait()
			short(t, 8*unread.Load()-1)
			k.conn.shed()
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.spoilt
		}
		for range 3 {
			time.Sleep(justNow - 1)
			if look() {
				t.Fatal("cut too early")
			}
			if _, err := io.ReadFull(k, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if time.Sleep(justNow); !look() {
			t.Error("not cut")
		}
	})
}
