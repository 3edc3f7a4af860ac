//go:build unix

package keys

import (
	"os"
	"syscall"
	"testing"
)

// A pipe must not stop the reader, nor a folder or a huge file.
func TestOddFiles(t *testing.T) {
	dir := testDir(t, map[string]string{"bob": testLine("bob")})
	if err := syscall.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Skip(err)
	}
	if err := os.Mkdir(dir+"/folder", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/huge", "")
	if err := os.Truncate(dir+"/huge", maxFile+1); err != nil {
		t.Fatal(err)
	}
	s := testStore(t, dir)
	if who(s, "bob") != "bob" {
		t.Error(who(s, "bob"))
	}
	if p := s.Problems(); len(p) != 3 || !p[0].Fatal || !p[1].Fatal || !p[2].Fatal {
		t.Errorf("%+v", p)
	}
}
