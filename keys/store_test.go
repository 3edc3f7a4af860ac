package keys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestAuthenticate(t *testing.T) {
	dir := testDir(t, map[string]string{
		"ann": "# Ann\n\n" + testLine("ann") + "\r\n" + `restrict,max-tunnels@adit="3" ` + testLine("ann2"),
	})
	s := testStore(t, dir)
	k, err := s.Authenticate(testKey("ann"), home)
	if err != nil {
		t.Fatal(err)
	}
	fp := ssh.FingerprintSHA256(testKey("ann"))
	if k.User != "ann" || k.Fingerprint != fp || k.Identity != fp || !k.Expires.IsZero() || k.Source != dir+"/ann:3" {
		t.Errorf("%+v", k)
	}
	if !k.Options.PortForwarding || !k.Options.PTY {
		t.Errorf("%+v", k.Options)
	}
	k, err = s.Authenticate(testKey("ann2"), home)
	if err != nil || k.Options.PortForwarding || k.Options.MaxTunnels != 3 || k.Source != dir+"/ann:4" {
		t.Errorf("%+v, %v", k, err)
	}
	var r *Refusal
	if _, err := s.Authenticate(testKey("eve"), home); !errors.As(err, &r) || !r.Unknown {
		t.Fatal(err)
	} else if r.Fingerprint != ssh.FingerprintSHA256(testKey("eve")) || r.Reason != "is not registered here" {
		t.Errorf("%+v", r)
	}
}

// The first line whose options allow the key counts, as in sshd.
func TestSameKeyTwice(t *testing.T) {
	s := testStore(t, testDir(t, map[string]string{"ann": strings.Join([]string{
		`command="ls" ` + testLine("ann"),
		`from="10.0.0.1" ` + testLine("ann"),
		`expiry-time="20200101" ` + testLine("ann"),
		`no-pty ` + testLine("ann"),
		testLine("ann"),
		`command="ls" ` + testLine("ann2"),
		`from="10.0.0.1" ` + testLine("ann2"),
	}, "\n")}))
	k, err := s.Authenticate(testKey("ann"), home)
	if err != nil || k.Options.PTY || !strings.HasSuffix(k.Source, "/ann:4") {
		t.Errorf("%+v, %v", k, err)
	}
	if got := who(s, "ann2"); !strings.Contains(got, `option "command"`) {
		t.Errorf("the first reason counts: %s", got)
	}
	if u := s.Users(); len(u) != 1 || u[0] != (User{"ann", 2}) {
		t.Errorf("%v", u)
	}
}

func TestExpiry(t *testing.T) {
	now := noon
	s := testStore(t, testDir(t, map[string]string{"ann": `expiry-time="20260601120000Z" ` + testLine("ann")}),
		func(c *Config) { c.Now = func() time.Time { return now } })
	k, err := s.Authenticate(testKey("ann"), home)
	if err != nil || !k.Expires.Equal(noon.Add(time.Second)) {
		t.Fatal(k, err)
	}
	now = k.Expires.Add(-1)
	if _, err := s.Check(k, home); err != nil {
		t.Error("refused within its last second:", err)
	}
	now = k.Expires
	if _, err := s.Check(k, home); reason(err) != "expired on 2026-06-01" {
		t.Error(err)
	}
	if u := s.Users(); len(u) != 0 {
		t.Errorf("an expired key counts as usable: %v", u)
	}
}

func TestUserNames(t *testing.T) {
	good := []string{"a", "0", "ann", "ann-b_c", strings.Repeat("x", 64)}
	bad := []string{"", ".", "..", "-a", "_a", "Ann", "ann.bak", "ann~", ".ann.swp", "#ann#", "a b",
		"änn", "a\x00", "a\n", "../../etc/x", "a/b", "%2e%2e", "\u202ea", strings.Repeat("x", 65), tempPrefix + "x"}
	for _, n := range good {
		if !validUser(n) {
			t.Errorf("%q refused", n)
		}
	}
	for _, n := range bad {
		if validUser(n) {
			t.Errorf("%q taken", n)
		}
	}
}

