//go:build !unix

package keys

import (
	"io/fs"
	"os"
)

// Here files have no Unix owner and mode: access lists decide, and they are
// the operator's to set.

func openRead(path string) (*os.File, error) { return os.Open(path) }

func openReadIn(root *os.Root, name string) (*os.File, error) { return root.Open(name) }

func owner(fs.FileInfo) (uid, gid int, ok bool) { return 0, 0, false }

func inode(fs.FileInfo) uint64 { return 0 }

func writableByOthers(fs.FileInfo) bool { return false }

func readableByOthers(fs.FileInfo) bool { return false }

func lockFolder(*os.File) error { return nil }

func syncFolder(*os.File) error { return nil }
