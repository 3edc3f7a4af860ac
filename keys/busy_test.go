package keys

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A key that was taken out of a file goes within a second, also where the file is
// written again and again and never becomes still. Here the file is polled: of one
// in the folder an event may tell, and those come by no clock of a test's.
func TestBusyFile(t *testing.T) {
	pub := filepath.Join(t.TempDir(), "id.pub")
	write(t, pub, testLine("old")+"\n"+testLine("both"))
	synctest.Test(t, func(t *testing.T) {
		s := testStore(t, "", func(c *Config) { c.Files, c.FilesUser = []string{pub}, "me" })
		running(t, s)
		time.Sleep(time.Minute + time.Millisecond) // just after a look
		begun := time.Now()
		for i := 0; who(s, "old") == "me" && time.Since(begun) < time.Minute; i++ {
			if i%20 == 0 {
				write(t, pub, testLine("both")+strings.Repeat("\n", i))
			}
			time.Sleep(10 * time.Millisecond)
		}
		if d := time.Since(begun); d > time.Second || d < settle {
			t.Error("acted on after", d)
		}
		if who(s, "both") != "me" {
			t.Error(who(s, "both"))
		}
	})
}

// The same with events, whose number does not matter.
func TestBusyFileInFolder(t *testing.T) {
	t.Parallel()
	dir := testDir(t, map[string]string{"ann": testLine("old")})
	s := testStore(t, dir)
	running(t, s)
	eventually(t, "the old key to go", func() bool {
		write(t, dir+"/ann", testLine("new"))
		return who(s, "old") != "ann"
	})
	eventually(t, "the new key", func() bool { return who(s, "new") == "ann" })
}

// The first change counts, by event, and a busy file is read again: by then it
// may be whole.
func TestBusyFileIsReadAgain(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("old")})
	s := testStore(t, dir)
	now := time.Now().Add(time.Hour)
	s.scan(now)
	now = now.Add(time.Minute)
	keep := func(text string, until time.Duration) {
		for end := now.Add(until); now.Before(end); now = now.Add(settle / 3) {
			write(t, dir+"/ann", text)
			s.touch(dir+"/ann", now)
			s.scan(now)
		}
	}
	keep(testLine("half")[:30], latest)
	if who(s, "old") != "ann" {
		t.Error("acted on too early:", who(s, "old"))
	}
	if wait := s.scan(now); who(s, "old") == "ann" || wait > settle {
		t.Error("not acted on:", who(s, "old"), wait)
	}
	keep(testLine("new"), latest)
	if s.scan(now); who(s, "new") != "ann" {
		t.Error(who(s, "new"))
	}
}

// A file that is written at every moment, also while it is read, is taken as it
// is in the end.
func TestFileIsAlwaysWritten(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("old")})
	s := testStore(t, dir)
	now := time.Now().Add(time.Hour)
	s.scan(now)
	s.opener = func(path string, check func(fs.FileInfo) error) ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readOpen(f, func(fi fs.FileInfo) error {
			write(t, path, strings.Repeat("\n", int(fi.Size())+9))
			return check(fi)
		})
	}
	write(t, dir+"/ann", "\n")
	s.touch(dir+"/ann", now)
	for end := now.Add(latest); now.Before(end); {
		now = now.Add(step)
		s.touch(dir+"/ann", now)
		s.scan(now)
	}
	if who(s, "old") == "ann" {
		t.Error("the old key stays")
	}
}

// A file that is read while it is written may end anywhere. Each key is then as
// the whole file says or not there: never with other options.
func TestTornFile(t *testing.T) {
	dir := testDir(t, nil)
	keys := []string{"a", "b", "c", "d"}
	text := "# keys\n" + testLine("a") + "\n" + `from="127.0.0.0/8",permitlisten="x:80",no-pty ` + testLine("b") +
		"\n" + `restrict ` + testLine("c") + "\r\n" + `max-tunnels@adit="3" ` + testLine("c") + "\n" +
		`command="x ` + testLine("d") + `" ` + testLine("d") + "\n"
	whole := tornOptions(t, dir, text, keys)
	for n := range len(text) {
		for name, got := range tornOptions(t, dir, text[:n], keys) {
			if got != whole[name] && got != "is not registered here" {
				t.Errorf("%q: %s is %q, want %q", text[:n], name, got, whole[name])
			}
		}
	}
}

// tornOptions is what text says of keys: their options, or why they are not let in.
func tornOptions(t *testing.T, dir, text string, keys []string) map[string]string {
	t.Helper()
	write(t, dir+"/ann", text)
	s, said := testStore(t, dir), map[string]string{}
	for _, name := range keys {
		if k, err := s.Authenticate(testKey(name), home); err != nil {
			said[name] = reason(err)
		} else {
			said[name] = "options " + k.Options.String()
		}
	}
	return said
}
