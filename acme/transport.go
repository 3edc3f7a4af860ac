package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// maxWait bounds what a Retry-After is believed: the longest window of Let's
// Encrypt's limits.
const maxWait = 7 * day

// errWait is what an attempt gets after the CA said to wait: it sends nothing
// more.
var errWait = errors.New("the CA asks to wait")

// attempt is one try at a certificate. It rides in the context of its
// requests, because acmez gives neither the headers of a refusal nor how many
// orders it made.
type attempt struct {
	newOrder string // the resource that makes orders (RFC 8555 section 7.4)

	mu     sync.Mutex
	orders int
	wait   time.Time // the CA's Retry-After
	all    bool      // the wait is not for this name only
	date   time.Time // of the CA's last answer, by its clock
}

type attemptKey struct{}

func withAttempt(ctx context.Context) (context.Context, *attempt) {
	a := &attempt{}
	return context.WithValue(ctx, attemptKey{}, a), a
}

// seen is how many orders were made, and the wait that the CA asked for.
func (a *attempt) seen() (orders int, wait time.Time, everybody bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.orders, a.wait, a.all
}

// now is what time the CA had when it answered; zero: nothing is known.
func (a *attempt) now() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.date
}

// may says whether the attempt may go on.
func (a *attempt) may() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wait.IsZero()
}

// refused says whether err is the CA's word about an order that it did not
// take and that may be asked for otherwise. One that shall replace a certificate
// is refused where that was replaced already, as by an order whose end a kill
// kept from us, or is not known any more (RFC 9773 section 5).
func (a *attempt) refused(err error) bool {
	var p acme.Problem
	orders, _, _ := a.seen()
	return errors.As(err, &p) && p.Type != acme.ProblemTypeAccountDoesNotExist && orders == 0 && a.may()
}

// got notes the CA's time, an order that was made, and a refusal that says when
// to come again (RFC 8555 section 6.6): 429 is about this name, 503 about the CA.
func (a *attempt) got(r *http.Response) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.date, _ = http.ParseTime(r.Header.Get("Date")) // RFC 9110 section 6.6.1
	if r.StatusCode == http.StatusCreated && r.Request.URL.String() == a.newOrder {
		a.orders++
	}
	if r.StatusCode != http.StatusTooManyRequests && r.StatusCode != http.StatusServiceUnavailable {
		return
	}
	now := time.Now()
	if wait, ok := retryAfter(r.Header.Get("Retry-After"), now); ok {
		a.wait, a.all = now.Add(wait), r.StatusCode == http.StatusServiceUnavailable
	}
}

// retryAfter reads a Retry-After (RFC 9110 section 10.2.3): seconds or a date.
func retryAfter(value string, now time.Time) (time.Duration, bool) {
	if s, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(s)*time.Second, maxWait), true
	}
	if t, err := http.ParseTime(value); err == nil {
		return min(max(t.Sub(now), 0), maxWait), true
	}
	return 0, false
}

// watched is a RoundTripper that tells the attempt of a request's context what
// goes on.
type watched struct{ *http.Transport }

func (w watched) RoundTrip(r *http.Request) (*http.Response, error) {
	a, _ := r.Context().Value(attemptKey{}).(*attempt)
	if a == nil {
		return w.Transport.RoundTrip(r)
	}
	if !a.may() {
		return nil, errWait
	}
	resp, err := w.Transport.RoundTrip(r)
	if err == nil {
		a.got(resp)
	}
	return resp, err
}

// httpClient is what talks to the CA. rootFile is Config.CARootFile.
func httpClient(rootFile string) (*http.Client, error) {
	roots, err := loadRoots(rootFile)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: watched{&http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 15 * time.Second,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: workers,
			IdleConnTimeout:     time.Minute,
		}},
	}, nil
}

// loadRoots reads a PEM file of roots; nil, the system's, for no file.
func loadRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("roots of the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("roots of the CA: no PEM certificate in %s", file)
	}
	return pool, nil
}
