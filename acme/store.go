package acme

import (
	"context"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"
)

// store is certmagic's file storage with two differences. What the disk does
// not take (it is full, or read-only) is kept in memory and served from there,
// so that an order is never lost nor made again; flush tries the disk anew. And
// its locks are of this process, which has the state folder to itself: a file
// as a lock outlives a kill.
type store struct {
	disk certmagic.Storage
	log  *slog.Logger

	mu    sync.Mutex
	held  map[string][]byte        // what the disk did not take, by key
	err   error                    // why, the last time
	locks map[string]chan struct{} // by name; closed when it is free again
}

var (
	_ certmagic.Storage   = (*store)(nil)
	_ certmagic.TryLocker = (*store)(nil)
)

func newStore(dir string, log *slog.Logger) *store {
	return &store{
		disk: &certmagic.FileStorage{Path: dir}, log: log,
		held: map[string][]byte{}, locks: map[string]chan struct{}{},
	}
}

// Store never fails: see store.
func (s *store) Store(ctx context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.disk.Store(ctx, key, value); err != nil {
		if s.err == nil {
			s.log.Error("certificates: kept in memory only, the disk does not take them", "err", err)
		}
		s.held[key], s.err = slices.Clone(value), err
		return nil
	}
	delete(s.held, key)
	return nil
}

// flush tries to put on disk what is held in memory, and gives why it could
// not.
func (s *store) flush(ctx context.Context) error {
	s.mu.Lock()
	held := maps.Clone(s.held)
	s.mu.Unlock()
	for key, value := range held {
		_ = s.Store(ctx, key, value)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) > 0 {
		return s.err
	}
	if s.err != nil {
		s.log.Info("certificates: stored again")
	}
	s.err = nil
	return nil
}

func (s *store) Load(ctx context.Context, key string) ([]byte, error) {
	if value, ok := s.inMemory(key); ok {
		return value, nil
	}
	return s.disk.Load(ctx, key)
}

func (s *store) inMemory(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.held[key]
	return slices.Clone(value), ok
}

func (s *store) Exists(ctx context.Context, key string) bool {
	if _, ok := s.inMemory(key); ok {
		return true
	}
	return s.disk.Exists(ctx, key)
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
	return s.disk.Stat(ctx, key)
}

// TryLock takes the lock called name if it is free.
func (s *store) TryLock(_ context.Context, name string) (bool, error) {
	return s.take(name) == nil, nil
}

// Lock waits for the lock called name.
func (s *store) Lock(ctx context.Context, name string) error {
	for {
		taken := s.take(name)
		if taken == nil {
			return nil
		}
		select {
		case <-taken:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take takes the lock, or gives what is closed when it is worth trying again.
func (s *store) take(name string) (taken chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if taken = s.locks[name]; taken == nil {
		s.locks[name] = make(chan struct{})
	}
	return taken
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
