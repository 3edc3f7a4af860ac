package keys

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A change is acted on once its file has been still for settle, because an
// editor may empty a file before it writes it. poll finds what no event
// tells of (network file systems, links); together they stay under a second.
const (
	settle = 300 * time.Millisecond
	poll   = 500 * time.Millisecond
	step   = 10 * time.Millisecond // the least time between two looks
)

// sight is what a file looks like from outside.
type sight struct {
	there    bool
	fault    string
	size     int64
	mode     fs.FileMode
	uid      int
	inode    uint64
	modified time.Time
}

// look follows a link, as reading does.
func look(path string) sight {
	fi, err := os.Stat(path)
	if err != nil {
		return sight{fault: errorText(err)}
	}
	uid, _, _ := owner(fi)
	return sight{there: true, size: fi.Size(), mode: fi.Mode(), uid: uid, inode: inode(fi), modified: fi.ModTime()}
}

// Run watches the files until ctx ends, and returns nil then. It is called
// once.
func (s *Store) Run(ctx context.Context) error {
	w := newWatcher(s)
	defer w.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.events:
			s.touch(e.Name, time.Now())
			if next := time.Now().Add(settle); next.Before(due) {
				due = next // never later: a busy file holds up no other
				timer.Reset(settle)
			}
		case err := <-w.errors: // an overflow; polling makes up for it
			s.log.Debug("keys: watching", "err", err)
		case <-timer.C:
			w.follow()
			wait := s.scan(time.Now())
			due = time.Now().Add(wait)
			timer.Reset(wait)
		}
	}
}

// touch marks the file at path as changed at now, and notes what it looks like,
// so that it counts as still from here on.
func (s *Store) touch(path string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := filepath.Base(path); validUser(name) {
		path = filepath.Join(s.dir, name)
		s.seen[path], s.pending[path] = look(path), now
	}
}

// scan looks at every file, reads those that have been still long enough
// after a change, and says when to look again.
func (s *Store) scan(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	places, changed := s.places()
	changed = s.disown(now, settle) || changed
	for _, p := range places {
		if s.ripe(p.path, now) {
			delete(s.pending, p.path)
			changed = s.load(p) || changed
		}
	}
	if changed {
		s.publish()
	}
	return s.next(now)
}

// next says when to look again: when the first file may be still, and else to
// poll. What is ripe now was no file any more.
func (f *files) next(now time.Time) time.Duration {
	wait := poll
	if young := now.Sub(f.exposed); young < settle {
		wait = max(settle-young, step)
	}
	for path, since := range f.pending {
		if now.Sub(since) >= settle {
			delete(f.pending, path)
			continue
		}
		wait = min(wait, max(since.Add(settle).Sub(now), step))
	}
	return wait
}

// ripe reports whether the file at path has changed and then been still for
// the settling time.
func (f *files) ripe(path string, now time.Time) bool {
	if seen := look(path); seen != f.seen[path] {
		f.seen[path] = seen
		f.pending[path] = now
	}
	since, ok := f.pending[path]
	return ok && now.Sub(since) >= settle
}

// watcher hears of changes in one folder. Its channels are nil where there
// is nothing to hear, and polling does it alone.
type watcher struct {
	dir    string
	folder uint64 // the inode watched: a folder put in its place needs a new watch
	notify *fsnotify.Watcher
	events chan fsnotify.Event
	errors chan error
}

// newWatcher is closed by its caller.
func newWatcher(s *Store) *watcher {
	w := &watcher{dir: s.dir}
	if w.dir == "" {
		return w
	}
	n, err := fsnotify.NewWatcher()
	if err != nil {
		s.log.Warn("keys: cannot watch, polling instead", "err", err)
		return w
	}
	w.notify, w.events, w.errors = n, n.Events, n.Errors
	return w
}

// follow watches the folder that now has the name.
func (w *watcher) follow() {
	if w.notify == nil {
		return
	}
	seen := look(w.dir)
	if seen.there && seen.inode == w.folder && len(w.notify.WatchList()) > 0 {
		return
	}
	if w.notify.Add(w.dir) == nil {
		w.folder = seen.inode
	}
}

func (w *watcher) close() {
	if w.notify != nil {
		w.notify.Close()
	}
}
