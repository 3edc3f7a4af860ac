//go:build unix

package gateway

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMayWrite: a folder that is there is asked, and else the one in which it
// would be made.
func TestMayWrite(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "a", "b")} {
		if err := mayWrite(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "a", "b")} {
		if mayWrite(path) == nil {
			t.Errorf("%s may be written", path)
		}
	}
}
