package acme

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/caddyserver/certmagic"
)

// fullDisk is a storage whose writes fail while it is full.
type fullDisk struct {
	certmagic.Storage
	full atomic.Bool
}

func (d *fullDisk) Store(ctx context.Context, key string, value []byte) error {
	if d.full.Load() {
		return &fs.PathError{Op: "write", Path: key, Err: syscall.ENOSPC}
	}
	return d.Storage.Store(ctx, key, value)
}

func TestStore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	log, _ := logger(t)
	s := newStore(t.TempDir(), log)
	disk := &fullDisk{Storage: s.disk}
	s.disk = disk
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.Store(ctx, "a/on-disk", []byte("1")))
	disk.full.Store(true)
	must(s.Store(ctx, "a/held", []byte("2")))
	must(s.Store(ctx, "a/on-disk", []byte("3")))
	for key, want := range map[string]string{"a/held": "2", "a/on-disk": "3"} {
		if b, err := s.Load(ctx, key); err != nil || string(b) != want || !s.Exists(ctx, key) {
			t.Errorf("%s: %q %v", key, b, err)
		}
		if info, err := s.Stat(ctx, key); err != nil || info.Size != 1 {
			t.Error(key, info, err)
		}
	}
	keys, err := s.List(ctx, "a", true)
	if err != nil || !slices.Equal(keys, []string{"a/held", "a/on-disk"}) {
		t.Error(keys, err)
	}
	if err := s.flush(ctx); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	disk.full.Store(false)
	must(s.flush(ctx))
	if b, err := disk.Load(ctx, "a/on-disk"); err != nil || string(b) != "3" {
		t.Errorf("%q %v", b, err)
	}
	disk.full.Store(true)
	must(s.Store(ctx, path.Join("b", "c", "held"), []byte("4")))
	must(s.Delete(ctx, "b"))
	if s.Exists(ctx, "b/c/held") {
		t.Error("deleted in vain")
	}
}

func TestLocks(t *testing.T) {
	t.Parallel()
	log, _ := logger(t)
	s := newStore(t.TempDir(), log)
	var inside, most atomic.Int32
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if err := s.Lock(t.Context(), "one"); err != nil {
				t.Error(err)
			}
			most.Store(max(most.Load(), inside.Add(1)))
			inside.Add(-1)
			if err := s.Unlock(t.Context(), "one"); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if most.Load() != 1 {
		t.Error(most.Load(), "at once")
	}
	if ok, err := s.TryLock(t.Context(), "one"); !ok || err != nil {
		t.Error(ok, err)
	}
	if ok, _ := s.TryLock(t.Context(), "one"); ok {
		t.Error("taken twice")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Lock(ctx, "one"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Unlock(t.Context(), "another"); err == nil {
		t.Error("was never taken")
	}
}

// Nothing is written once close has returned, and nobody gets a lock.
func TestStoreCloses(t *testing.T) {
	t.Parallel()
	log, _ := logger(t)
	s := newStore(t.TempDir(), log)
	if err := s.Lock(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	var stored atomic.Bool
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.close()
		if !stored.Load() {
			t.Error("closed while a lock was held")
		}
	}()
	eventually(t, "it to close", func() bool {
		ok, err := s.TryLock(t.Context(), "two")
		if ok {
			_ = s.Unlock(t.Context(), "two")
		}
		return errors.Is(err, errClosed)
	})
	stored.Store(true)
	if err := s.Unlock(t.Context(), "one"); err != nil {
		t.Error(err)
	}
	<-closed
	if err := s.Lock(t.Context(), "one"); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

// A kill leaves temporary files, which go at the next start; nothing else does.
func TestStoreSweeps(t *testing.T) {
	t.Parallel()
	log, _ := logger(t)
	s := newStore(filepath.Join(t.TempDir(), "certificates"), log)
	s.sweep() // there is nothing yet
	if err := s.Store(t.Context(), "a/b/1234.key", []byte("1")); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(s.dir, "a", "b", "98765")
	put(t, left, []byte("half a k"))
	s.sweep()
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Error("left:", err)
	}
	if !s.Exists(t.Context(), "a/b/1234.key") {
		t.Error("what was whole is gone")
	}
}

// What is stored while the disk is tried again is not overwritten by what was held
// before.
func TestStoredWhileFlushed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	log, _ := logger(t)
	s := newStore(t.TempDir(), log)
	disk := &fullDisk{Storage: s.disk}
	s.disk = disk
	store := func(value string) {
		if err := s.Store(ctx, "a/b", []byte(value)); err != nil {
			t.Error(err)
		}
	}
	disk.full.Store(true)
	store("old")
	disk.full.Store(false)
	s.before = func() { s.before = nil; store("new") }
	if err := s.flush(ctx); err != nil {
		t.Error(err)
	}
	if b, err := s.Load(ctx, "a/b"); err != nil || string(b) != "new" {
		t.Errorf("%q %v", b, err)
	}
}
