package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"adit/acme"

	"github.com/miekg/dns"
	"golang.org/x/crypto/ssh"
)

// withHTTPS opens the HTTPS port, with the internal CA.
func withHTTPS(c *Config) { c.HTTPS = "127.0.0.1:0" }

// secureClient trusts the internal CA, and speaks HTTP/1.1.
func (g *running) secureClient() *http.Client {
	root, err := os.ReadFile(filepath.Join(g.dir, "internal-ca", "root.crt"))
	if err != nil {
		g.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", g.lns.https[0].Addr().String())
	}
	return &http.Client{
		Transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true},
		Timeout:   30 * time.Second,
	}
}

// Silent clients hold nobody up, and do not outlast the gateway.
func TestSilentClients(t *testing.T) {
	g := start(t, newState(t), withHTTPS)
	u := g.login("ann")
	if _, ok := u.forward("blog", 80); !ok {
		t.Fatal("refused")
	}
	g.served("blog", "ann")
	for range 200 {
		c, err := net.Dial("tcp", g.lns.https[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	resp, err := g.secureClient().Get("https://blog.localhost/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "ann" {
		t.Errorf("%q", b)
	}
	g.stop()
}

// A TLS tunnel's local side gets every byte, whatever the pieces it came in; a
// CA's validation too, as nothing of ours is pending.
func TestPassThroughPieces(t *testing.T) {
	g := start(t, newState(t), withHTTPS)
	u := g.login("ann")
	if _, ok := u.forward("raw", 443); !ok {
		t.Fatal("refused")
	}
	eventually(t, "raw:443 is live", func() bool { s := g.registry.lookup("raw:443"); return s.live.Load() != nil })
	for size, proto := range map[int]string{1: "h2", 7: acmeTLS, 1 << 20: "http/1.1"} {
		g.passes(clientHello(t, "RAW.localhost", proto), size)
	}
	g.passes(inRecords(clientHello(t, "raw.localhost", "h2"), 25), 1<<20)
}

// passes wants a ClientHello, sent in pieces of a size, to arrive as it is.
func (g *running) passes(hello []byte, size int) {
	g.t.Helper()
	c, err := net.Dial("tcp", g.lns.https[0].Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	for rest := hello; len(rest) > 0; {
		n, err := c.Write(rest[:min(size, len(rest))])
		if err != nil {
			g.t.Fatal(err)
		}
		rest = rest[n:]
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || line != "ann\n" {
		g.t.Fatalf("by %d: %q, %v", size, line, err)
	}
	echo := make([]byte, len(hello))
	if _, err := io.ReadFull(r, echo); err != nil || string(echo) != string(hello) {
		g.t.Errorf("by %d: another ClientHello arrived (%v)", size, err)
	}
}

// clientHello is what crypto/tls's client says first.
func clientHello(t *testing.T, name, proto string) []byte {
	t.Helper()
	a, b := net.Pipe()
	go tls.Client(a, &tls.Config{ServerName: name, NextProtos: []string{proto}, InsecureSkipVerify: true}).Handshake()
	defer a.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(b, head); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(b, rest); err != nil {
		t.Fatal(err)
	}
	return append(head, rest...)
}

// records is a name server with TXT records, and everything else it refuses.
type records struct {
	mu   sync.Mutex
	txt  map[string]string
	mute bool   // it answers SERVFAIL
	ask  func() // called before each answer
}

func newRecords(t *testing.T) (*records, string) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &records{txt: map[string]string{}}
	up, down := make(chan bool), make(chan bool)
	s := &dns.Server{PacketConn: pc, Handler: r, NotifyStartedFunc: func() { close(up) }}
	go func() { defer close(down); s.ActivateAndServe() }()
	<-up
	t.Cleanup(func() { s.Shutdown(); <-down })
	return r, pc.LocalAddr().String()
}

func (r *records) set(name, text string, mute bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.txt[name], r.mute = text, mute
}

func (r *records) onAsk(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ask = f
}

func (r *records) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ask != nil {
		r.ask()
	}
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	name := strings.ToLower(q.Question[0].Name)
	switch text := r.txt[name]; {
	case r.mute:
		m.Rcode = dns.RcodeServerFailure
	case text == "":
		m.Rcode = dns.RcodeNameError
	default:
		m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{text}}}
	}
	w.WriteMsg(m)
}

// A custom domain whose proof has gone gets no certificate and no new tunnel;
// the tunnel that it has is served on. A name server that fails proves
// nothing, either way.
func TestProofIsLookedAtAgain(t *testing.T) {
	zone, server := newRecords(t)
	g := start(t, newState(t), withHTTPS, func(c *Config) { c.DNSResolver = server })
	const name, record = "app.customer.com", "_adit.app.customer.com."
	print := ssh.FingerprintSHA256(signer("ann").PublicKey())
	zone.set(record, print, true)
	if code, message := g.refusedFor("ann", name, 80); code != "not_proven" || !strings.Contains(message, "DNS gave no answer") ||
		!strings.Contains(message, name+" is not proven yours. Add: TXT "+strings.TrimSuffix(record, ".")+` "`+print+`"`) {
		t.Fatal("a mute name server:", code, message)
	}
	zone.set(record, print, false)
	u := g.login("ann")
	if _, ok := u.forward(name, 80); !ok {
		t.Fatal(u.why())
	}
	live := func() bool { return g.standsLive(name) }
	eventually(t, name+" is live", live)
	ctx := context.Background()
	look := func() error {
		g.proofs.mu.Lock()
		was := g.proofs.of[name]
		g.proofs.mu.Unlock()
		g.reprove(ctx, name, was)
		return g.mayCertify(ctx, name)
	}
	if err := look(); err != nil {
		t.Error("proven:", err)
	}
	zone.set(record, print, true)
	if err := look(); err != nil {
		t.Error("a mute name server took the proof away:", err)
	}
	zone.set(record, "", false)
	if look() == nil {
		t.Error("no proof, and it may have a certificate")
	}
	if code, _ := g.refusedFor("ann", name, 80); code != "not_proven" {
		t.Error("a new tunnel without proof:", code)
	}
	if !live() {
		t.Error("the running tunnel was cut")
	}
	zone.set(record, print, false)
	if err := look(); err != nil {
		t.Error("proven again:", err)
	}
	u.Close()
	eventually(t, name+" is over", func() bool { return !live() })
	if g.mayCertify(ctx, name) == nil {
		t.Error("no tunnel, and it may have a certificate")
	}
	if look(); len(g.proofs.of) != 0 {
		t.Error("still remembered:", g.proofs.of)
	}
}

func TestProofsAreDueDaily(t *testing.T) {
	p := newProofs("")
	now := time.Now()
	p.note("old.example", proof{"x", true, now.Add(-25 * time.Hour)})
	p.note("new.example", proof{"x", true, now.Add(-23 * time.Hour)})
	if due := p.due(now); len(due) != 1 || !due["old.example"].stands {
		t.Error(due)
	}
}

// What a look finds that began before a newer proof does not replace that.
func TestOldLook(t *testing.T) {
	p := newProofs("")
	was := proof{"ann", true, time.Now()}
	p.note("a.b", proof{"bob", true, time.Now()})
	if p.renew("a.b", was, proof{"ann", false, time.Now()}); p.of["a.b"].identity != "bob" {
		t.Error(p.of)
	}
}

func TestValidCustom(t *testing.T) {
	for name, ok := range map[string]bool{
		"app.customer.com": true, "a.b": true, "xn--bcher-kva.example": true, "customer.xn--p1ai": true, "xn--a b.com": false, "xn--\x1b[2J.com": false, "xn--a-.com": false, strings.Repeat("a.", 100) + "a": true,
		"192.0.2.1": false, "1.2": false, "a..b": false, "-a.com": false, "a_b.com": false, "ab--cd.com": false, "a b.com": false,
		"a.com\n": false, strings.Repeat("a", 64) + ".com": false, strings.Repeat("a.", 126) + "a": false, "bücher.example": false,
	} {
		if why := validCustom(name); (why == "") != ok {
			t.Errorf("%q: %q", name, why)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		name, host string
		want       bool
	}{
		{"a.gw.example", "a.gw.example", true}, {"*.gw.example", "a.gw.example", true},
		{"*.gw.example", "gw.example", false}, {"*.gw.example", "a.b.gw.example", false}, {"a.gw.example", "b.gw.example", false},
	} {
		if covers(tt.name, tt.host) != tt.want {
			t.Errorf("%s for %s: %v", tt.name, tt.host, !tt.want)
		}
	}
}

// However much a CA says, the user hears when it is tried again.
func TestLongReason(t *testing.T) {
	g := start(t, newState(t), withHTTPS, func(c *Config) { c.Redirect = "on" })
	tunnel := &Tunnel{name: "blog", client: &client{g: g.Gateway}}
	why := &acme.Delay{Until: time.Now().Add(time.Hour), Err: errors.New(strings.Repeat("no\x1b ", 1000))}
	text := notReady(tunnel, why)
	if !strings.HasSuffix(text, ". It is tried again in 1h0m0s") || len(text) > 500 || strings.ContainsRune(text, '\x1b') {
		t.Errorf("%q", text)
	}
}

// Every setting has its effect or is refused.
func TestTLSSettings(t *testing.T) {
	public := Config{Domain: "gw.example.com"}
	with := func(c Config, change func(*Config)) Config { change(&c); return c }
	for i, tt := range []struct {
		cfg  Config
		want string // "mode https redirect", or the flag that is refused
	}{
		{Config{}, "internal 2 false"},
		{public, "acme 1 true"},
		{Config{HTTPS: "off"}, "off 0 false"},
		{Config{TLS: "off"}, "off 0 false"},
		{with(public, func(c *Config) { c.TLS = "off" }), "off 0 false"},
		{with(public, func(c *Config) { c.Redirect = "off" }), "acme 1 false"},
		{Config{Redirect: "on"}, "internal 2 true"},
		{Config{Redirect: "on", TLS: "off"}, "off 0 false"},
		{Config{TLS: "files", CertDir: "x"}, "files 2 false"},
		{Config{TLS: "files"}, "--tls"},
		{Config{TLS: "acme"}, "--tls"},
		{Config{CertDir: "x"}, "--cert-dir"},
		{Config{TLS: "off", HTTPS: ":443"}, "--https"},
		{with(public, func(c *Config) { c.ACME.DNS = "rfc2136" }), "--dns"},
		{with(public, func(c *Config) { c.ACME.DNS = "exec" }), "--dns"},
		{with(public, func(c *Config) { c.ACME.DNSKey = "a:b:c" }), "--dns-server and --dns-key"},
		{with(public, func(c *Config) { c.ACME.DNSExec = "x" }), "--dns-exec"},
	} {
		s, err := resolve(tt.cfg)
		got := fmt.Sprintf("%s %d %v", s.TLS, len(s.https), s.redirect)
		if err != nil {
			got, _, _ = strings.Cut(err.Error(), ":")
		}
		if got != tt.want {
			t.Errorf("%d: %q, want %q (%v)", i, got, tt.want, err)
		}
	}
}
