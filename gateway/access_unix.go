//go:build unix

package gateway

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
)

// mayWrite asks whether this account may make files in dir, or in the nearest
// folder above that is there. It changes nothing.
func mayWrite(dir string) error {
	const write, search = 2, 1 // W_OK, X_OK
	for {
		err := syscall.Access(dir, write|search)
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return err
		}
		dir = filepath.Dir(dir)
	}
}

// ownerOf is the account that a file belongs to.
func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}