func TestOtherFilesArePassedOver(t *testing.T) {
	var log logBuffer
	dir := testDir(t, map[string]string{"ann": testLine("ann"), "ann~": testLine("eve"), "Bob": testLine("eve"),
		"x\x1b[2J": "", tempPrefix + "ann-1": testLine("eve")})
	s := testStore(t, dir, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if got := who(s, "eve"); got != "is not registered here" {
		t.Error(got)
	}
	if n := strings.Count(log.String(), "is passed over"); n != 3 || strings.Contains(log.String(), "\x1b") {
		t.Errorf("%d lines: %q", n, log.String())
	}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "is passed over"); n != 3 {
		t.Errorf("said again: %q", log.String())
	}
	for _, p := range s.Problems() {
		if p.Fatal {
			t.Errorf("%+v", p)
		}
	}
}

func TestBadLinesAreProblems(t *testing.T) {
	text := strings.Join([]string{
		testLine("ann"), "garbage", `command="x" ` + testLine("b"), testLine("c") + "\x00",
		strings.Repeat("x", 1<<20), `from="*.example.com" ` + testLine("d"), testLine("e"),
	}, "\n")
	dir := testDir(t, map[string]string{"ann": text})
	s := testStore(t, dir)
	var lines []int
	for _, p := range s.Problems() {
		lines = append(lines, p.Line)
		if p.File != dir+"/ann" || p.Fatal || len(p.Message) > 400 {
			t.Errorf("%+v", p)
		}
	}
	if fmt.Sprint(lines) != "[2 3 4 5 6]" {
		t.Errorf("lines %v", lines)
	}
	if who(s, "ann") != "ann" || who(s, "e") != "ann" || who(s, "c") == "ann" {
		t.Error("a bad line touched another")
	}
}

// A key under two users is nobody's at start, and later whose it was.
func TestKeyUnderTwoUsers(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("k"), "bob": testLine("k") + "\n" + testLine("bob")})
	s := testStore(t, dir)
	if got := who(s, "k"); !strings.Contains(got, "more than one user") {
		t.Error(got)
	}
	if who(s, "bob") != "bob" {
		t.Error("bob lost his other key")
	}
	p := s.Problems()
	if len(p) != 1 || !p[0].Fatal || !strings.Contains(p[0].Message, "neither") || p[0].File != dir+"/bob" {
		t.Errorf("%+v", p)
	}
	write(t, dir+"/bob", testLine("bob"))
	reloadNow(t, s)
	if who(s, "k") != "ann" || len(s.Problems()) != 0 {
		t.Error(who(s, "k"), s.Problems())
	}
	write(t, dir+"/bob", testLine("k"))
	write(t, dir+"/aaa", "restrict "+testLine("k"))
	reloadNow(t, s)
	if p := s.Problems(); who(s, "k") != "ann" || len(p) != 1 || !strings.Contains(p[0].Message, "ann keeps it") {
		t.Error(who(s, "k"), s.Problems())
	}
	if err := os.Remove(dir + "/ann"); err != nil {
		t.Fatal(err)
	}
	reloadNow(t, s)
	if got := who(s, "k"); !strings.Contains(got, "more than one user") {
		t.Error("a newcomer took it:", got)
	}
}

// A line that is refused gives its user no claim on the key.
func TestRefusedLineClaimsNothing(t *testing.T) {
	s := testStore(t, testDir(t, map[string]string{"ann": `command="x" ` + testLine("k"), "bob": testLine("k")}))
	if who(s, "k") != "bob" {
		t.Error(who(s, "k"))
	}
}

// An identity never passes to another user while its connection lives.
func TestCheckKeepsTheUser(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("k")})
	s := testStore(t, dir)
	k, err := s.Authenticate(testKey("k"), home)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/ann", dir+"/bob"); err != nil {
		t.Fatal(err)
	}
	reloadNow(t, s)
	if who(s, "k") != "bob" {
		t.Error(who(s, "k"))
	}
	if _, err := s.Check(k, home); reason(err) != "belongs to another user now" {
		t.Error(err)
	}
}

func TestCheckOfAStranger(t *testing.T) {
	s := testStore(t, testDir(t, nil))
	if _, err := s.Check(&Key{User: "ann", Fingerprint: "SHA256:x"}, home); reason(err) != "is not registered here" {
		t.Error(err)
	}
}

