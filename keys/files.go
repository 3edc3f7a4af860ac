package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// files is the reading side of a Store: what was last read and seen, and
// what is wrong with it.
type files struct {
	dir    string
	extra  []place // paths are patterns
	opener func(string, func(fs.FileInfo) error) ([]byte, error)

	guard   guard
	sources map[string]*source // by path
	folder  error              // why the folder cannot be used now
	exposed time.Time          // since when it is exposed to others; zero: it is not
	skipped []string           // names in the folder that are no user's

	seen    map[string]sight  // what each file last looked like
	pending map[string]change // of files that are to be read
}

func newFiles(cfg Config) files {
	f := files{dir: clean(cfg.Dir), opener: read, sources: map[string]*source{},
		seen: map[string]sight{}, pending: map[string]change{}}
	for _, path := range cfg.Files {
		f.extra = append(f.extra, place{path: path, user: cfg.FilesUser, public: true})
	}
	return f
}

// clean takes the slashes off the end, so that the parent can be told.
func clean(dir string) string {
	if dir == "" {
		return ""
	}
	return filepath.Clean(dir)
}

// place is one file to read.
type place struct {
	path, user string
	public     bool // outside the folder
}

// readAll reads every file now and reports whether anything changed. What
// changed within the settling time is read once more when that is over: its
// time of change may be too coarse to show the next one.
func (f *files) readAll(now time.Time) (changed bool) {
	places, changed := f.places()
	changed = f.disown(now, 0) || changed
	for _, p := range places {
		delete(f.pending, p.path)
		f.seen[p.path] = look(p.path)
		if now.Sub(f.seen[p.path].modified) < settle {
			f.note(p.path, now, now)
		}
		changed = f.load(p, false) || changed
	}
	return changed
}

// places lists the files that are there and those that were, and reports
// whether the folder as a whole changed. A folder that cannot be read says
// nothing about its files: they are left as they are. One that is gone has
// none; for one that is exposed to others see disown.
func (f *files) places() (list []place, changed bool) {
	names, skipped, err := f.listFolder()
	changed = errorText(err) != errorText(f.folder) || !slices.Equal(skipped, f.skipped)
	if f.folder != nil && err == nil {
		clear(f.seen) // what happened meanwhile was not looked at
	}
	f.folder, f.skipped = err, skipped
	list = f.outside()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return list, changed
	}
	for _, name := range names {
		list = append(list, place{path: filepath.Join(f.dir, name), user: name})
	}
	for path, src := range f.sources {
		if _, there := slices.BinarySearch(names, src.user); !there && !src.public {
			list = append(list, place{path: path, user: src.user})
		}
	}
	return list, changed
}

// outside lists the files that are there and not of the folder, and those
// that were. What ssh-keygen -s puts beside a key is its certificate and no
// file of keys.
func (f *files) outside() (list []place) {
	for _, p := range f.extra {
		dir, pattern := filepath.Split(p.path)
		entries, _ := os.ReadDir(dir) // no folder: no files
		for _, e := range entries {
			if ok, _ := filepath.Match(pattern, e.Name()); ok && !strings.HasSuffix(e.Name(), "-cert.pub") {
				list = append(list, place{path: filepath.Join(dir, e.Name()), user: p.user, public: true})
			}
		}
	}
	for path, src := range f.sources {
		gone := !slices.ContainsFunc(list, func(p place) bool { return p.path == path })
		if src.public && gone {
			list = append(list, place{path: path, user: src.user, public: true})
		}
	}
	return list
}

// disown drops the users of a folder that has been exposed to others for so
// long, and reports whether there were any.
func (f *files) disown(now time.Time, long time.Duration) (changed bool) {
	switch {
	case !isExposed(f.folder):
		f.exposed = time.Time{}
		return false
	case f.exposed.IsZero():
		f.exposed = now
	}
	if now.Sub(f.exposed) < long {
		return false
	}
	for path, src := range f.sources {
		if !src.public {
			delete(f.sources, path)
			changed = true
		}
	}
	return changed
}

