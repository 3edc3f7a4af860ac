package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// ledgerVersion is the version of the database's layout. A newer one is
// refused, never rewritten.
const ledgerVersion = 1

// The buckets; a bucket's keys are names, or port numbers in decimal.
var (
	bucketMeta  = []byte("meta")
	bucketNames = []byte("names")
	bucketPorts = []byte("ports")
)

// errRunning is returned by openLedger while another process has it open.
var errRunning = errors.New("another adit is running on this state folder")

// record is who owns a name or a port.
type record struct {
	User string `json:"user"`
	// Slot is, for a port that was given and not chosen, which of the user's
	// -R 0 it belongs to: an index, or a name.
	Slot    string    `json:"slot,omitempty"`
	Created time.Time `json:"created"`
	Used    time.Time `json:"used"` // the last time it was seen live
}

// ledger keeps who owns which name and port: a copy in memory that answers,
// and a database that remembers. Nothing in it is on a visitor's path.
type ledger struct {
	db     *bbolt.DB
	before func() // called before a write; may be nil

	mu    sync.Mutex
	names map[string]record
	ports map[string]record
}

func openLedger(path string) (*ledger, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("%w (%s is locked). Stop that one, or give this one a folder of its own with --state DIR", errRunning, path)
	}
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	l := &ledger{db: db, names: map[string]record{}, ports: map[string]record{}}
	if err := l.load(); err != nil {
		db.Close()
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	return l, nil
}

func (l *ledger) load() error {
	if err := l.checkVersion(); err != nil {
		return err
	}
	return l.db.View(func(tx *bbolt.Tx) error {
		for bucket, to := range map[string]map[string]record{"names": l.names, "ports": l.ports} {
			err := tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
				var r record
				if err := json.Unmarshal(v, &r); err != nil {
					return fmt.Errorf("%s %q: %w", bucket, k, err)
				}
				to[string(k)] = r
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// checkVersion reads before it writes: a database of a newer version is left
// as it is.
func (l *ledger) checkVersion() error {
	fresh := false
	err := l.db.View(func(tx *bbolt.Tx) error {
		fresh = tx.Bucket(bucketMeta) == nil
		return readVersion(tx)
	})
	if err != nil || !fresh {
		return err
	}
	return l.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketNames, bucketPorts} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		b, err := tx.CreateBucketIfNotExists(bucketMeta)
		if err != nil {
			return err
		}
		return b.Put([]byte("version"), []byte(strconv.Itoa(ledgerVersion)))
	})
}

// readVersion refuses a layout that this version does not know. A database
// that holds nothing yet is fine.
func readVersion(tx *bbolt.Tx) error {
	b := tx.Bucket(bucketMeta)
	if b == nil {
		return nil
	}
	text := string(b.Get([]byte("version")))
	if v, err := strconv.Atoi(text); err != nil || v > ledgerVersion {
		return fmt.Errorf("written by a newer version of adit (layout %q, this one knows %d). Run that version, or move the state folder away", printable(text, 20), ledgerVersion)
	}
	return nil
}

func (l *ledger) close() error { return l.db.Close() }

func (l *ledger) table(bucket []byte) map[string]record {
	if string(bucket) == string(bucketPorts) {
		return l.ports
	}
	return l.names
}

// owner is who owns key at now, if anybody still does.
func (l *ledger) owner(bucket []byte, key string, now time.Time, ttl time.Duration) (record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.table(bucket)[key]
	return r, ok && now.Sub(r.Used) < ttl
}

// owned lists what user owns in bucket at now.
func (l *ledger) owned(bucket []byte, user string, now time.Time, ttl time.Duration) map[string]record {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := map[string]record{}
	for k, r := range l.table(bucket) {
		if r.User == user && now.Sub(r.Used) < ttl {
			mine[k] = r
		}
	}
	return mine
}

// put stores that key is user's and was used at now. The memory follows only
// what the database took.
func (l *ledger) put(bucket []byte, key string, r record) error {
	l.mu.Lock()
	old, had := l.table(bucket)[key]
	l.mu.Unlock()
	if had && old.User == r.User {
		r.Created = old.Created
		if r.Slot == "" { // asked for by number: it is still the -R 0 it was
			r.Slot = old.Slot
		}
	}
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	l.writes()
	err = l.db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(key), v) })
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.table(bucket)[key] = r
	return nil
}

func (l *ledger) writes() {
	if l.before != nil {
		l.before()
	}
}

// expire forgets what nobody owns any more.
func (l *ledger) expire(now time.Time, ttl time.Duration) error {
	return errors.Join(l.expireTable(bucketNames, now, ttl), l.expireTable(bucketPorts, now, ttl))
}

func (l *ledger) expireTable(bucket []byte, now time.Time, ttl time.Duration) error {
	l.mu.Lock()
	var old []string
	for k, r := range l.table(bucket) {
		if now.Sub(r.Used) >= ttl {
			old = append(old, k)
			delete(l.table(bucket), k)
		}
	}
	l.mu.Unlock()
	if len(old) == 0 {
		return nil
	}
	l.writes()
	return l.db.Update(func(tx *bbolt.Tx) error {
		for _, k := range old {
			if err := tx.Bucket(bucket).Delete([]byte(k)); err != nil {
				return err
			}
		}
		return nil
	})
}
