package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// guard is sshd's StrictModes: files and folders must be safe from others.
// Owners may be root, this process's account and the state folder's owner.
type guard struct {
	uids []int
}

// exposed is the error of a file or folder that is not safe from others. What
// it says is not believed, and neither is what it said before: as to sshd, its
// keys are nobody's.
type exposed struct{ text string }

func (e exposed) Error() string { return e.text }

func isExposed(err error) bool { return errors.As(err, new(exposed)) }

// newGuard looks up who owns the state folder, the parent of dir.
func newGuard(dir string) (guard, error) {
	fi, err := os.Stat(filepath.Dir(dir))
	if err != nil {
		return guard{}, err
	}
	uid, _, _ := owner(fi)
	return guard{uids: []int{0, os.Geteuid(), uid}}, nil
}

// check refuses what others own or may write. In a sticky folder others may
// write but not replace.
func (g guard) check(fi fs.FileInfo) error {
	if uid, _, ok := owner(fi); ok && !slices.Contains(g.uids, uid) {
		return exposed{fmt.Sprintf("belongs to another account (uid %d)", uid)}
	}
	sticky := fi.IsDir() && fi.Mode()&fs.ModeSticky != 0
	if writableByOthers(fi) && !sticky {
		return exposed{fmt.Sprintf("may be written by others (mode %04o): chmod go-w", fi.Mode().Perm())}
	}
	return nil
}

// checkFile is check for an open authorized_keys file.
func (g guard) checkFile(fi fs.FileInfo) error {
	if err := regular(fi); err != nil {
		return err
	}
	return g.check(fi)
}

// checkFolder checks dir and the state folder around it: who may write there
// can put another folder in dir's place. A link is followed to its target,
// whose folders are checked up to the root.
func (g guard) checkFolder(dir string) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return errors.New("is not a folder")
	}
	if err := g.check(fi); err != nil {
		return err
	}
	if err := g.checkParent(dir); err != nil {
		return err
	}
	return g.checkTarget(dir)
}

func (g guard) checkParent(path string) error {
	fi, err := os.Stat(filepath.Dir(path))
	if err == nil {
		err = g.check(fi)
	}
	if err != nil {
		return fmt.Errorf("stands in a folder that %w", err)
	}
	return nil
}

// checkTarget checks every folder above what the link at path leads to; for
// anything but a link there is nothing to do.
func (g guard) checkTarget(path string) error {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		return err
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for target != filepath.Dir(target) {
		if err := g.checkParent(target); err != nil {
			return fmt.Errorf("leads to a file that %w", err)
		}
		target = filepath.Dir(target)
	}
	return nil
}
