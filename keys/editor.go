package keys

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// tempPrefix begins the names of files that are being written. No user's name
// begins so, and a Store passes them over without a word.
const tempPrefix = ".adit-"

// editor changes one user's file. It keeps other editors out, and works
// within the folder it opened, whatever is put in the folder's place.
type editor struct {
	dir, user string
	guard     guard
	root      *os.Root
	folder    *os.File // the folder itself: the lock, and what is synced
}

// newEditor opens dir for an edit of user's file, and with create makes it if
// it is not there. The caller closes it.
func newEditor(dir, user string, create bool) (*editor, error) {
	if !validUser(user) {
		return nil, errUser(user)
	}
	dir = clean(dir)
	if create {
		if err := makeFolder(dir); err != nil {
			return nil, err
		}
	}
	e := &editor{dir: dir, user: user}
	if err := e.open(); errors.Is(err, fs.ErrNotExist) && !create {
		return nil, errNoUser(user)
	} else if err != nil {
		return nil, fmt.Errorf("folder %s: %w", dir, err)
	}
	return e, nil
}

func (e *editor) open() (err error) {
	if e.guard, err = newGuard(e.dir); err != nil {
		return err
	}
	if err := e.guard.checkFolder(e.dir); err != nil {
		return err
	}
	if e.root, err = os.OpenRoot(e.dir); err != nil {
		return err
	}
	if e.folder, err = e.root.Open("."); err != nil {
		e.root.Close()
		return err
	}
	err = e.lured()
	if err == nil {
		err = lockFolder(e.folder)
	}
	if err != nil {
		e.close()
	}
	return err
}

// lured refuses a folder that is a link where root would follow it for
// another account: whoever owns the state folder chose where it leads, and
// would own what is written there.
func (e *editor) lured() error {
	uid, _, ok := heir(filepath.Dir(e.dir))
	if !ok || uid == 0 {
		return nil
	}
	named, err := os.Lstat(e.dir)
	if err != nil {
		return err
	}
	opened, err := e.folder.Stat()
	if err == nil && !os.SameFile(named, opened) {
		err = errors.New("is a link; run this as the account that the state folder belongs to")
	}
	return err
}

func (e *editor) close() {
	e.folder.Close() // gives up the lock
	e.root.Close()
}

// makeFolder makes dir in a state folder that is there.
func makeFolder(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if uid, gid, ok := heir(filepath.Dir(dir)); ok {
		return os.Lchown(dir, uid, gid)
	}
	return nil
}

// heir is whose the files in a folder that root writes to should be: its
// owner's.
func heir(folder string) (uid, gid int, ok bool) {
	fi, err := os.Stat(folder)
	if err != nil || os.Geteuid() != 0 {
		return 0, 0, false
	}
	return owner(fi)
}

// load reads the user's file. A link is not followed: to write through it
// would change a file that stands elsewhere.
func (e *editor) load() ([]byte, []*line, error) {
	fi, err := e.root.Lstat(e.user)
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(e.dir, e.user)
	if fi.Mode()&fs.ModeSymlink != 0 {
		return nil, nil, fmt.Errorf("%s is a link; edit what it leads to", path)
	}
	f, err := openReadIn(e.root, e.user)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	data, err := readOpen(f, e.guard.checkFile)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	src := &source{path: path, user: e.user}
	src.take(data)
	return data, src.lines, nil
}

// others maps the login keys of all other users to who has them.
func (e *editor) others() (map[digest]string, error) {
	f := newFiles(Config{Dir: e.dir})
	places, _ := f.places()
	has := map[digest]string{}
	for _, p := range places {
		if p.user == e.user {
			continue
		}
		data, err := read(p.path, regular)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.path, err)
		}
		src := &source{path: p.path, user: p.user}
		src.take(data)
		for _, l := range src.lines {
			if !l.options.CertAuthority {
				has[l.key] = l.user
			}
		}
	}
	return has, nil
}

// write puts data in the place of the user's file: the old file or the new
// one is there at every moment, also over a power failure.
func (e *editor) write(data []byte) error {
	temp := tempPrefix + e.user + "-" + rand.Text()
	err := writeNew(e.root, temp, data, filepath.Dir(e.dir))
	if err == nil {
		err = e.root.Rename(temp, e.user)
	}
	if err != nil {
		e.root.Remove(temp)
		return fmt.Errorf("write: %w", err)
	}
	return syncFolder(e.folder)
}

// writeNew writes a new file with mode 0600, to the disk itself. It belongs
// to whoever owns the state folder.
func writeNew(root *os.Root, name string, data []byte, state string) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if uid, gid, ok := heir(state); ok && err == nil {
		err = f.Chown(uid, gid)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
