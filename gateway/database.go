package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// ledgerVersion is the version of the database's layout. A newer one is
// refused, never rewritten.
const ledgerVersion = 1

// bucket is one of the database's tables. Its keys are names, or port numbers in
// decimal.
type bucket string

const (
	bucketMeta  bucket = "meta"
	bucketNames bucket = "names"
	bucketPorts bucket = "ports"
)

// of is the table in tx, nil if it has none.
func (b bucket) of(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket([]byte(b)) }

var (
	// errRunning says that another process has the database open.
	errRunning = errors.New("another adit is running on this state folder")
	// errDamaged says that the database is not as it was written.
	errDamaged = errors.New("it is damaged. Put it back from a backup, or move it away: then names and ports are nobody's")
)

// openDatabase opens the database at path for this process alone. One that is
// not there is made.
func openDatabase(path string) (*bbolt.DB, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := createDatabase(path); err != nil {
			return nil, fmt.Errorf("database %s: %w", path, err)
		}
	}
	db, err := openBolt(path, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, errRunning) {
		return nil, fmt.Errorf("%w (%s is locked). Stop that one, or give this one a folder of its own with --state DIR", errRunning, path)
	}
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	return db, nil
}

// openBolt tells why a database does not open: errRunning, errDamaged, or what
// the system says.
func openBolt(path string, o *bbolt.Options) (db *bbolt.DB, err error) {
	err = intact(func() error { db, err = bbolt.Open(path, 0o600, o); return err })
	_, system := errors.AsType[syscall.Errno](err)
	switch {
	case err == nil || system || errors.Is(err, errDamaged):
		return db, err
	case errors.Is(err, berrors.ErrTimeout):
		return nil, errRunning
	}
	return nil, fmt.Errorf("%w (%v)", errDamaged, err)
}

// intact runs f, which reads a database. What bbolt reads is mapped into memory
// and trusted: where it is not as it was written f panics, or faults.
func intact(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w (%v)", errDamaged, v)
		}
	}()
	return f()
}

// createDatabase makes an empty database, whole or not at all.
func createDatabase(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	f.Close()
	db, err := bbolt.Open(f.Name(), 0o600, nil)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(makeTables), db.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) { // else another adit was faster
		return err
	}
	return syncDir(filepath.Dir(path))
}

func makeTables(tx *bbolt.Tx) error {
	for _, name := range []bucket{bucketNames, bucketPorts, bucketMeta} {
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	return bucketMeta.of(tx).Put([]byte("version"), []byte(strconv.Itoa(ledgerVersion)))
}

// readVersion refuses a layout that this version does not know. A database
// that holds nothing yet is fine.
func readVersion(tx *bbolt.Tx) error {
	b := bucketMeta.of(tx)
	if b == nil {
		return nil
	}
	text := string(b.Get([]byte("version")))
	if v, err := strconv.Atoi(text); err != nil || v > ledgerVersion {
		return fmt.Errorf("written by a newer version of adit (layout %q, this one knows %d). Run that version, or move the state folder away", printable(text, 20), ledgerVersion)
	}
	return nil
}

// readLedger finds out whether the database at path could be used; it changes
// nothing.
func readLedger(path string) error {
	db, err := openBolt(path, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true, Timeout: 200 * time.Millisecond})
	if err != nil {
		return err
	}
	defer db.Close()
	return intact(func() error { return db.View(newLedger(db).read) })
}
