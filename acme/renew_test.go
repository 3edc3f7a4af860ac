package acme

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A certificate is renewed when the CA says (RFC 9773), while it is served, and
// the CA hears which one the new one replaces.
func TestRenew(t *testing.T) {
	t.Parallel()
	domain := fresh()
	w := newWorld(t, domain, func(w *world) {
		w.options.life = 300
		w.cfg.renewEvery = 100 * time.Millisecond
	})
	w.ca.failing(renewalWindow(time.Second, 3*time.Second))
	w.start()
	w.ready(domain)
	first, err := w.visit(domain)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a renewal", func() bool {
		c, err := w.visit(domain)
		if err != nil {
			t.Fatal("not served:", err)
		}
		return !c.Equal(first)
	})
	w.ca.mu.Lock()
	defer w.ca.mu.Unlock()
	if len(w.ca.orders) < 2 || w.ca.orders[0].Replaces != "" || w.ca.orders[1].Replaces == "" {
		t.Errorf("%+v", w.ca.orders)
	}
}

// Who was killed before a renewal was stored asks for it again, and hears that
// it was had: the order is made without that word, at once.
func TestReplacedAlready(t *testing.T) {
	t.Parallel()
	domain := fresh()
	w := newWorld(t, domain, func(w *world) {
		w.options.life = 300
		w.cfg.renewEvery = 100 * time.Millisecond
	})
	soon := renewalWindow(time.Second, 3*time.Second)
	var refusals atomic.Int32
	w.ca.failing(func(rw http.ResponseWriter, r *http.Request) bool {
		if isNewOrder(r) && replaces(r) {
			refusals.Add(1)
			rw.Header().Set("Content-Type", "application/problem+json")
			rw.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(rw, `{"type":"urn:ietf:params:acme:error:alreadyReplaced"}`)
			return true
		}
		return soon(rw, r)
	})
	w.start()
	eventually(t, "a renewal", func() bool { return strings.Count(w.log.String(), "certificate: issued") > 1 })
	if refusals.Load() == 0 || strings.Contains(w.log.String(), "the order failed") {
		t.Error(refusals.Load(), "refusals, and a failure")
	}
}

// replaces says whether a new order names the certificate that it replaces.
func replaces(r *http.Request) bool {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return orderOf(body).Replaces != ""
}

// renewalWindow answers every question when to renew with a window that begins
// and ends so long after it.
func renewalWindow(start, end time.Duration) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/renewalInfo/") {
			return false
		}
		now := time.Now().UTC()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "21600") // it is asked once
		fmt.Fprintf(w, `{"suggestedWindow":{"start":%q,"end":%q}}`, now.Add(start).Format(time.RFC3339), now.Add(end).Format(time.RFC3339))
		return true
	}
}

// fresh is a domain that no test had, nor this one in an earlier run: certmagic
// remembers failed renewals by name, for as long as the process lives.
func fresh() string { return fmt.Sprintf("renew%d.test", time.Now().UnixNano()) }

// withoutRenewalInfo is a CA that knows nothing of RFC 9773.
func (p *pebble) withoutRenewalInfo(w http.ResponseWriter, r *http.Request) bool {
	if !strings.HasSuffix(r.URL.Path, "/dir") {
		return false
	}
	rec := httptest.NewRecorder()
	(*p.handler.Load()).ServeHTTP(rec, r)
	var dir map[string]any
	_ = json.Unmarshal(rec.Body.Bytes(), &dir)
	delete(dir, "renewalInfo")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(dir)
	return true
}

// Without a word from the CA, the last third of a certificate's life is when.
func TestRenewByLife(t *testing.T) {
	t.Parallel()
	domain := fresh()
	w := newWorld(t, domain, func(w *world) {
		w.options.life = 15
		w.cfg.renewEvery = 100 * time.Millisecond
	})
	w.ca.failing(w.ca.withoutRenewalInfo)
	w.start()
	w.ready(domain)
	first := w.m.from.certificate(domain, nil).Leaf
	eventually(t, "a renewal", func() bool { return !w.m.from.certificate(domain, nil).Leaf.Equal(first) })
	if now := time.Now(); now.Before(first.NotBefore.Add(9*time.Second)) || now.After(first.NotAfter) {
		t.Error("renewed with", first.NotAfter.Sub(now), "left")
	}
}

// A name that may have no certificate any more is not renewed, and goes out of
// memory when it is over.
func TestRenewNotAllowed(t *testing.T) {
	t.Parallel()
	domain := fresh()
	w := newWorld(t, domain, func(w *world) {
		w.options.life = 4
		w.cfg.renewEvery = 100 * time.Millisecond
	})
	m := w.start()
	m.Ensure("app."+domain, "ann")
	w.ready("app." + domain)
	w.refuse("app."+domain, true)
	n := w.ca.ordered("app." + domain) // it may just have been renewed
	eventually(t, "the end", func() bool { return m.from.certificate("app."+domain, nil) == nil })
	if got := w.ca.ordered("app." + domain); got > n+1 {
		t.Error(got, "orders, were", n)
	}
	w.refuse("app."+domain, false)
	m.Ensure("app."+domain, "ann")
	w.ready("app." + domain)
}

// A CA that stays away costs visitors nothing until the end, and the operator
// hears of it before.
func TestRenewFails(t *testing.T) {
	t.Parallel()
	domain := fresh()
	w := newWorld(t, domain, func(w *world) {
		w.options.life = 6
		w.cfg.renewEvery = 100 * time.Millisecond
	})
	w.start()
	w.ready(domain)
	w.ca.failing(hangUp)
	end := w.m.from.certificate(domain, nil).Leaf.NotAfter
	alarm := func() bool { return strings.Contains(w.log.String(), "near its end") }
	for ; !alarm() && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := w.visit(domain); err != nil && time.Now().Before(end) {
			t.Fatal(err)
		}
	}
	eventually(t, "the alarm", alarm)
	eventually(t, "the end", func() bool { return !w.m.Ready(domain) })
	if c := w.m.from.certificate(domain, nil); c == nil {
		t.Error("visitors must be told the truth")
	}
}

// Where the CA does not reach one port, the other does, and is tried first from
// then on.
func TestOtherChallenge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "other.test")
	w.web.Close()
	m := w.start()
	w.ready("other.test")
	m.Ensure("app.other.test", "ann")
	w.ready("app.other.test")
	if w.ca.ordered("other.test") != 2 || w.ca.ordered("app.other.test") != 1 {
		t.Errorf("%+v", w.ca.orders)
	}
}
