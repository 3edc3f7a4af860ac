package keys

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testSecret is the same key for the same name in every run.
func testSecret(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// pemOf is name's private key as ssh-keygen writes it.
func pemOf(t *testing.T, name string) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(testSecret(name), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

func testSigner(name string) ssh.Signer {
	s, err := ssh.NewSignerFromKey(testSecret(name))
	if err != nil {
		panic(err)
	}
	return s
}

func testKey(name string) ssh.PublicKey { return testSigner(name).PublicKey() }

// testLine is name's public key as a line, without options.
func testLine(name string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(testKey(name)))) + " " + name
}

// testDir is a state folder's authorized_keys with files by user.
func testDir(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "authorized_keys")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// testStore opens dir with a quiet logger, after change has had its way.
func testStore(t testing.TB, dir string, change ...func(*Config)) *Store {
	t.Helper()
	cfg := Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// home is where keys come from when it does not matter.
var home = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711}

// who is the user that name's key belongs to, or the reason for none.
func who(s *Store, name string) string {
	k, err := s.Authenticate(testKey(name), home)
	if err != nil {
		return reason(err)
	}
	return k.User
}

func reason(err error) string {
	var r *Refusal
	if !errors.As(err, &r) {
		return "no refusal: " + err.Error()
	}
	return r.Reason
}

// eventually polls until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
