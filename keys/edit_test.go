package keys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func add(t *testing.T, dir, user, text string) ([]string, error) {
	t.Helper()
	return Add(dir, user, strings.NewReader(text))
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAdd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "authorized_keys")
	fp := ssh.FingerprintSHA256(testKey("ann"))
	added, err := add(t, dir, "ann", "# mine\r\n  "+testLine("ann")+"\r\n\n")
	if err != nil || len(added) != 1 || added[0] != fp {
		t.Fatal(added, err)
	}
	if got := content(t, dir+"/ann"); got != testLine("ann")+"\n" {
		t.Errorf("%q", got)
	}
	for path, mode := range map[string]fs.FileMode{dir: 0o700, dir + "/ann": 0o600} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != mode {
			t.Error(path, fi.Mode(), err)
		}
	}
	before := content(t, dir+"/ann")
	if added, err := add(t, dir, "ann", testLine("ann")+" again"); err != nil || added != nil {
		t.Error(added, err)
	}
	if content(t, dir+"/ann") != before {
		t.Error("the file was rewritten")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// What stands in the file stays as it is: comments, lines that nobody
// understands, and a last line without an end.
func TestAddKeepsTheRest(t *testing.T) {
	old := "# note\n" + `command="x" ` + testLine("x") + "\ngarbage\n\n" + testLine("y")
	dir := testDir(t, map[string]string{"ann": old})
	added, err := add(t, dir, "ann", testLine("y")+"\n"+testLine("z")+"\n"+testLine("z"))
	if err != nil || len(added) != 1 {
		t.Fatal(added, err)
	}
	if got := content(t, dir+"/ann"); got != old+"\n"+testLine("z")+"\n" {
		t.Errorf("%q", got)
	}
}

func TestAddRefuses(t *testing.T) {
	private, err := newHostKey()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, user, text, want string }{
		{"a private key", "ann", string(private), "private key"},
		{"garbage", "ann", "hello world", "line 1 has no key"},
		{"garbage behind a key", "ann", testLine("new") + "\nhello", "line 2 has no key"},
		{"nothing", "ann", "", "no key"},
		{"a comment", "ann", "# " + testLine("new"), "no key"},
		{"an unknown option", "ann", `command="x" ` + testLine("new"), `option "command"`},
		{"a short RSA key", "ann", marshal(testRSA(1024)), "1024 bits"},
		{"a certificate", "ann", string(ssh.MarshalAuthorizedKey(testCert("ann", "ca"))), "certificate"},
		{"somebody's key", "ann", testLine("bob"), "belongs to user bob"},
		{"somebody's key among others", "ann", testLine("new") + "\n" + testLine("bob"), "belongs to user bob"},
		{"other options", "bob", "restrict " + testLine("bob"), "with other options"},
		{"a control character", "ann", testLine("new") + "\x1b[2J", "control characters"},
		{"a carriage return", "ann", testLine("new") + "\rx", "control characters"},
		{"NUL", "ann", testLine("new") + "\x00", "NUL"},
		{"a path", "../bob", testLine("new"), "no user name"},
		{"capitals", "Ann", testLine("new"), "no user name"},
		{"a line end", "ann\n", testLine("new"), "no user name"},
		{"no name", "", testLine("new"), "no user name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := testDir(t, map[string]string{"bob": testLine("bob")})
			added, err := add(t, dir, tt.user, tt.text)
			if added != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v, want %q", added, err, tt.want)
			}
			if _, err := os.Lstat(dir + "/ann"); !errors.Is(err, fs.ErrNotExist) {
				t.Error("something was written")
			}
			if got := content(t, dir+"/bob"); got != testLine("bob") {
				t.Errorf("bob's file: %q", got)
			}
		})
	}
}

// An authority may be everybody's.
func TestAddAuthority(t *testing.T) {
	dir := testDir(t, map[string]string{"bob": "cert-authority " + testLine("ca")})
	if added, err := add(t, dir, "ann", "cert-authority "+testLine("ca")); err != nil || len(added) != 1 {
		t.Error(added, err)
	}
}

// Unsafe files and links are not written over or through.
func TestAddToUnsafe(t *testing.T) {
	dir := testDir(t, map[string]string{"ann": testLine("ann")})
	chmod(t, dir+"/ann", 0o666)
	if _, err := add(t, dir, "ann", testLine("new")); err == nil || !strings.Contains(err.Error(), "mode 0666") {
		t.Error(err)
	}
	target := filepath.Join(t.TempDir(), "target")
	write(t, target, testLine("x"))
	if err := os.Symlink(target, dir+"/eve"); err != nil {
		t.Fatal(err)
	}
	if _, err := add(t, dir, "eve", testLine("new")); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Error(err)
	}
	if _, err := Remove(dir, "eve", ""); err != nil {
		t.Error(err)
	}
	if content(t, target) != testLine("x") {
		t.Error("the link's target was touched")
	}
	chmod(t, dir, 0o777)
	if _, err := add(t, dir, "bob", testLine("new")); err == nil || !strings.Contains(err.Error(), "mode 0777") {
		t.Error(err)
	}
}