func TestFilesOutside(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("ann")})
	pub := filepath.Join(t.TempDir(), "id.pub")
	write(t, pub, testLine("laptop")+"\n"+"restrict "+testLine("opt")+"\n")
	if err := os.Chmod(pub, 0o666); err != nil { // no StrictModes here
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "none.pub")
	s := testStore(t, dir, func(c *Config) { c.Files, c.FilesUser = []string{pub, missing}, "ann" })
	if who(s, "laptop") != "ann" || who(s, "ann") != "ann" || who(s, "opt") == "ann" {
		t.Error(who(s, "laptop"), who(s, "ann"), who(s, "opt"))
	}
	if u := s.Users(); len(u) != 1 || u[0].Keys != 2 {
		t.Errorf("%v", u)
	}
	write(t, missing, testLine("new"))
	if err := os.Remove(pub); err != nil {
		t.Fatal(err)
	}
	reloadNow(t, s)
	if who(s, "laptop") == "ann" || who(s, "new") != "ann" {
		t.Error(who(s, "laptop"), who(s, "new"))
	}
}

// Keys that are made while the store runs are those of a pattern too, each
// until it goes.
func TestFilesOutsideByPattern(t *testing.T) {
	ssh := filepath.Join(t.TempDir(), ".ssh")
	s := testStore(t, "", func(c *Config) { c.Files, c.FilesUser = []string{filepath.Join(ssh, "id_*.pub")}, "me" })
	if err := os.Mkdir(ssh, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]string{"id_a.pub": "a", "id_b.pub": "b", "id_c": "c", "work.pub": "d", "id_e.pub~": "e", "id_a-cert.pub": "f"} {
		write(t, filepath.Join(ssh, name), testLine(key))
	}
	reloadNow(t, s)
	for key, want := range map[string]bool{"a": true, "b": true, "c": false, "d": false, "e": false, "f": false} {
		if got := who(s, key); (got == "me") != want {
			t.Errorf("%s: %s", key, got)
		}
	}
	if err := os.Remove(filepath.Join(ssh, "id_a.pub")); err != nil {
		t.Fatal(err)
	}
	reloadNow(t, s)
	if who(s, "a") == "me" || who(s, "b") != "me" {
		t.Error(who(s, "a"), who(s, "b"))
	}
}

func TestNoFolder(t *testing.T) {
	pub := filepath.Join(t.TempDir(), "id.pub")
	write(t, pub, testLine("laptop"))
	s := testStore(t, "", func(c *Config) { c.Files, c.FilesUser = []string{pub}, "me" })
	if who(s, "laptop") != "me" {
		t.Error(who(s, "laptop"))
	}
}

func TestOpenRefusesTheFolder(t *testing.T) {
	if _, err := Open(Config{Dir: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	if _, err := Open(Config{Dir: file}); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Error(err)
	}
	for _, which := range []string{"", ".."} {
		dir := testDir(t, nil)
		if err := os.Chmod(filepath.Join(dir, which), 0o770); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "mode 0770") {
			t.Errorf("%q: %v", which, err)
		}
	}
}

