package acme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/caddyserver/certmagic"
)

// store is certmagic's file storage with two differences. What the disk does
// not take (it is full, or read-only) is kept in memory and served from there,
// so that an order is never lost nor made again; flush tries the disk anew. And
// its locks are of this process, which has the state folder to itself: a file
// as a lock outlives a kill.
type store struct {
	dir  string
	disk certmagic.Storage
	log  *slog.Logger

	before func() // called before a write; may be nil

	mu    sync.Mutex
	held  map[string][]byte        // what the disk did not take, by key
	err   error                    // why, the last time
	locks map[string]chan struct{} // by name; closed when it is free again
	shut  bool                     // no lock is given any more
}

var (
	_ certmagic.Storage   = (*store)(nil)
	_ certmagic.TryLocker = (*store)(nil)
)

func newStore(dir string, log *slog.Logger) *store {
	return &store{
		dir: dir, disk: &certmagic.FileStorage{Path: dir}, log: log,
		held: map[string][]byte{}, locks: map[string]chan struct{}{},
	}
}

// sweep removes what a kill left of files that were being written: certmagic
// writes under names of digits only, and no file is called so in the end. Those
// of keys are keys.
func (s *store) sweep() {
	_ = filepath.WalkDir(s.dir, func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Trim(d.Name(), "0123456789") == "" {
			_ = os.Remove(file)
		}
		return nil
	})
}

// Store never fails: see store.
func (s *store) Store(ctx context.Context, key string, value []byte) error {
	if s.before != nil {
		s.before()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(ctx, key, value)
	return nil
}

// write stores on disk, else in memory. s.mu is held.
func (s *store) write(ctx context.Context, key string, value []byte) {
	err := s.disk.Store(ctx, key, value)
	if err == nil {
		delete(s.held, key)
		return
	}
	if s.err == nil {
		s.log.Error("certificates: kept in memory only, the disk does not take them", "err", err)
	}
	s.held[key], s.err = slices.Clone(value), err
}

// flush tries to put on disk what is held in memory, and gives why it could
// not.
func (s *store) flush(ctx context.Context) error {
	if s.before != nil && s.unsaved() > 0 {
		s.before()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, value := range s.held { // what is held now: it may have been renewed
		s.write(ctx, key, value)
	}
	if len(s.held) > 0 {
		return s.err
	}
	if s.err != nil {
		s.log.Info("certificates: stored again")
	}
	s.err = nil
	return nil
}

// unsaved is how many files are held in memory.
func (s *store) unsaved() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

// try says why the disk would not take a certificate; nil where there is no
// folder yet.
func (s *store) try() error {
	if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f, err := os.CreateTemp(s.dir, "") // of digits, for sweep
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, 16<<10)) // a key, a chain, and what is said of them
	return errors.Join(err, f.Sync(), f.Close())
}

func (s *store) Load(ctx context.Context, key string) ([]byte, error) {
	if value, ok := s.inMemory(key); ok {
		return value, nil
	}
	value, err := s.disk.Load(ctx, key)
	return value, missing(err)
}

// missing is err, as that there is no such file where there is not even its
// folder but a file: certmagic orders what is missing, and gives up otherwise.
func missing(err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

func (s *store) inMemory(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.held[key]
	return slices.Clone(value), ok
}

func (s *store) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return !errors.Is(err, fs.ErrNotExist)
}

// Delete removes key and all below it. A disk that cannot write keeps what it
// has, as certmagic is told.
func (s *store) Delete(ctx context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.held, func(k string, _ []byte) bool {
		return k == key || strings.HasPrefix(k, key+"/")
	})
	return s.disk.Delete(ctx, key)
}

func (s *store) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	keys, err := s.disk.List(ctx, prefix, recursive)
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.held {
		if rest, ok := strings.CutPrefix(k, prefix+"/"); ok {
			if !recursive {
				rest, _, _ = strings.Cut(rest, "/")
			}
			keys, err = append(keys, path.Join(prefix, rest)), nil
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), err
}

func (s *store) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if value, ok := s.inMemory(key); ok {
		return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, nil
	}
	info, err := s.disk.Stat(ctx, key)
	return info, missing(err)
}

// TryLock takes the lock called name if it is free.
func (s *store) TryLock(_ context.Context, name string) (bool, error) {
	taken, err := s.take(name)
	return taken == nil && err == nil, err
}

// Lock waits for the lock called name.
func (s *store) Lock(ctx context.Context, name string) error {
	for {
		taken, err := s.take(name)
		if taken == nil {
			return err
		}
		select {
		case <-taken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take takes the lock, or gives what is closed when it is worth trying again.
func (s *store) take(name string) (taken chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch taken = s.locks[name]; {
	case s.shut:
		return nil, errClosed
	case taken == nil:
		s.locks[name] = make(chan struct{})
	}
	return taken, nil
}

// close waits for who holds a lock: certmagic stores under it what it renews in
// the background, and its cache does not wait for that. It then tries the disk
// a last time.
func (s *store) close() {
	s.mu.Lock()
	s.shut = true
	held := slices.Collect(maps.Values(s.locks))
	s.mu.Unlock()
	for _, free := range held {
		<-free
	}
	_ = s.flush(context.Background())
}

// Unlock gives the lock called name back.
func (s *store) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken, ok := s.locks[name]
	if !ok {
		return fs.ErrNotExist
	}
	delete(s.locks, name)
	close(taken)
	return nil
}
