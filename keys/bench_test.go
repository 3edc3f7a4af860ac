package keys

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// manyKeys is n lines with n keys; the i-th is numbered(i).
func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		b.Write(ssh.MarshalAuthorizedKey(numbered(i)))
	}
	return b.String()
}

// numbered is a public key whose private key nobody has.
func numbered(i int) ssh.PublicKey {
	seed := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	k, err := ssh.NewPublicKey(ed25519.PublicKey(seed[:]))
	if err != nil {
		panic(err)
	}
	return k
}

func TestManyKeys(t *testing.T) {
	t.Parallel()
	const n = 100_000
	dir := testDir(t, map[string]string{"ann": manyKeys(n)})
	s := testStore(t, dir)
	if u := s.Users(); len(u) != 1 || u[0].Keys != n || len(s.Problems()) != 0 {
		t.Fatal(u, s.Problems())
	}
	for _, i := range []int{0, 1, n / 2, n - 1} {
		if k, err := s.Authenticate(numbered(i), home); err != nil || k.User != "ann" {
			t.Error(i, k, err)
		}
	}
	if _, err := s.Authenticate(numbered(n), home); err == nil {
		t.Error("one too many")
	}
}

func TestManyFiles(t *testing.T) {
	t.Parallel()
	dir := testDir(t, nil)
	for i := range 2000 {
		write(t, filepath.Join(dir, "u"+strings.Repeat("x", i%50)+string(rune('a'+i/50%26))+string(rune('a'+i/1300))),
			strings.TrimSpace(string(ssh.MarshalAuthorizedKey(numbered(i)))))
	}
	s := testStore(t, dir)
	entries, err := os.ReadDir(dir)
	if err != nil || len(s.Users()) != len(entries) {
		t.Errorf("%d users in %d files, %v", len(s.Users()), len(entries), err)
	}
}

func BenchmarkReload(b *testing.B) {
	text := manyKeys(100_000)
	dir := testDir(b, map[string]string{"ann": text})
	s := testStore(b, dir)
	for i := range b.N {
		write(b, dir+"/ann", text+strings.Repeat("#", i+1))
		if err := s.Reload(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	s := testStore(b, testDir(b, map[string]string{"ann": manyKeys(100_000)}))
	k := numbered(5)
	for b.Loop() {
		if _, err := s.Authenticate(k, home); err != nil {
			b.Fatal(err)
		}
	}
}
