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
// A file that does not become still is read when its first change is latest
// old: else whoever goes on writing keeps a key in that was taken out.
const (
	settle = 300 * time.Millisecond
	poll   = 500 * time.Millisecond
	latest = 900 * time.Millisecond // the rest of the second is for reading
	step   = 10 * time.Millisecond  // the least time between two looks
)

// change is what happened to a file since it was read.
type change struct{ first, last time.Time }

// still is when the file counts as still, if nothing more happens.
func (c change) still() time.Time { return c.last.Add(settle) }

// due is when the file is to be read.
func (c change) due() time.Time {
	if end := c.first.Add(latest); end.Before(c.still()) {
		return end
	}
	return c.still()
}

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
		s.seen[path] = look(path)
		s.note(path, now, now)
	}
}

// note adds a change of the file at path that was seen at now and may be as old
// as first.
func (f *files) note(path string, first, now time.Time) {
	if c, ok := f.pending[path]; ok {
		first = c.first
	}
	f.pending[path] = change{first, now}
}

// scan looks at every file, reads those that are due, and says when to look
// again.
func (s *Store) scan(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	places, changed := s.places()
	changed = s.disown(now, settle) || changed
	for _, p := range places {
		if s.ripe(p.path, now) {
			changed = s.loadDue(p, now) || changed
		}
	}
	if changed {
		s.publish()
	}
	return s.next(now)
}

// next says when to look again: when the first file is due, and else to poll.
// What is due now was no file any more.
func (f *files) next(now time.Time) time.Duration {
	wait := poll
	if young := now.Sub(f.exposed); young < settle {
		wait = max(settle-young, step)
	}
	for path, c := range f.pending {
		if !c.due().After(now) {
			delete(f.pending, path)
			continue
		}
		wait = min(wait, max(c.due().Sub(now), step))
	}
	return wait
}

// ripe reports whether the file at path has changed and is due. A change that
// is seen now may have come right after the look before.
func (f *files) ripe(path string, now time.Time) bool {
	if seen := look(path); seen != f.seen[path] {
		f.seen[path] = seen
		f.note(path, now.Add(-poll), now)
	}
	c, ok := f.pending[path]
	return ok && !c.due().After(now)
}

// loadDue is load for a file that is due. One that is not still may be half
// written: it is taken as it is, and is due again.
func (f *files) loadDue(p place, now time.Time) (changed bool) {
	busy := f.pending[p.path].still().After(now)
	delete(f.pending, p.path)
	if busy {
		f.note(p.path, now, now)
	}
	return f.load(p, busy)
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
