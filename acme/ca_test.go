package acme

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// pebble is Let's Encrypt's test CA in this process.
type pebble struct {
	url   string
	roots *x509.CertPool // that its certificates are checked against
	file  string         // with the root of its own https

	handler  atomic.Pointer[http.Handler]
	fault    atomic.Pointer[func(http.ResponseWriter, *http.Request) bool] // true: it has answered
	requests atomic.Int64

	mu     sync.Mutex
	orders []order
}

// order is what a new-order request asked for, if it was answered with 201.
type order struct {
	Identifiers []struct{ Value string }
	Replaces    string
}

// pebbleOptions are pebble's configuration file.
type pebbleOptions struct {
	resolver          string // host:port
	httpPort, tlsPort int
	life              uint64 // of certificates, in seconds
	chain, alternates int
	eab               map[string]string // required if any
}

func newPebble(t *testing.T, o pebbleOptions) *pebble {
	t.Helper()
	p := &pebble{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	p.url = s.URL + wfe.DirectoryPath
	p.file = filepath.Join(t.TempDir(), "root.pem")
	err := os.WriteFile(p.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p.reset(t, o)
	return p
}

// reset puts a new CA, with new keys and no memory, in the place of the old.
func (p *pebble) reset(t *testing.T, o pebbleOptions) {
	t.Helper()
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	for kid, key := range o.eab {
		if err := store.AddExternalAccountKeyByID(kid, key); err != nil {
			t.Fatal(err)
		}
	}
	profiles := map[string]ca.Profile{"default": {Description: "the only one", ValidityPeriod: o.life}}
	authority := ca.New(quiet, store, "", "ecdsa", o.alternates, max(1, o.chain), profiles)
	validator := va.New(quiet, o.httpPort, o.tlsPort, true, o.resolver, store)
	front := wfe.New(quiet, store, validator, authority, nil, true, len(o.eab) > 0, 0, 0)
	h := front.Handler()
	p.handler.Store(&h)
	p.roots = x509.NewCertPool()
	p.roots.AddCert(authority.GetRootCert(0).Cert)
}

// serve counts, and fails where it is told to.
func (p *pebble) serve(w http.ResponseWriter, r *http.Request) {
	p.requests.Add(1)
	if f := p.fault.Load(); f != nil && (*f)(w, r) {
		return
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	noted := &noting{ResponseWriter: w}
	(*p.handler.Load()).ServeHTTP(noted, r)
	if isNewOrder(r) && noted.status == http.StatusCreated {
		p.note(body)
	}
}

func isNewOrder(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/order-plz")
}

type noting struct {
	http.ResponseWriter
	status int
}

func (n *noting) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

// note keeps a new-order request.
func (p *pebble) note(body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.orders = append(p.orders, orderOf(body))
}

// orderOf is the payload of a new-order request (RFC 8555 section 6.2).
func orderOf(body []byte) (o order) {
	var jws struct{ Payload string }
	if json.Unmarshal(body, &jws) == nil {
		if b, err := base64.RawURLEncoding.DecodeString(jws.Payload); err == nil {
			_ = json.Unmarshal(b, &o)
		}
	}
	return o
}

// ordered is how many orders were made for name; for any without one.
func (p *pebble) ordered(name string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.orders {
		if name == "" || len(o.Identifiers) == 1 && o.Identifiers[0].Value == name {
			n++
		}
	}
	return n
}

// failing sets what is answered instead; nil: nothing.
func (p *pebble) failing(f func(http.ResponseWriter, *http.Request) bool) {
	if f == nil {
		p.fault.Store(nil)
		return
	}
	p.fault.Store(&f)
}

// problem answers new orders with status and a Retry-After.
func problem(status int, after string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !isNewOrder(r) {
			return false
		}
		w.Header().Set("Content-Type", "application/problem+json")
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many\u001b[31m orders"}`)
		return true
	}
}

// hangUp breaks off every connection.
func hangUp(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// zone is a name server that takes every name here, and has what txt gives.
type zone struct {
	addr  string
	apex  string // the zone's own name, with its dot
	txt   func(fqdn string) []string
	cname map[string]string
}

func newZone(t *testing.T, z *zone) *zone {
	t.Helper()
	pc, ln := bothPorts(t)
	z.addr = pc.LocalAddr().String()
	servers := []*dns.Server{{PacketConn: pc, Handler: z}, {Listener: ln, Handler: z}}
	for _, s := range servers {
		up, down := make(chan bool), make(chan bool)
		s.NotifyStartedFunc = func() { close(up) }
		go func() { defer close(down); _ = s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = s.Shutdown(); <-down })
	}
	return z
}

// bothPorts is one free port, over UDP and TCP.
func bothPorts(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if pc, err := net.ListenPacket("udp", ln.Addr().String()); err == nil {
			return pc, ln
		}
		ln.Close()
	}
	t.Fatal("no port is free over both")
	return nil, nil
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	name, kind := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	hdr := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: 1}
	}
	if target := z.cname[name]; target != "" {
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: hdr(dns.TypeCNAME), Target: target})
		name = target
	}
	switch {
	case kind == dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: hdr(kind), A: net.IPv4(127, 0, 0, 1)})
	case kind == dns.TypeSOA && name == z.apex:
		m.Answer = append(m.Answer, &dns.SOA{Hdr: hdr(kind), Ns: "ns." + name, Mbox: "x." + name, Refresh: 1})
	case kind == dns.TypeTXT && z.txt != nil:
		for _, v := range z.txt(name) {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: hdr(kind), Txt: []string{v}})
		}
	}
	_ = w.WriteMsg(m)
}

