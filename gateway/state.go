package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"adit/keys"

	"golang.org/x/crypto/ssh"
)

// state is what the state folder gave at start.
type state struct {
	dir      string
	hostKeys []ssh.Signer
	secret   []byte // name_secret
	ledger   *ledger
}

// DefaultState is where the state folder is when --state is not given:
// /var/lib/adit for a public gateway run by root or under systemd's
// StateDirectory, else $XDG_STATE_HOME/adit or ~/.local/state/adit.
func DefaultState(public bool) (string, error) {
	if dir := os.Getenv("STATE_DIRECTORY"); public && dir != "" {
		return filepath.SplitList(dir)[0], nil
	}
	if public && os.Geteuid() == 0 {
		return "/var/lib/adit", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "adit"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no state folder: %w (set --state)", err)
	}
	return filepath.Join(home, ".local", "state", "adit"), nil
}

// openState reads the state folder, and on first start makes what is in it. One
// that has been used and has lost its host key or its name secret is refused:
// new ones would make every user's ssh cry wolf, or move every name. The state
// is there also beside an error, for what knows of its folder.
func openState(dir string) (*state, error) {
	s := &state{dir: dir}
	if err := prepareSecrets(dir); err != nil {
		return s, err
	}
	var errKeys, errSecret error
	s.hostKeys, _, errKeys = loadHostKeys(dir)
	s.secret, errSecret = readSecret(dir)
	err := errors.Join(errKeys, errSecret)
	if err == nil { // else no database is made either
		s.ledger, err = openLedger(filepath.Join(dir, "adit.db"))
	}
	return s, err
}

func makeFolders(dir string) error {
	for _, d := range []string{dir, filepath.Join(dir, "authorized_keys")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("state folder: %w", err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("state folder: others may write %s (mode %04o). Run: chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	return nil
}

// prepareSecrets makes the host key and the name secret on first start, and keeps
// the folder to its owner.
func prepareSecrets(dir string) error {
	if used, err := isUsed(dir); used || err != nil {
		return err
	}
	os.Chmod(dir, 0o700) // one that mkdir made; where it cannot be, check warns
	// The secret is made last, so a first start that was cut short between
	// the two begins again with the host key it has.
	if err := keys.CreateHostKey(dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("host key: %w", err)
	}
	return writeSecret(filepath.Join(dir, "name_secret"))
}

// madeLater are files and folders that are made no sooner than the host key and
// the name secret are: where one is, a gateway has been started.
var madeLater = []string{"name_secret", "adit.db", "certificates/acme", "certificates/certificates", "internal-ca/root.key", "internal-ca/root.crt"}

// isUsed reports whether a gateway has been started on dir before.
func isUsed(dir string) (bool, error) {
	for _, name := range madeLater {
		_, err := os.Lstat(filepath.Join(dir, name))
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return false, fmt.Errorf("state folder: %w", err)
		}
	}
	return false, nil
}

// loadHostKeys reads the host keys of a folder that has been used.
func loadHostKeys(dir string) ([]ssh.Signer, []string, error) {
	signers, files, err := keys.LoadHostKeys(dir)
	return signers, files, gone(filepath.Join(dir, "host_key"), err)
}

// gone is err, or what to do where the reason for it is that file is gone.
func gone(file string, err error) error {
	if _, e := os.Stat(file); err == nil || !errors.Is(e, fs.ErrNotExist) {
		return err
	}
	name, dir := filepath.Base(file), filepath.Dir(file)
	return fmt.Errorf("%s is gone from %s, which has been used before. Put it back from a backup; to begin anew, move the whole folder away", name, dir)
}

// readSecret reads the name secret of a folder that has been used.
func readSecret(dir string) ([]byte, error) {
	path := filepath.Join(dir, "name_secret")
	info, err := os.Stat(path)
	if err != nil {
		return nil, gone(path, fmt.Errorf("name secret: %w", err))
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("name secret: others may read %s. Run: chmod 600 %s", path, path)
	}
	b, err := os.ReadFile(path)
	if err == nil && len(b) != 32 {
		err = fmt.Errorf("%s has %d bytes instead of 32. Put it back from a backup", path, len(b))
	}
	if err != nil {
		return nil, fmt.Errorf("name secret: %w", err)
	}
	return b, nil
}

func writeSecret(path string) error {
	b := make([]byte, 32)
	rand.Read(b)
	return writeFile(path, b)
}

// writeFile writes a file of mode 0600 whole or not at all.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	defer os.Remove(f.Name()) // no effect after the rename
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	defer d.Close()
	d.Sync() // not every file system can; the rename stands either way
	return nil
}
