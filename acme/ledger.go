package acme

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// ErrBudget is why a new name waits: the day's names are used up, in all or by
// this user.
var ErrBudget = errors.New("no more new certificates today")

const (
	day = 24 * time.Hour
	// maxOrders an hour for one name: a CA allows five failed validations
	// (Let's Encrypt's limit), and one is kept for whoever looks into it.
	maxOrders = 4
	// maxPauses bounds what is remembered of names that failed.
	maxPauses = 10_000
)

// pauses after the first, second... failure in a row; the last one repeats.
var pauses = []time.Duration{1, 2, 5, 10, 20, 40, 60}

// pauseAfter is how long a name rests after its n-th failure in a row, with up
// to a fifth more so that names which failed together part.
func pauseAfter(n int) time.Duration {
	p := pauses[min(max(n, 1), len(pauses))-1] * time.Minute
	return p + rand.N(p/5)
}

// ledger is what has been asked of the CA, and so what may be asked: the
// budget of new names and the pauses of those that failed. It is stored: a
// restart does not undo what is the CA's to say.
type ledger struct {
	perDay int
	pause  func(int) time.Duration
	save   func([]byte) // called with mu held

	mu      sync.Mutex
	Granted []grant           // of the last day, oldest first
	Failed  map[string]*fault // by name
	CA      time.Time         // no order for anybody before this
}

// grant is a new name that was let through to the CA.
type grant struct {
	Name, User string
	At         time.Time
}

// fault is a name whose last order failed.
type fault struct {
	Times  int         // in a row
	Until  time.Time   // no order before this
	Wait   time.Time   // the part of it that the CA asked for
	Why    string      // cleaned
	Orders []time.Time // the last maxOrders
}

// newLedger reads stored, which save was once given; nil or broken: empty.
func newLedger(perDay int, pause func(int) time.Duration, stored []byte, save func([]byte)) (*ledger, error) {
	if perDay <= 0 {
		perDay = 6
	}
	if pause == nil {
		pause = pauseAfter
	}
	l := &ledger{perDay: perDay, pause: pause, save: save, Failed: map[string]*fault{}}
	if len(stored) == 0 {
		return l, nil
	}
	var read ledger
	if err := json.Unmarshal(stored, &read); err != nil {
		return l, err
	}
	l.Granted, l.CA = read.Granted, read.CA
	for name, f := range read.Failed {
		if f != nil {
			l.Failed[name] = f
		}
	}
	return l, nil
}

// store saves the ledger. The caller holds mu.
func (l *ledger) store() {
	if b, err := json.Marshal(l); err == nil {
		l.save(b)
	}
}

// grant lets name through to its first order, or says when it may: zero is
// now. A name is counted once a day, whatever becomes of it.
func (l *ledger) grant(name, user string, now time.Time) (until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until = l.free(name, user, now)
	if until.IsZero() && !l.granted(name) {
		l.Granted = append(l.Granted, grant{Name: name, User: user, At: now})
		l.store()
	}
	return until
}

// over says when name may be granted, without granting it; zero is now.
func (l *ledger) over(name, user string, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free(name, user, now)
}

func (l *ledger) granted(name string) bool {
	return slices.ContainsFunc(l.Granted, func(g grant) bool { return g.Name == name })
}

// free is when the budget has room for name. The caller holds mu.
func (l *ledger) free(name, user string, now time.Time) time.Time {
	l.Granted = slices.DeleteFunc(l.Granted, func(g grant) bool { return now.Sub(g.At) >= day })
	if l.granted(name) {
		return time.Time{}
	}
	var users []grant
	for _, g := range l.Granted {
		if g.User == user {
			users = append(users, g)
		}
	}
	all, own := room(l.Granted, l.perDay), room(users, (l.perDay+1)/2)
	if own.After(all) {
		return own
	}
	return all
}

// room is when fewer than n of grants, oldest first, are of the last day; zero
// if they are now.
func room(grants []grant, n int) time.Time {
	if len(grants) < n {
		return time.Time{}
	}
	return grants[len(grants)-n].At.Add(day)
}

// paused says until when name, or every name, is not to be ordered, and why.
func (l *ledger) paused(name string, now time.Time) (until time.Time, why string, paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, why = l.CA, "the CA asks everybody to wait"
	if f := l.Failed[name]; f != nil && !f.Until.Before(until) {
		until, why = f.Until, f.Why
	}
	return until, why, until.After(now)
}

// failures is how often name's orders failed in a row.
func (l *ledger) failures(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.Failed[name]; f != nil {
		return f.Times
	}
	return 0
}

// worked forgets name's failures.
func (l *ledger) worked(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.Failed[name]; ok {
		delete(l.Failed, name)
		l.store()
	}
}

// fail notes that an attempt for name failed and gives when the next may be: no
// sooner than the pause, what the CA asked for, and maxOrders an hour.
func (l *ledger) fail(name string, a *attempt, err error, now time.Time) time.Time {
	orders, wait, everybody := a.seen()
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.Failed[name]
	if f == nil {
		f = &fault{}
		l.Failed[name] = f
	}
	f.Times++
	f.Why = clean(err.Error())
	for range orders {
		f.Orders = append(f.Orders, now)
	}
	f.Orders = f.Orders[max(0, len(f.Orders)-maxOrders):]
	f.Wait = later(f.Wait, wait)
	f.Until = later(now.Add(l.pause(f.Times)), f.least())
	if everybody && wait.After(l.CA) {
		l.CA = wait
	}
	l.prune(now)
	l.store()
	return f.Until
}

// least is until when f rests at least: what the CA asked for, and maxOrders
// an hour.
func (f *fault) least() time.Time {
	if len(f.Orders) < maxOrders {
		return f.Wait
	}
	return later(f.Wait, f.Orders[0].Add(time.Hour))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// forgive ends the pauses that we chose ourselves: who restarts a gateway has
// often mended it.
func (l *ledger) forgive() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.Failed {
		f.Until = f.least()
	}
}

// prune forgets names that have been left alone for a day, and the soonest due
// where there are too many. The caller holds mu.
func (l *ledger) prune(now time.Time) {
	for name, f := range l.Failed {
		if now.Sub(f.Until) > day {
			delete(l.Failed, name)
		}
	}
	for len(l.Failed) > maxPauses {
		soonest := ""
		for name, f := range l.Failed {
			if soonest == "" || f.Until.Before(l.Failed[soonest].Until) {
				soonest = name
			}
		}
		delete(l.Failed, soonest)
	}
}
