package keys

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// hostKey is the key that must be there; others are host_key_*.
const hostKey = "host_key"

// LoadHostKeys reads host_key and then host_key_* of the state folder, by
// name, and says which files they were. Files that end in .pub are not read.
// Without host_key the error is fs.ErrNotExist. As with ssh, a private key
// that others may read is refused, and so is one with a passphrase.
func LoadHostKeys(state string) (signers []ssh.Signer, files []string, err error) {
	entries, err := os.ReadDir(state)
	if err != nil {
		return nil, nil, fmt.Errorf("host keys: %w", err)
	}
	names := []string{hostKey}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), hostKey+"_") && !strings.HasSuffix(e.Name(), ".pub") {
			names = append(names, e.Name())
		}
	}
	for _, name := range names {
		path := filepath.Join(state, name)
		signer, err := loadHostKey(path)
		if err != nil {
			return nil, nil, fmt.Errorf("host key %s: %w", path, err)
		}
		signers, files = append(signers, signer), append(files, path)
	}
	return signers, files, nil
}

func loadHostKey(path string) (ssh.Signer, error) {
	data, err := read(path, private)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(data)
	if errors.As(err, new(*ssh.PassphraseMissingError)) {
		return nil, fmt.Errorf("has a passphrase, which nobody is there to type. Take it off with: ssh-keygen -p -N '' -f %s", path)
	}
	if err != nil {
		return nil, fmt.Errorf("is no private key (%w). Put it back from a backup", err)
	}
	if reason := refusedKey(signer.PublicKey()); reason != "" {
		return nil, errors.New(reason)
	}
	return signer, nil
}

// private refuses a private key's file that group or world may use.
func private(fi fs.FileInfo) error {
	if err := regular(fi); err != nil {
		return err
	}
	if readableByOthers(fi) {
		return fmt.Errorf("may be used by others (mode %04o): chmod 600", fi.Mode().Perm())
	}
	return nil
}

// CreateHostKey makes an ed25519 host_key with mode 0600 in the state folder.
// One that is there is left alone: fs.ErrExist.
func CreateHostKey(state string) error {
	data, err := newHostKey()
	if err != nil {
		return fmt.Errorf("make host key: %w", err)
	}
	root, err := os.OpenRoot(state)
	if err != nil {
		return fmt.Errorf("make host key: %w", err)
	}
	defer root.Close()
	temp := tempPrefix + hostKey + "-" + rand.Text()
	defer root.Remove(temp)
	if err := writeNew(root, temp, data, state); err != nil {
		return fmt.Errorf("make host key: %w", err)
	}
	// A link, unlike a rename, never takes the place of a file.
	if err := root.Link(temp, hostKey); err != nil {
		return fmt.Errorf("make host key: %w", err)
	}
	folder, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("make host key: %w", err)
	}
	return errors.Join(syncFolder(folder), folder.Close())
}

// newHostKey is a fresh key in OpenSSH's format.
func newHostKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}