// world is a gateway's edge with a CA that can reach it.
type world struct {
	t       *testing.T
	ca      *pebble
	cfg     Config
	m       *Manager
	web     net.Listener // what the CA takes for port 80
	tls     net.Listener // and for port 443
	options pebbleOptions
	log     *logBuffer
	current atomic.Pointer[Manager]

	mu      sync.Mutex
	told    map[string][]error
	refused map[string]bool // what Allow says no to
}

// newWorld makes one that is not started yet. Names are those of domain.
func newWorld(t *testing.T, domain string, change ...func(*world)) *world {
	t.Helper()
	w := &world{t: t, told: map[string][]error{}, refused: map[string]bool{}}
	w.web, w.tls = listen(t), listen(t)
	w.options = pebbleOptions{
		resolver: newZone(t, &zone{}).addr, httpPort: port(w.web), tlsPort: port(w.tls), life: 90 * 86400,
	}
	var log *slog.Logger
	log, w.log = logger(t)
	w.cfg = Config{
		Mode: ModeACME, State: filepath.Join(t.TempDir(), "state"), Domain: domain, Email: "op@example.com",
		Allow: w.allow, Notify: w.notify, Logger: log, NamesPerDay: 100,
		pause: func(int) time.Duration { return 20 * time.Millisecond },
	}
	for _, f := range change {
		f(w)
	}
	w.ca = newPebble(t, w.options)
	w.cfg.CA, w.cfg.CARootFile = w.ca.url, w.ca.file
	w.serve()
	return w
}

func (w *world) allow(_ context.Context, host string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refused[host] {
		return errors.New("no tunnel")
	}
	return nil
}

// refuse sets what Allow says of host.
func (w *world) refuse(host string, no bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused[host] = no
}

func (w *world) notify(host string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told[host] = append(w.told[host], err)
}

// news is the last that was told of host, if anything was.
func (w *world) news(host string) (err error, told bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.told[host]
	if len(all) == 0 {
		return nil, false
	}
	return all[len(all)-1], true
}

// forget forgets what was told of host.
func (w *world) forget(host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.told, host)
}

// start starts a Manager on the state that is there.
func (w *world) start() *Manager {
	w.t.Helper()
	m, err := New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := m.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.m = m
	w.current.Store(m)
	w.t.Cleanup(w.stop)
	return m
}

// stop closes the Manager, once.
func (w *world) stop() {
	if w.m != nil {
		w.m.Close()
		w.m = nil
	}
}

// serve answers on both ports as a gateway does.
func (w *world) serve() {
	web := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if m := w.current.Load(); m != nil {
			if body, ok := m.HTTPChallenge(r.Host, r.URL.Path); ok {
				_, _ = io.WriteString(rw, body)
				return
			}
		}
		http.NotFound(rw, r)
	})}
	tlsConfig := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		cfg := w.current.Load().TLSConfig()
		if inner, err := cfg.GetConfigForClient(hello); inner != nil || err != nil {
			return inner, err
		}
		return cfg, nil
	}}
	hello := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "hello") })
	secure := &http.Server{Handler: hello, TLSConfig: tlsConfig, ErrorLog: log.New(io.Discard, "", 0)}
	run(w.t, func() { _ = web.Serve(w.web) }, web.Close)
	run(w.t, func() { _ = secure.ServeTLS(w.tls, "", "") }, secure.Close)
}

// run runs f until the test ends it with stop, and waits for it.
func run(t *testing.T, f func(), stop func() error) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	t.Cleanup(func() { _ = stop(); <-done })
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// visit shakes hands as a visitor of host and gives the certificate shown.
func (w *world) visit(host string) (*x509.Certificate, error) {
	return visit(w.tls.Addr().String(), host, w.ca.roots)
}

func visit(addr, host string, roots *x509.CertPool) (*x509.Certificate, error) {
	d := &net.Dialer{Timeout: patience}
	c, err := tls.DialWithDialer(d, "tcp", addr, &tls.Config{ServerName: host, RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if p := c.ConnectionState().NegotiatedProtocol; p != "h2" {
		return nil, errors.New("no h2 but " + p)
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

// ready waits until https works for host.
func (w *world) ready(host string) {
	w.t.Helper()
	eventually(w.t, "a certificate for "+host, func() bool { return w.m.Ready(host) })
}
