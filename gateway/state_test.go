package gateway

import (
	"os"
	"path/filepath"
	"testing"
)

// TestStateFolderIsPrivate: what a first start makes, and the folder itself,
// is its owner's alone, also where mkdir was there before.
func TestStateFolderIsPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
	for name, want := range map[string]os.FileMode{
		"": 0o700, "authorized_keys": 0o700, "host_key": 0o600, "name_secret": 0o600, "adit.db": 0o600,
	} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, info.Mode().Perm(), err)
		}
	}
}
