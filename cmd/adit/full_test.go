//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// fullCmd makes a folder that takes nothing: a small file system of its own,
// filled up. Who may not mount one gets a file in the place of the folder,
// where writing fails as surely.
func fullCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: full DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", dir).CombinedOutput(); err != nil {
		ts.Logf("no file system of its own, but a file: %v, %s", err, out)
		ts.Check(os.Remove(dir))
		ts.Check(os.WriteFile(dir, nil, 0o600))
		return
	}
	ts.Defer(func() { _ = exec.Command("umount", "-l", dir).Run() })
	ts.Check(fill(filepath.Join(dir, "filler")))
}

// fill writes a file for as long as there is room.
func fill(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	return nil
}

// roomCmd is the end of full.
func roomCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: room DIR")
	}
	dir := ts.MkAbs(args[0])
	info, err := os.Lstat(dir)
	ts.Check(err)
	if info.IsDir() {
		dir = filepath.Join(dir, "filler")
	}
	ts.Check(os.Remove(dir))
}
