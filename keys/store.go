package keys

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config says where keys are.
type Config struct {
	// Dir is the folder of authorized_keys files, which must exist; its parent
	// is the state folder, whose owner may own the files. Empty: no folder.
	Dir string
	// Files are public key files outside Dir, one key a line and no options. A
	// key that a file in Dir names is as that file says, and not theirs.
	// They need not exist, and the last element may be a pattern as
	// filepath.Match has them, for those that there are by then.
	Files []string
	// FilesUser is the user that Files belong to, who may have a file in Dir
	// as well.
	FilesUser string
	// Logger hears of changes and problems. nil: slog.Default().
	Logger *slog.Logger
	// Now is the clock that expiry is decided by. nil: time.Now.
	Now func() time.Time
}

// Store answers who a key is, from files that may change while it runs. Its
// methods may be called at the same time.
type Store struct {
	log *slog.Logger
	now func() time.Time
	set atomic.Pointer[set] // what lookups read; replaced whole

	mu sync.Mutex // guards files: they are read by one at a time
	files
}

// Open reads every file. A line or a file that is not right is a Problem, not
// an error; a folder that is missing (fs.ErrNotExist), unreadable or not safe
// from others is.
func Open(cfg Config) (*Store, error) {
	s := &Store{log: cfg.Logger, now: cfg.Now, files: newFiles(cfg)}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.readAll(time.Now())
	if s.folder != nil {
		return nil, fmt.Errorf("keys: folder %s: %w", cfg.Dir, s.folder)
	}
	s.publish()
	return s, nil
}

// Reload reads every file now, however short ago it changed. What cannot be
// read keeps its last good state and is in the error.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readAll(time.Now()) {
		s.publish()
	}
	return s.faults("")
}

// Changed is closed when what the files say has changed; ask again for the
// next change. Expiry is no such change: see Key.Expires.
func (s *Store) Changed() <-chan struct{} { return s.set.Load().changed }

// Users lists who has at least one usable key, by name.
func (s *Store) Users() []User { return s.set.Load().users(s.now()) }

// Problems lists what is wrong with the files, by file and line.
func (s *Store) Problems() []Problem { return slices.Clone(s.set.Load().problems) }

// publish puts what the files say in force. The caller holds mu.
func (s *Store) publish() {
	before := s.set.Load()
	next := build(s.ordered(), s.general(), before)
	s.set.Store(next)
	var known []Problem
	if before != nil {
		known = before.problems
		close(before.changed)
	}
	s.logNew(next.problems, known)
	s.log.Info("keys read", "users", len(next.users(s.now())), "keys", len(next.keys), "authorities", len(next.cas))
}

// logNew logs each problem when it comes up.
func (s *Store) logNew(problems, known []Problem) {
	old := make(map[Problem]bool, len(known))
	for _, p := range known {
		old[p] = true
	}
	for _, p := range problems {
		if !old[p] {
			s.log.Warn("keys: "+p.Message, "file", p.Where())
		}
	}
}