// An unsafe file gives no keys, at start and later, until it is safe again.
func TestUnsafeFile(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("ann"), "bob": testLine("bob")})
	chmod(t, dir+"/ann", 0o620)
	s := testStore(t, dir)
	if who(s, "ann") == "ann" || who(s, "bob") != "bob" {
		t.Error(who(s, "ann"), who(s, "bob"))
	}
	p := s.Problems()
	if len(p) != 1 || !p[0].Fatal || !strings.Contains(p[0].Message, "mode 0620") || !strings.Contains(p[0].Message, "no key in it counts") {
		t.Errorf("%+v", p)
	}
	write(t, dir+"/bob", testLine("eve"))
	chmod(t, dir+"/ann", 0o600)
	chmod(t, dir+"/bob", 0o602)
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "/bob") {
		t.Error(err)
	}
	if who(s, "ann") != "ann" || who(s, "bob") == "bob" || who(s, "eve") == "bob" {
		t.Error(who(s, "ann"), who(s, "bob"), who(s, "eve"))
	}
	if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0].Message, "no key in it counts") {
		t.Errorf("%+v", p)
	}
	chmod(t, dir+"/bob", 0o600)
	reloadNow(t, s)
	if who(s, "bob") == "bob" || who(s, "eve") != "bob" || len(s.Problems()) != 0 {
		t.Error(who(s, "bob"), s.Problems())
	}
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestForeignOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := testDir(t, map[string]string{"ann": testLine("ann")})
	if err := os.Chown(dir+"/ann", 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if s := testStore(t, dir); who(s, "ann") == "ann" {
		t.Error("a stranger's file counts")
	}
	if err := os.Chown(filepath.Dir(dir), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if s := testStore(t, dir); who(s, "ann") != "ann" {
		t.Error("the state folder's owner is a stranger")
	}
}

func TestLinks(t *testing.T) {
	dir := testDir(t, map[string]string{"bob": testLine("bob")})
	elsewhere := t.TempDir()
	write(t, elsewhere+"/keys", testLine("ann"))
	for name, target := range map[string]string{
		"ann": elsewhere + "/keys", "gone": elsewhere + "/none", "loop": dir + "/loop", "folder": elsewhere,
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := testStore(t, dir)
	if who(s, "ann") != "ann" || who(s, "bob") != "bob" {
		t.Error(who(s, "ann"), who(s, "bob"))
	}
	chmod(t, elsewhere, 0o777)
	if s := testStore(t, dir); who(s, "ann") == "ann" {
		t.Error("a link into a folder that others may write counts")
	}
	chmod(t, elsewhere, 0o700)
	chmod(t, elsewhere+"/keys", 0o666)
	if s := testStore(t, dir); who(s, "ann") == "ann" {
		t.Error("a link to a file that others may write counts")
	}
}

// A read error keeps the last good state and is tried again.
func TestReadError(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("ann")})
	s := testStore(t, dir)
	var broken = true
	s.opener = func(path string, check func(fs.FileInfo) error) ([]byte, error) {
		if broken {
			return nil, &fs.PathError{Op: "read", Path: path, Err: syscall.EIO}
		}
		return read(path, check)
	}
	write(t, dir+"/ann", testLine("ann2"))
	if err := s.Reload(); !strings.Contains(fmt.Sprint(err), "input/output error") {
		t.Error(err)
	}
	if who(s, "ann") != "ann" || !strings.Contains(s.Problems()[0].Message, "stays in force") {
		t.Error(who(s, "ann"), s.Problems())
	}
	broken = false
	now := time.Now()
	s.scan(now)
	s.scan(now.Add(settle))
	if who(s, "ann2") != "ann" || len(s.Problems()) != 0 {
		t.Error(who(s, "ann2"), s.Problems())
	}
}

// A folder that is exposed to others has no users until it is safe again; one
// that goes takes its users along.
func TestFolderTrouble(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("ann")})
	s := testStore(t, dir)
	chmod(t, dir, 0o777)
	write(t, dir+"/eve", testLine("eve"))
	if err := os.Remove(dir + "/ann"); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil {
		t.Error("no error")
	}
	if p := s.Problems(); who(s, "ann") == "ann" || who(s, "eve") == "eve" || len(p) != 1 || !p[0].Fatal {
		t.Error(who(s, "ann"), who(s, "eve"), p)
	}
	chmod(t, dir, 0o700)
	reloadNow(t, s)
	if who(s, "ann") == "ann" || who(s, "eve") != "eve" {
		t.Error(who(s, "ann"), who(s, "eve"))
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if who(s, "eve") == "eve" {
		t.Error("the folder is gone and eve is not")
	}
}

// A change that was heard of is acted on once it has settled, not only twice
// that later.
func TestSettlingFromTheEvent(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("ann")})
	s := testStore(t, dir)
	now := time.Now().Add(time.Hour)
	s.scan(now)
	s.scan(now.Add(settle))
	now = now.Add(time.Minute)
	write(t, dir+"/ann", testLine("ann2"))
	s.touch(dir+"/ann", now)
	s.scan(now.Add(settle - 1))
	if who(s, "ann2") == "ann" {
		t.Error("acted on before it has settled")
	}
	s.scan(now.Add(settle))
	if who(s, "ann2") != "ann" {
		t.Error(who(s, "ann2"))
	}
}

