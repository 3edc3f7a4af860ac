package acme

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// hour is n hours after the epoch.
func hour(n float64) time.Time { return epoch.Add(time.Duration(n * float64(time.Hour))) }

// book is a ledger that is read anew from what it saved before every step.
type book struct {
	t      *testing.T
	perDay int
	saved  []byte
}

func (b *book) open() *ledger {
	b.t.Helper()
	l, err := newLedger(b.perDay, nil, b.saved, func(s []byte) { b.saved = s })
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

func TestLedgerBudget(t *testing.T) {
	t.Parallel()
	b := &book{t: t, perDay: 5} // three for one user
	for _, step := range []struct {
		at         float64
		name, user string
		until      float64 // 0: at once
	}{
		{0, "a1", "ann", 0},
		{1, "a2", "ann", 0},
		{1, "a1", "ann", 0}, // counted already
		{2, "a3", "ann", 0},
		{3, "a4", "ann", 24},
		{3, "a3", "bob", 0}, // hers, but counted already
		{4, "b1", "bob", 0},
		{5, "b2", "bob", 0},
		{6, "b3", "bob", 24}, // two of his, five in all
		{6, "c1", "cid", 24},
		{23.9, "c1", "cid", 24},
		{24, "c1", "cid", 0},
		{24, "a4", "ann", 25}, // two of hers, but five in all again
		{25, "a4", "ann", 0},
		{25.5, "a5", "ann", 26},
		{26, "a1", "ann", 0}, // and only now counted anew
	} {
		got := b.open().grant(step.name, step.user, hour(step.at))
		want := time.Time{}
		if step.until != 0 {
			want = hour(step.until)
		}
		if !got.Equal(want) {
			t.Errorf("%+v: until %v", step, got)
		}
	}
	if n := len(b.open().Granted); n != 5 {
		t.Error(n, "kept")
	}
}

func TestLedgerSmallest(t *testing.T) {
	t.Parallel()
	for perDay, want := range map[int]int{0: 3, 1: 1, 2: 1, 3: 2, 6: 3} {
		b := &book{t: t, perDay: perDay}
		n := 0
		for ; b.open().grant(fmt.Sprint(n), "ann", epoch).IsZero(); n++ {
		}
		if n != want {
			t.Errorf("%d a day: %d for one", perDay, n)
		}
	}
}

func TestLedgerPauses(t *testing.T) {
	t.Parallel()
	b := &book{t: t, perDay: 6}
	now := epoch
	for i, least := range []time.Duration{1, 2, 5, 10, 20, 40, 60, 60, 60} {
		until := b.open().fail("app", &attempt{}, errors.New("bad\nluck"), now)
		if p := until.Sub(now); p < least*time.Minute || p > least*time.Minute*6/5 {
			t.Error(i, p)
		}
		got, why, paused := b.open().paused("app", now)
		if !got.Equal(until) || why != "bad luck" || !paused {
			t.Error(got, why, paused)
		}
		if _, _, paused := b.open().paused("app", until); paused {
			t.Error("paused for too long")
		}
		now = until
	}
	if _, _, paused := b.open().paused("other", epoch); paused {
		t.Error("is not its fault")
	}
	b.open().worked("app")
	if n := b.open().failures("app"); n != 0 {
		t.Error(n)
	}
}

// Attempts that reach an order are four an hour at most.
func TestLedgerOrders(t *testing.T) {
	t.Parallel()
	b := &book{t: t, perDay: 6}
	var at []time.Time
	for now := epoch; len(at) < 20; {
		at = append(at, now)
		now = b.open().fail("app", &attempt{orders: 1}, errors.New("no"), now)
	}
	for i := range at[:len(at)-maxOrders] {
		if d := at[i+maxOrders].Sub(at[i]); d < time.Hour {
			t.Errorf("%d orders in %v", maxOrders+1, d)
		}
	}
}

func TestLedgerWait(t *testing.T) {
	t.Parallel()
	b := &book{t: t, perDay: 6}
	if until := b.open().fail("app", &attempt{wait: hour(5)}, errWait, epoch); !until.Equal(hour(5)) {
		t.Error(until)
	}
	if _, _, paused := b.open().paused("other", epoch); paused {
		t.Error("429 is about one name")
	}
	b.open().fail("app", &attempt{wait: hour(7), all: true}, errWait, hour(5))
	if until, why, paused := b.open().paused("other", hour(6)); !until.Equal(hour(7)) || !paused || why == "" {
		t.Error(until, why, paused)
	}
}

// A restart ends our own pauses, not the CA's, and not the count of orders.
func TestLedgerForgive(t *testing.T) {
	t.Parallel()
	b := &book{t: t, perDay: 6}
	paused := func(name string) time.Time {
		l := b.open()
		l.forgive()
		until, _, _ := l.paused(name, epoch)
		return until
	}
	b.open().fail("ours", &attempt{}, errors.New("no"), epoch)
	b.open().fail("theirs", &attempt{wait: hour(3)}, errors.New("no"), epoch)
	b.open().fail("orders", &attempt{orders: maxOrders}, errors.New("no"), epoch)
	for name, want := range map[string]time.Time{"ours": {}, "theirs": hour(3), "orders": hour(1)} {
		if got := paused(name); !got.Equal(want) {
			t.Error(name, got)
		}
	}
}

func TestLedgerBounds(t *testing.T) {
	t.Parallel()
	l, err := newLedger(6, nil, nil, func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxPauses {
		l.Failed[fmt.Sprint(i)] = &fault{Until: hour(1)}
	}
	l.Failed["soonest"] = &fault{Until: hour(0.5)}
	l.fail("app", &attempt{}, errors.New(strings.Repeat("x", 10_000)), epoch)
	if l.Failed["app"] != nil || len(l.Failed) != maxPauses { // is the soonest itself
		t.Error(len(l.Failed), l.Failed["soonest"])
	}
	l.fail("app", &attempt{wait: hour(30)}, errors.New(strings.Repeat("x", 10_000)), hour(26))
	if len(l.Failed) != 1 || len(l.Failed["app"].Why) > maxText+3 {
		t.Error(len(l.Failed))
	}
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"Granted":[{"Name":"a","User":"u","At":"2026-03-01T12:00:00Z"}],"Failed":{"a":null,"b":{"Times":-7}},"CA":"2026-03-01T12:00:00Z"}`))
	f.Add([]byte(`{"Failed":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, stored []byte) {
		l, _ := newLedger(6, nil, stored, func([]byte) {})
		l.grant("x", "ann", epoch)
		l.fail("b", &attempt{orders: 1}, errors.New("no"), epoch)
		l.paused("b", epoch)
		l.failures("a")
		l.worked("b")
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"0": 0, "120": 2 * time.Minute, "99999999": maxWait, hour(2).Format(http.TimeFormat): 2 * time.Hour,
		hour(-2).Format(http.TimeFormat): 0, hour(9999).Format(http.TimeFormat): maxWait,
	} {
		if got, ok := retryAfter(value, epoch); !ok || got != want {
			t.Errorf("%q: %v %v", value, got, ok)
		}
	}
	for _, value := range []string{"", "-1", "1.5", "soon", "1e3", "18446744073709551615"} {
		if got, ok := retryAfter(value, epoch); ok {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"1", "-1", "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, _ := retryAfter(s, epoch); d < 0 || d > maxWait {
			t.Errorf("%q: %v", s, d)
		}
	})
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain": "plain", "a\x1b[31mb": "a [31mb", "a\nb\x00": "a b ", "\u202e": " ", "\xff": " ", "ä": "ä",
		strings.Repeat("é", 400): strings.Repeat("é", 150) + "...",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
