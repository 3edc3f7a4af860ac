//go:build unix

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/rogpeppe/go-internal/testscript"
)

// authority is Let's Encrypt's test CA, in the test process. It counts what is
// ordered, and can be replaced by another that knows the same accounts.
type authority struct {
	store     *db.MemoryStore
	validator *va.VAImpl
	strict    bool // who registers must have an account elsewhere
	front     atomic.Pointer[http.Handler]
	server    *httptest.Server

	mu     sync.Mutex
	orders []string // the names, one an order that was taken
	asked  int      // requests of any kind
	under  int      // requests under way
	hook   hook
}

// hook hears of the n-th request twice: when it has come, and when it was
// answered.
type hook func(n int, r *http.Request, answered bool)

// caOptions are the words of the command ca.
type caOptions struct {
	eab, dns string
	life     uint64
}

func readCAOptions(ts *testscript.TestScript, args []string) (o caOptions) {
	words := flag.NewFlagSet("ca", flag.ContinueOnError)
	words.SetOutput(io.Discard)
	words.StringVar(&o.eab, "eab", "", "KID:KEY")
	words.StringVar(&o.dns, "dns", "", "HOST:PORT")
	words.Uint64Var(&o.life, "life", 90*86400, "seconds")
	if words.Parse(args) != nil || words.NArg() > 0 {
		ts.Fatalf("usage: ca [-eab KID:KEY] [-dns HOST:PORT] [-life SECONDS]")
	}
	return o
}

// caCmd starts a world, or puts another CA in the place of the one it has.
func caCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("ca cannot fail")
	}
	o := readCAOptions(ts, args)
	found, ok := worlds.Load(rigOf(ts))
	if !ok {
		found = newWorld(ts, o)
		worlds.Store(rigOf(ts), found)
	}
	found.(*world).ca.issue(ts, o.life)
}

// ordersCmd counts the orders that the CA has taken.
func ordersCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || len(args) > 2 || neg {
		ts.Fatalf("usage: orders N [NAME]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	name := strings.Join(args[1:], "")
	if got := worldOf(ts).ca.ordered(name); got != want {
		ts.Fatalf("%d orders for %q, want %d: %q", got, name, want, worldOf(ts).ca.orders)
	}
}

// newAuthority is a CA without a key. It validates on the gateway's ports.
func newAuthority(ts *testscript.TestScript, dns, eab string) *authority {
	a := &authority{store: db.NewMemoryStore(), strict: eab != ""}
	if kid, key, ok := strings.Cut(eab, ":"); ok {
		ts.Check(a.store.AddExternalAccountKeyByID(kid, key))
	}
	number := func(name string) int { n, _ := strconv.Atoi(ts.Getenv(name)); return n }
	a.validator = va.New(log.New(io.Discard, "", 0), number("HTTP_PORT"), number("HTTPS_PORT"), true, dns, a.store)
	a.server = httptest.NewUnstartedServer(http.HandlerFunc(a.serve))
	a.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.server.StartTLS()
	ts.Defer(a.server.Close)
	ts.Setenv("CA_URL", a.server.URL+wfe.DirectoryPath)
	ts.Setenv("CA_ROOT", writePEM(ts, "ca-https.pem", a.server.Certificate().Raw))
	return a
}

func writePEM(ts *testscript.TestScript, name string, der []byte) string {
	file := ts.MkAbs(name)
	ts.Check(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return file
}

// issue gives the CA a new key, for certificates that last life seconds.
func (a *authority) issue(ts *testscript.TestScript, life uint64) {
	quiet := log.New(io.Discard, "", 0)
	profiles := map[string]ca.Profile{"default": {Description: "the only one", ValidityPeriod: life}}
	signer := ca.New(quiet, a.store, "", "ecdsa", 0, 1, profiles)
	front := wfe.New(quiet, a.store, a.validator, signer, nil, true, a.strict, 0, 0)
	handler := front.Handler()
	a.front.Store(&handler)
	ts.Setenv("CACERT", writePEM(ts, "ca-root.pem", signer.GetRootCert(0).Cert.Raw))
}

// serve counts, and tells the hook of each request before and after its answer
// is written.
func (a *authority) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked++
	a.under++
	n, hook := a.asked, a.hook
	a.mu.Unlock()
	defer a.served()
	if hook != nil {
		hook(n, r, false)
		defer hook(n, r, true)
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	noted := &statusNoted{ResponseWriter: w}
	(*a.front.Load()).ServeHTTP(noted, r)
	if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/order-plz") && noted.status == http.StatusCreated {
		a.note(body)
	}
	if hook != nil {
		_ = http.NewResponseController(w).Flush()
	}
}

type statusNoted struct {
	http.ResponseWriter
	status int
}

func (n *statusNoted) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

// note keeps the names of a new-order request (RFC 8555, sections 6.2 and 7.4).
func (a *authority) note(body []byte) {
	var jws struct{ Payload string }
	var order struct{ Identifiers []struct{ Value string } }
	if json.Unmarshal(body, &jws) == nil {
		if b, err := base64.RawURLEncoding.DecodeString(jws.Payload); err == nil {
			_ = json.Unmarshal(b, &order)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range order.Identifiers {
		a.orders = append(a.orders, i.Value)
	}
}

// ordered is how many orders there were for name; for any if it is empty.
func (a *authority) ordered(name string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.orders {
		if name == "" || o == name {
			n++
		}
	}
	return n
}

// requests is how many there were.
func (a *authority) requests() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

func (a *authority) served() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.under--
}

// settle waits until every request that has come has been served, also one whose
// sender is gone.
func (a *authority) settle() {
	for a.busy() {
		time.Sleep(time.Millisecond)
	}
}

func (a *authority) busy() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.under > 0
}

// listen makes h the hook; nil: none.
func (a *authority) listen(h hook) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hook = h
}