// A folder that is exposed for a moment, as under tar and rsync, loses nobody.
func TestExposedForAMoment(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("ann")})
	s := testStore(t, dir)
	now := time.Now().Add(time.Hour)
	for i := range 2 {
		chmod(t, dir, 0o770)
		if wait := s.scan(now); wait > settle || who(s, "ann") != "ann" {
			t.Error(wait, who(s, "ann"))
		}
		if i == 0 {
			chmod(t, dir, 0o700)
			s.scan(now.Add(settle - 1))
			now = now.Add(settle)
		}
	}
	if wait := s.scan(now.Add(settle)); wait != poll || who(s, "ann") == "ann" {
		t.Error(wait, who(s, "ann"))
	}
}

// The settling time, without a clock: a file that keeps changing is left
// alone, and another is not held up by it.
func TestSettling(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("ann"), "bob": testLine("bob")})
	s := testStore(t, dir)
	now := time.Now().Add(time.Hour)
	s.scan(now)
	s.scan(now.Add(settle)) // what was young at start is read once more
	now = now.Add(time.Minute)
	write(t, dir+"/ann", "")
	write(t, dir+"/bob", "")
	s.touch(dir+"/ann", now)
	s.touch(dir+"/bob", now)
	if wait := s.scan(now); wait != settle {
		t.Errorf("looks again in %v", wait)
	}
	for range 4 {
		now = now.Add(settle / 2)
		s.touch(dir+"/ann", now)
		s.scan(now)
	}
	if who(s, "ann") != "ann" || who(s, "bob") == "bob" {
		t.Error(who(s, "ann"), who(s, "bob"))
	}
	if wait := s.scan(now.Add(settle)); who(s, "ann") == "ann" || wait != poll {
		t.Error(who(s, "ann"), wait)
	}
	s.touch(dir+"/never-there", now)
	s.touch(dir+"/.ann.swp", now)
	s.scan(now.Add(settle))
	if len(s.pending) != 0 {
		t.Errorf("pending for ever: %v", s.pending)
	}
}

func TestChanged(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("ann")})
	s := testStore(t, dir)
	changed := s.Changed()
	write(t, dir+"/ann", testLine("ann")) // the same again
	reloadNow(t, s)
	select {
	case <-changed:
		t.Error("nothing changed")
	default:
	}
	write(t, dir+"/ann", testLine("ann2"))
	reloadNow(t, s)
	<-changed
	select {
	case <-s.Changed():
		t.Error("the next change is here already")
	default:
	}
}

