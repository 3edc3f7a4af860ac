package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// rootYears is the root's life: it is trusted by hand, machine by machine.
const rootYears = 10

// authority is the internal CA's root.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// openAuthority reads the root in dir, and makes it if there is none.
func openAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := readRootKey(dir)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(filepath.Join(dir, "root.key"))
	}
	if err != nil {
		return nil, err
	}
	return openRoot(filepath.Join(dir, "root.crt"), key)
}

// readRootKey reads the root's key; fs.ErrNotExist is for a folder without a root.
// A root whose key is gone is not made anew: somebody trusts it.
func readRootKey(dir string) (*ecdsa.PrivateKey, error) {
	key, err := readKey(filepath.Join(dir, "root.key"))
	root := filepath.Join(dir, "root.crt")
	if _, e := os.Lstat(root); e == nil && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is there and root.key is not: restore it, or move both away for a new CA", root)
	}
	return key, err
}

// openRoot reads the root certificate, or makes the one that a crash kept from
// being written.
func openRoot(file string, key *ecdsa.PrivateKey) (*authority, error) {
	cert, err := readRoot(file)
	if errors.Is(err, fs.ErrNotExist) {
		cert, err = makeRoot(file, key)
	}
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, damaged(file, errors.New("does not belong to root.key"))
	}
	if time.Now().After(cert.NotAfter) {
		return nil, fmt.Errorf("%s expired on %s: move it and root.key away for a new CA", file, cert.NotAfter.Format(time.DateOnly))
	}
	return &authority{cert: cert, key: key}, nil
}

// readKey reads a private key that nobody else can read.
func readKey(file string) (*ecdsa.PrivateKey, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others: chmod 600 it", file)
	}
	block, err := readPEM(file, "EC PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(block)
	if err != nil {
		return nil, damaged(file, err)
	}
	return key, nil
}

// damaged says what to do about a file of the root that is not what it should be.
func damaged(file string, err error) error {
	return fmt.Errorf("%s: %w: restore it, or move root.crt and root.key away for a new CA", file, err)
}

func makeKey(file string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(file, "EC PRIVATE KEY", der)
}

func readRoot(file string) (*x509.Certificate, error) {
	der, err := readPEM(file, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, damaged(file, err)
	}
	return cert, nil
}

// makeRoot signs the root. Its name ends in its key's, so that two gateways'
// roots can be told apart in a list of trusted ones.
func makeRoot(file string, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(public)
	now := time.Now()
	t := &x509.Certificate{
		Subject:      pkix.Name{CommonName: fmt.Sprintf("adit internal CA %x", id[:4])},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.AddDate(rootYears, 0, 0),
		KeyUsage:     x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId: id[:20],
		IsCA:         true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if err := writePEM(file, "CERTIFICATE", der); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// readPEM gives the one block of kind in file.
func readPEM(file, kind string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, damaged(file, fmt.Errorf("no %s in it", kind))
	}
	return block.Bytes, nil
}

// writePEM writes file whole or not at all, with mode 0600.
func writePEM(file, kind string, der []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	err = pem.Encode(tmp, &pem.Block{Type: kind, Bytes: der})
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
