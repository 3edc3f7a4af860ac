//go:build unix

package keys

import (
	"io/fs"
	"os"
	"syscall"
)

// openRead opens without waiting for the other end of a pipe.
func openRead(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// openReadIn is openRead for a file of root, out of which no link leads.
func openReadIn(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// owner is the user and group that fi belongs to.
func owner(fi fs.FileInfo) (uid, gid int, ok bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}

// inode tells files apart that are otherwise alike.
func inode(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}

// writableByOthers reports a mode that lets group or world write.
func writableByOthers(fi fs.FileInfo) bool { return fi.Mode().Perm()&0o022 != 0 }

// readableByOthers reports a mode that lets group or world do anything.
func readableByOthers(fi fs.FileInfo) bool { return fi.Mode().Perm()&0o077 != 0 }

// lockFolder keeps other editors of the folder out until f is closed.
func lockFolder(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }

// syncFolder makes what was renamed in a folder outlast a power failure.
func syncFolder(f *os.File) error { return f.Sync() }