// running starts s.Run and ends it with the test.
func running(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// An account's own key that was also added for somebody, or with options, is
// what the operator wrote.
func TestFolderBeforeFiles(t *testing.T) {
	t.Parallel()
	dir := testDir(t, map[string]string{"ann": testLine("k1"), "me": "no-pty " + testLine("k2")})
	pub := filepath.Join(t.TempDir(), "id.pub")
	if err := os.WriteFile(pub, []byte(testLine("k1")+"\n"+testLine("k2")+"\n"+testLine("k3")), 0o644); err != nil {
		t.Fatal(err)
	}
	s := testStore(t, dir, func(c *Config) { c.Files, c.FilesUser = []string{pub}, "me" })
	for key, want := range map[string]string{"k1": "ann", "k2": "me", "k3": "me"} {
		if got := who(s, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if k, err := s.Authenticate(testKey("k2"), home); err != nil || k.Options.PTY {
		t.Errorf("k2: %+v, %v; want its folder's no-pty", k, err)
	}
	if p := s.Problems(); len(p) > 0 {
		t.Errorf("problems %v, want none", p)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	dir := testDir(t, map[string]string{"ann": testLine("ann")})
	pub := filepath.Join(t.TempDir(), "id.pub")
	s := testStore(t, dir, func(c *Config) { c.Files, c.FilesUser = []string{pub}, "me" })
	running(t, s)
	steps := []struct {
		what string
		do   func() error
		ok   func() bool
	}{
		{"a new file", func() error { return os.WriteFile(dir+"/bob", []byte(testLine("bob")), 0o600) },
			func() bool { return who(s, "bob") == "bob" }},
		{"a file emptied", func() error { return os.Truncate(dir+"/bob", 0) },
			func() bool { return who(s, "bob") != "bob" }},
		{"a file removed", func() error { return os.Remove(dir + "/ann") },
			func() bool { return who(s, "ann") != "ann" }},
		{"a file outside", func() error { return os.WriteFile(pub, []byte(testLine("me")), 0o644) },
			func() bool { return who(s, "me") == "me" }},
		{"an edit by Add", func() error { _, err := Add(dir, "ann", strings.NewReader(testLine("a3"))); return err },
			func() bool { return who(s, "a3") == "ann" }},
		{"an edit by Remove", func() error { _, err := Remove(dir, "ann", ""); return err },
			func() bool { return who(s, "a3") != "ann" }},
		{"the folder moved away", func() error { return os.Rename(dir, dir+".old") },
			func() bool { return len(s.Users()) == 1 }},
		{"another folder in its place", func() error { return os.Mkdir(dir, 0o700) },
			func() bool { return len(s.Problems()) == 0 }},
		{"a file in that", func() error { return os.WriteFile(dir+"/bob", []byte(testLine("bob")), 0o600) },
			func() bool { return who(s, "bob") == "bob" }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatal(step.what, err)
		}
		eventually(t, step.what, step.ok)
	}
}

// Editors truncate and then write: nobody who is in the file before and after
// is ever refused, by whichever way it is rewritten. The clock is the test's,
// so that a slow machine does not make a truncated file look still.
func TestRewriteRaces(t *testing.T) {
	t.Parallel()
	dir := testDir(t, map[string]string{"ann": testLine("ann")})
	s := testStore(t, dir)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() { logIn(t, s, "ann", stop) })
	now := time.Now().Add(time.Hour)
	s.scan(now) // what was young at start
	for i := range 1000 {
		if err := os.Truncate(dir+"/ann", 0); err != nil {
			t.Error(err)
		}
		s.scan(now)
		rewrite(t, dir, "ann", testLine("ann")+"\n"+testLine(fmt.Sprint("other", i))+"\n", i%2 == 0)
		now = now.Add(settle / 2)
		s.scan(now)
		now = now.Add(settle)
		s.scan(now)
	}
	close(stop)
	wait.Wait()
	if got := who(s, "other999"); got != "ann" {
		t.Error("the last content:", got)
	}
}

// logIn logs in as name until stop, which must never fail.
func logIn(t *testing.T, s *Store, name string, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if got := who(s, name); got != name {
			t.Error("while rewriting:", got)
			return
		}
	}
}

// rewrite writes a user's file in place, or else beside it and renames.
func rewrite(t *testing.T, dir, user, text string, inPlace bool) {
	t.Helper()
	if inPlace {
		write(t, filepath.Join(dir, user), text)
		return
	}
	write(t, filepath.Join(dir, ".new"), text)
	if err := os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, user)); err != nil {
		t.Error(err)
	}
}

// Readers, edits and reloads at once: for the race detector.
func TestConcurrentEdits(t *testing.T) {
	t.Parallel()
	dir := testDir(t, map[string]string{"bob": testLine("bob")})
	s := testStore(t, dir)
	running(t, s)
	var wait sync.WaitGroup
	for g := range 3 {
		wait.Go(func() {
			for i := range 20 {
				name := fmt.Sprint("k", g, i)
				if _, err := Add(dir, "ann", strings.NewReader(testLine(name))); err != nil {
					t.Error(err)
				}
				if err := s.Reload(); err != nil {
					t.Error(err)
				}
				if got := who(s, name); got != "ann" {
					t.Error(name, got)
				}
				s.Users()
				s.Problems()
			}
		})
	}
	wait.Wait()
	if list, err := List(dir, "ann"); err != nil || len(list) != 60 {
		t.Errorf("%d keys, %v: an edit was lost", len(list), err)
	}
}