// What root writes belongs to the state folder's owner.
func TestAddAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	state := t.TempDir()
	if err := os.Chown(state, 12345, 12346); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(state, "authorized_keys")
	if _, err := add(t, dir, "ann", testLine("ann")); err != nil {
		t.Fatal(err)
	}
	if _, err := add(t, dir, "ann", testLine("ann2")); err != nil {
		t.Fatal(err)
	}
	if err := CreateHostKey(state); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, dir + "/ann", state + "/host_key"} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if uid, gid, ok := owner(fi); ok && (uid != 12345 || gid != 12346) {
			t.Errorf("%s belongs to %d:%d", path, uid, gid)
		}
	}
}

// A state folder's owner cannot have root write, or read, elsewhere.
func TestAddAsRootThroughLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has more rights than the owner")
	}
	state, elsewhere := t.TempDir(), t.TempDir()
	if err := os.Chown(state, 12345, 12346); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(state, "authorized_keys")
	if err := os.Symlink(elsewhere, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := add(t, dir, "ann", testLine("ann")); err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Error(err)
	}
	if left, _ := os.ReadDir(elsewhere); len(left) != 0 {
		t.Error(left)
	}
	e := &editor{dir: elsewhere, user: "ann"}
	if err := e.open(); err != nil {
		t.Fatal(err)
	}
	defer e.close()
	write(t, state+"/secret", "secret")
	if err := os.Symlink(state+"/secret", elsewhere+"/bob"); err != nil {
		t.Fatal(err)
	}
	if f, err := openReadIn(e.root, "bob"); err == nil {
		f.Close()
		t.Error("a link out of the folder was followed")
	}
}

func TestRemove(t *testing.T) {
	fp := func(name string) string { return ssh.FingerprintSHA256(testKey(name)) }
	dir := testDir(t, map[string]string{"ann": "# note\r\n" + testLine("a") + "\r\n" +
		`command="x" ` + testLine("b") + "\n" + testLine("c") + "\n" + "restrict " + testLine("c")})
	if n, err := Remove(dir, "ann", fp("b")); n != 1 || err != nil {
		t.Error(n, err)
	}
	if n, err := Remove(dir, "ann", fp("c")); n != 2 || err != nil {
		t.Error(n, err)
	}
	if got := content(t, dir+"/ann"); got != "# note\r\n"+testLine("a")+"\r\n" {
		t.Errorf("%q", got)
	}
	for _, user := range []string{"ann", "bob"} {
		if _, err := Remove(dir, user, fp("c")); !errors.Is(err, fs.ErrNotExist) {
			t.Error(user, err)
		}
	}
	if _, err := Remove(dir, "../x", ""); err == nil {
		t.Error("a path was taken for a user")
	}
	if n, err := Remove(dir, "ann", ""); n != 1 || err != nil {
		t.Error(n, err)
	}
	if _, err := Remove(dir, "ann", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Remove(filepath.Join(t.TempDir(), "none"), "ann", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestList(t *testing.T) {
	dir := testDir(t, map[string]string{
		"ann": "# x\ngarbage\n" + `restrict,pty ` + testLine("a") + " more\n" + `command="x" ` + testLine("b"),
		"bob": "cert-authority " + testLine("ca") + "\n" + testLine("k") + "\n" + `expiry-time="20200101" ` + testLine("old"),
		"eve": testLine("k"),
	})
	list, err := List(dir, "")
	if err != nil || len(list) != 6 {
		t.Fatalf("%+v, %v", list, err)
	}
	want := Entry{User: "ann", Fingerprint: ssh.FingerprintSHA256(testKey("a")), Type: "ssh-ed25519",
		Comment: "a more", Options: "restrict,pty", Source: dir + "/ann:3"}
	if list[0] != want {
		t.Errorf("%+v", list[0])
	}
	if !list[2].Authority || list[2].Problem != "" {
		t.Errorf("%+v", list[2])
	}
	for i, want := range map[int]string{1: "command", 3: "bob and eve", 4: "expired on 2020-01-01", 5: "bob and eve"} {
		if !strings.Contains(list[i].Problem, want) {
			t.Errorf("%d: %q, want %q", i, list[i].Problem, want)
		}
	}
	if list, err := List(dir, "eve"); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := List(dir, "nobody"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := List(dir, "../x"); err == nil {
		t.Error("a path was taken for a user")
	}
	chmod(t, dir+"/ann", 0o666)
	if list, err := List(dir, ""); err == nil || len(list) != 4 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := List(dir, "eve"); err != nil {
		t.Error("another user's file:", err)
	}
	if list, err := List(filepath.Join(t.TempDir(), "none"), ""); err != nil || list != nil {
		t.Error(list, err)
	}
}
