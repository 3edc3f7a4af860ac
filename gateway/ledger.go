package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

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

// openLedger opens the database at path, which it makes where there is none.
func openLedger(path string) (*ledger, error) {
	db, err := openDatabase(path)
	if err != nil {
		return nil, err
	}
	l := newLedger(db)
	if err := intact(l.load); err != nil {
		db.Close()
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	return l, nil
}

func newLedger(db *bbolt.DB) *ledger {
	return &ledger{db: db, names: map[string]record{}, ports: map[string]record{}}
}

// load reads before it writes: a database of a newer version is left as it is.
func (l *ledger) load() error {
	fresh := false
	err := l.db.View(func(tx *bbolt.Tx) error {
		fresh = bucketMeta.of(tx) == nil
		return l.read(tx)
	})
	if err == nil && fresh {
		err = l.db.Update(makeTables)
	}
	return err
}

// read reads everything into the memory.
func (l *ledger) read(tx *bbolt.Tx) error {
	if bucketMeta.of(tx) == nil {
		return nil // nothing is in it yet
	}
	if err := readVersion(tx); err != nil {
		return err
	}
	return errors.Join(readTable(tx, bucketNames, l.names), readTable(tx, bucketPorts, l.ports))
}

func readTable(tx *bbolt.Tx, b bucket, to map[string]record) error {
	return b.of(tx).ForEach(func(k, v []byte) error {
		var r record
		if err := json.Unmarshal(v, &r); err != nil {
			return fmt.Errorf("%w (%s %q: %v)", errDamaged, b, k, err)
		}
		to[string(k)] = r
		return nil
	})
}

func (l *ledger) close() error { return l.db.Close() }

func (l *ledger) table(b bucket) map[string]record {
	if b == bucketPorts {
		return l.ports
	}
	return l.names
}

// owner is who owns key at now, if anybody still does.
func (l *ledger) owner(b bucket, key string, now time.Time, ttl time.Duration) (record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.table(b)[key]
	return r, ok && now.Sub(r.Used) < ttl
}

// owned lists what user owns in b at now.
func (l *ledger) owned(b bucket, user string, now time.Time, ttl time.Duration) map[string]record {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := map[string]record{}
	for k, r := range l.table(b) {
		if r.User == user && now.Sub(r.Used) < ttl {
			mine[k] = r
		}
	}
	return mine
}

// put stores that key is r.User's and was used at now. The memory follows only
// what the database took.
func (l *ledger) put(b bucket, key string, r record) error {
	l.mu.Lock()
	old, had := l.table(b)[key]
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
	err = l.db.Batch(func(tx *bbolt.Tx) error { return b.of(tx).Put([]byte(key), v) })
	if err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.table(b)[key] = r
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

func (l *ledger) expireTable(b bucket, now time.Time, ttl time.Duration) error {
	old := l.unused(b, now, ttl)
	if len(old) == 0 {
		return nil
	}
	l.writes()
	err := l.db.Update(func(tx *bbolt.Tx) error {
		stored := b.of(tx)
		for _, k := range old {
			var r record
			if json.Unmarshal(stored.Get([]byte(k)), &r) == nil && now.Sub(r.Used) < ttl {
				continue // put came in between
			}
			if err := stored.Delete([]byte(k)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.table(b), func(_ string, r record) bool { return now.Sub(r.Used) >= ttl })
	return nil
}

// unused are the keys that nobody owns any more.
func (l *ledger) unused(b bucket, now time.Time, ttl time.Duration) (keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, r := range l.table(b) {
		if now.Sub(r.Used) >= ttl {
			keys = append(keys, k)
		}
	}
	return keys
}
