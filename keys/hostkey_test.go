package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestHostKeys(t *testing.T) {
	state := t.TempDir()
	if _, _, err := LoadHostKeys(state); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := CreateHostKey(state); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(state)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	fi, err := os.Stat(state + "/host_key")
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Error(fi.Mode(), err)
	}
	before := content(t, state+"/host_key")
	if err := CreateHostKey(state); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if content(t, state+"/host_key") != before {
		t.Error("the host key was replaced")
	}
	writeECDSA(t, state+"/host_key_ecdsa")
	write(t, state+"/host_key.pub", "not a key")
	write(t, state+"/host_key_ecdsa.pub", "not a key")
	signers, files, err := LoadHostKeys(state)
	if err != nil || len(signers) != 2 || files[0] != state+"/host_key" || files[1] != state+"/host_key_ecdsa" {
		t.Fatal(files, err)
	}
	if signers[0].PublicKey().Type() != ssh.KeyAlgoED25519 || signers[1].PublicKey().Type() != ssh.KeyAlgoECDSA256 {
		t.Error(signers[0].PublicKey(), signers[1].PublicKey())
	}
}

func writeECDSA(t *testing.T, path string) {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(newECDSA(t), "")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(pem.EncodeToMemory(block)))
}

func TestHostKeysRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(t *testing.T, state string) error
		want string
	}{
		{"others may read it", func(t *testing.T, s string) error { return os.Chmod(s+"/host_key", 0o644) }, "mode 0644"},
		{"the group may read it", func(t *testing.T, s string) error { return os.Chmod(s+"/host_key", 0o640) }, "mode 0640"},
		{"a second that others may read", func(t *testing.T, s string) error {
			writeECDSA(t, s+"/host_key_ecdsa")
			return os.Chmod(s+"/host_key_ecdsa", 0o604)
		}, "host_key_ecdsa"},
		{"garbage", func(t *testing.T, s string) error { return os.WriteFile(s+"/host_key", []byte("x"), 0o600) }, "no key found"},
		{"empty", func(t *testing.T, s string) error { return os.Truncate(s+"/host_key", 0) }, "no key found"},
		{"a folder", func(t *testing.T, s string) error { return os.Mkdir(s+"/host_key_x", 0o700) }, "not a regular file"},
		{"gone while another is there", func(t *testing.T, s string) error {
			return os.Rename(s+"/host_key", s+"/host_key_old")
		}, "no such file"},
		{"a passphrase", func(t *testing.T, s string) error {
			block, err := ssh.MarshalPrivateKeyWithPassphrase(newECDSA(t), "", []byte("secret"))
			if err != nil {
				return err
			}
			return os.WriteFile(s+"/host_key", pem.EncodeToMemory(block), 0o600)
		}, "passphrase"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			state := t.TempDir()
			if err := CreateHostKey(state); err != nil {
				t.Fatal(err)
			}
			if err := tt.do(t, state); err != nil {
				t.Fatal(err)
			}
			if _, _, err := LoadHostKeys(state); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func newECDSA(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// ssh-keygen reads what CreateHostKey writes.
func TestHostKeyFormat(t *testing.T) {
	keygen := tool(t, "ssh-keygen")
	state := t.TempDir()
	if err := CreateHostKey(state); err != nil {
		t.Fatal(err)
	}
	signers, files, err := LoadHostKeys(state)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(keygen, "-y", "-f", filepath.Join(state, "host_key")).Output()
	if err != nil || strings.TrimSpace(string(out)) != strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signers[0].PublicKey()))) {
		t.Errorf("%v: %s, %v", files, out, err)
	}
}

// tool is the path of a program that the test needs.
func tool(t *testing.T, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}