// listFolder lists the users who have a file, by name, and what is no user's.
func (f *files) listFolder() (names, skipped []string, err error) {
	if f.dir == "" {
		return nil, nil, nil
	}
	if f.guard, err = newGuard(f.dir); err != nil {
		return nil, nil, err
	}
	if err := f.guard.checkFolder(f.dir); err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case validUser(name):
			names = append(names, name)
		case !strings.HasPrefix(name, tempPrefix):
			skipped = append(skipped, name)
		}
	}
	return names, skipped, nil
}

// validUser reports whether name is [a-z0-9][a-z0-9_-]{0,63}.
func validUser(name string) bool {
	if name == "" || len(name) > 64 || name[0] == '_' || name[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(name, notUser)
}

const userBytes = "abcdefghijklmnopqrstuvwxyz0123456789_-"

func notUser(r rune) bool { return !strings.ContainsRune(userBytes, r) }

// load reads one file and reports whether that changed what is known. A file
// that is gone, or exposed to others, takes its keys along; one that cannot be
// read does not. With busy it counts also as it is while somebody writes it.
func (f *files) load(p place, busy bool) (changed bool) {
	data, err := f.readPlace(p)
	if busy && errors.Is(err, errChanging) {
		err = nil
	}
	src := f.sources[p.path]
	if errors.Is(err, fs.ErrNotExist) {
		delete(f.sources, p.path)
		return src != nil
	}
	if err != nil {
		delete(f.seen, p.path) // so that it is tried again
	}
	if errors.Is(err, errChanging) && src != nil {
		return false
	}
	if src == nil {
		src = &source{path: p.path, user: p.user, public: p.public}
		f.sources[p.path] = src
	}
	changed = src.fault != errorText(err)
	src.fault = errorText(err)
	if isExposed(err) {
		return src.forget() || changed
	}
	return err == nil && src.take(data) || changed
}

// readPlace reads one file if it is safe to believe.
func (f *files) readPlace(p place) ([]byte, error) {
	if p.public {
		return f.opener(p.path, regular)
	}
	if err := f.guard.checkTarget(p.path); err != nil {
		return nil, err
	}
	return f.opener(p.path, f.guard.checkFile)
}

// errorText is a phrase for err without the path that it may carry.
func errorText(err error) string {
	var path *fs.PathError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &path):
		return "cannot be read: " + path.Err.Error()
	}
	return err.Error()
}

// ordered is the sources in the order in which their lines count: the folder
// by name, then the files outside.
func (f *files) ordered() []*source {
	return slices.SortedFunc(maps.Values(f.sources), func(a, b *source) int {
		switch {
		case a.public == b.public:
			return strings.Compare(a.path, b.path)
		case b.public:
			return -1
		}
		return 1
	})
}

// general is what is wrong with the folder.
func (f *files) general() (list []Problem) {
	outcome := "; what was last read there stays in force"
	switch {
	case errors.Is(f.folder, fs.ErrNotExist):
		outcome = "; it has no users"
	case isExposed(f.folder):
		outcome = "; no key in it counts"
	}
	if f.folder != nil {
		list = append(list, Problem{File: f.dir, Fatal: true, Message: "the folder " + errorText(f.folder) + outcome})
	}
	for _, name := range f.skipped {
		list = append(list, Problem{File: f.dir,
			Message: "file " + quote(name) + " is passed over: user names are [a-z0-9][a-z0-9_-]{0,63}"})
	}
	return list
}

// faults joins what cannot be read now, of one user or for "" of all.
func (f *files) faults(user string) error {
	var list []error
	if f.folder != nil {
		list = append(list, fmt.Errorf("keys: folder %s: %w", f.dir, f.folder))
	}
	for _, src := range f.ordered() {
		if src.fault != "" && (user == "" || user == src.user) {
			list = append(list, fmt.Errorf("keys: %s %s", src.path, src.fault))
		}
	}
	return errors.Join(list...)
}
