package acme

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	// workers bounds the orders under way.
	workers = 4
	// maxOrder bounds one attempt; a CA that is slow is not waited for longer.
	maxOrder = 10 * time.Minute
)

// want is a name whose certificate is to be had.
type want struct {
	user  string
	due   time.Time // when it is looked at next
	busy  bool      // is being looked at
	again bool      // was asked for meanwhile
}

// want notes that name is wanted for user, and is to be looked at when due.
func (m *managed) want(name, user string, due time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.wants[name]
	if w == nil {
		w = &want{}
		m.wants[name] = w
	}
	w.user = user
	if w.again = w.busy; !w.busy {
		w.due = due
	}
	m.nudge()
}

func (m *managed) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run looks after the wants until ctx ends, and after what is had now and then.
func (m *managed) run(ctx context.Context, every time.Duration) {
	defer close(m.done)
	tend := time.NewTicker(every)
	defer tend.Stop()
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tend.C:
			m.tend(ctx)
		case <-flush.C:
			_ = m.store.flush(ctx)
		case <-m.wake:
		case <-due.C:
		}
		due.Reset(m.dispatch(ctx, time.Now()))
	}
}

// dispatch starts what is due and says how long until something is.
func (m *managed) dispatch(ctx context.Context, now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	busy, next := 0, now.Add(time.Hour)
	for _, w := range m.wants {
		if w.busy {
			busy++
		}
	}
	for name, w := range m.wants {
		switch {
		case w.busy, m.comesLater(name, now): // the wildcard nudges when it is done
		case w.due.After(now):
			next = earlier(next, w.due)
		case busy < workers: // else the next to finish nudges
			busy++
			w.busy, w.again = true, false
			m.working.Add(1)
			go m.work(ctx, name, w.user)
		}
	}
	return next.Sub(now)
}

// comesLater says whether name is the domain and its wildcard is on its way: that
// is what all users wait for, and orders by DNS-01 follow one another. The caller
// holds mu.
func (m *managed) comesLater(name string, now time.Time) bool {
	w := m.wants["*."+name]
	return name == m.cfg.Domain && w != nil && (w.busy || !w.due.After(now))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// work is one look at name.
func (m *managed) work(ctx context.Context, name, user string) {
	defer m.working.Done()
	err := m.try(ctx, name, user)
	m.looked(name, err)
	if ctx.Err() == nil && !errors.Is(err, errUnwanted) {
		m.cfg.Notify(name, err)
	}
}

// looked ends a look at name, to which err came. A tunnel that was gone and came
// back meanwhile has been told that its certificate is on its way: one more look.
func (m *managed) looked(name string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.nudge()
	w := m.wants[name]
	w.busy = false
	var d *Delay
	switch {
	case errors.As(err, &d):
		w.due = d.Until
	case w.again && errors.Is(err, errUnwanted):
		w.due = time.Time{}
	default:
		delete(m.wants, name)
	}
}

// errUnwanted says that nobody wants the certificate any more.
var errUnwanted = errors.New("not allowed")

// try gets name a certificate if that is wanted, not paused and in the budget.
// The error is a *Delay when it is to be tried again.
func (m *managed) try(ctx context.Context, name, user string) error {
	if m.ready(name) {
		return nil
	}
	if m.issuer.allow(ctx, name) != nil && !slices.Contains(m.own(), name) {
		return errUnwanted
	}
	if d := m.waits(name, user); d != nil {
		return d
	}
	if m.isNew(name) {
		if until := m.ledger.grant(name, user, time.Now()); !until.IsZero() {
			return m.overBudget(until)
		}
	}
	return m.obtain(ctx, name)
}

// obtain makes one attempt through certmagic, which looks into the storage
// first.
func (m *managed) obtain(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, maxOrder)
	defer cancel()
	m.evict(name) // expired; certmagic would leave it to its own renewal
	err := m.magic.ManageSync(ctx, []string{name})
	m.note(name)
	if m.ready(name) {
		return nil
	}
	var d *Delay
	if err == nil || errors.As(err, &d) {
		return err
	}
	m.cfg.Logger.Warn("certificate: not had", "host", name, "err", clean(err.Error()))
	m.load(ctx, name) // drops what is broken
	return &Delay{Until: time.Now().Add(m.ledger.pause(1)), Err: plain{fmt.Errorf("certificate: %w", err)}}
}

func (m *managed) evict(name string) {
	m.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: name}})
}

// tend puts on disk what it did not take before, and sees to certificates that
// are near their end although certmagic renews them.
func (m *managed) tend(ctx context.Context) {
	_ = m.store.flush(ctx)
	now := time.Now()
	m.mu.Lock()
	names := slices.Collect(maps.Keys(m.loaded))
	m.mu.Unlock()
	for _, name := range names {
		certs := m.cache.AllMatchingCertificates(name)
		if len(certs) == 0 {
			m.unnote(name)
		}
		for _, c := range certs {
			m.tendOne(ctx, c, now)
		}
	}
}

func (m *managed) unnote(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.loaded, name)
}

// tendOne raises the alarm when a fifth of c's life is left, and lets go of one
// that is over and that nobody may have.
func (m *managed) tendOne(ctx context.Context, c certmagic.Certificate, now time.Time) {
	name, left := c.Names[0], c.Leaf.NotAfter.Sub(now)
	if left > c.Lifetime()/5 {
		return
	}
	if m.issuer.allow(ctx, name) != nil {
		if left < 0 {
			m.evict(name)
		}
		return
	}
	why := "not renewed yet"
	if _, text, paused := m.ledger.paused(name, now); paused {
		why = text
	}
	m.cfg.Logger.Error("certificate: near its end and not renewed", "host", name, "expires", c.Leaf.NotAfter, "err", why)
}
