//go:build unix

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"github.com/quic-go/quic-go/http3"
	"github.com/rogpeppe/go-internal/testscript"
)

// gets is get by https.
func gets(ts *testscript.TestScript, neg bool, args []string) {
	succeed(ts, neg, append([]string{"gets"}, args...))
}

// getsArgs is curl for a host that the gateway's HTTPS port shall answer for.
func getsArgs(ts *testscript.TestScript, args []string) []string {
	if len(args) < 2 {
		ts.Fatalf("usage: gets HOST PATH [curl args]")
	}
	curl := []string{"curl", "-q", "-sS", "-i", "--max-time", "60", "--noproxy", "*", "--cacert", ts.Getenv("CACERT"),
		"--connect-to", "::127.0.0.1:" + ts.Getenv("HTTPS_PORT")}
	return append(append(curl, args[2:]...), "https://"+args[0]+args[1])
}

// h3Main is the program h3: PORT CACERT HOST PATH.
func h3Main() {
	if len(os.Args) != 5 {
		fail("usage: h3 HTTPS-PORT CACERT HOST PATH")
	}
	root, err := os.ReadFile(os.Args[2])
	fail(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	transport := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: os.Args[3]}}
	defer transport.Close()
	request, err := http.NewRequest(http.MethodGet, "https://127.0.0.1:"+os.Args[1]+os.Args[4], nil)
	fail(err)
	request.Host = os.Args[3]
	response, err := (&http.Client{Transport: transport, Timeout: patienceLimit}).Do(request)
	fail(err)
	defer response.Body.Close()
	fmt.Println(response.Proto, response.Status)
	_, err = io.Copy(os.Stdout, response.Body)
	fail(err)
}

// originCmd opens a local web service that speaks TLS, with a certificate of
// its own making.
func originCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 || neg {
		ts.Fatalf("usage: origin NAME HOST TEXT")
	}
	cert := selfSigned(ts, args[1])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600))
	s := open(ts, args[0])
	s.listener = tls.NewListener(s.listener, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	s.server = &http.Server{Handler: webHandler(args[2]), ErrorLog: log.New(io.Discard, "", 0)}
	s.running.Add(1)
	go s.serveHTTP()
}

func selfSigned(ts *testscript.TestScript, host string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	ts.Check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// world is the part of the internet that certificates need: a CA, and a name
// server that takes every host here.
type world struct {
	mu  sync.Mutex
	txt map[string]string
	dir string // a folder of a name holds a file for each of its records, too
}

// caCmd starts a world.
func caCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 0 || neg {
		ts.Fatalf("usage: ca")
	}
	w := &world{txt: map[string]string{}, dir: ts.MkAbs("txt")}
	ts.Check(os.Mkdir(w.dir, 0o700))
	worlds.Store(rigOf(ts), w)
	ts.Setenv("DNS", w.serveDNS(ts))
	w.serveCA(ts)
}

// worlds are the worlds of the scripts that have one.
var worlds sync.Map // *rig to *world

// txtCmd sets a TXT record.
func txtCmd(ts *testscript.TestScript, neg bool, args []string) {
	found, ok := worlds.Load(rigOf(ts))
	if len(args) == 0 || len(args) > 2 || neg || !ok {
		ts.Fatalf("usage, after ca: txt NAME [TEXT]")
	}
	w := found.(*world)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.txt[args[0]+"."] = strings.Join(args[1:], "")
}

// serveDNS answers over UDP and TCP until the script ends.
func (w *world) serveDNS(ts *testscript.TestScript) string {
	pc, ln := bothPorts(ts)
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: w}, {Listener: ln, Handler: w}} {
		up, down := make(chan bool), make(chan bool)
		s.NotifyStartedFunc = func() { close(up) }
		go func() { defer close(down); _ = s.ActivateAndServe() }()
		<-up
		ts.Defer(func() { _ = s.Shutdown(); <-down })
	}
	return pc.LocalAddr().String()
}

// bothPorts is one free port over UDP and TCP.
func bothPorts(ts *testscript.TestScript) (net.PacketConn, net.Listener) {
	for range 100 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		if pc, err := net.ListenPacket("udp", ln.Addr().String()); err == nil {
			return pc, ln
		}
		ln.Close()
	}
	ts.Fatalf("no port is free over both")
	return nil, nil
}

// ServeDNS is the name server.
func (w *world) ServeDNS(to dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	name, kind := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	head := dns.RR_Header{Name: q.Question[0].Name, Rrtype: kind, Class: dns.ClassINET, Ttl: 1}
	w.mu.Lock()
	text := w.txt[name]
	w.mu.Unlock()
	switch {
	case kind == dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: head, A: net.IPv4(127, 0, 0, 1)})
	case kind == dns.TypeTXT && text != "":
		m.Answer = append(m.Answer, &dns.TXT{Hdr: head, Txt: []string{text}})
	case kind == dns.TypeTXT:
		records, _ := os.ReadDir(filepath.Join(w.dir, name))
		for _, r := range records {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: head, Txt: []string{r.Name()}})
		}
	case kind == dns.TypeSOA && name == "example.com.":
		m.Answer = append(m.Answer, &dns.SOA{Hdr: head, Ns: "ns.example.com.", Mbox: "x.example.com.", Refresh: 1})
	}
	_ = to.WriteMsg(m)
}

// serveCA is Let's Encrypt's test CA, in the test process. It takes the
// gateway's ports for 80 and 443.
func (w *world) serveCA(ts *testscript.TestScript) {
	quiet, store := log.New(io.Discard, "", 0), db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "the only one", ValidityPeriod: 90 * 86400}})
	number := func(name string) int { n, _ := strconv.Atoi(ts.Getenv(name)); return n }
	validator := va.New(quiet, number("HTTP_PORT"), number("HTTPS_PORT"), true, ts.Getenv("DNS"), store)
	front := wfe.New(quiet, store, validator, authority, nil, true, false, 0, 0)
	s := httptest.NewUnstartedServer(front.Handler())
	s.Config.ErrorLog = quiet
	s.StartTLS()
	ts.Defer(s.Close)
	write := func(name string, der []byte) string {
		file := ts.MkAbs(name)
		ts.Check(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
		return file
	}
	ts.Setenv("CA_URL", s.URL+wfe.DirectoryPath)
	ts.Setenv("CA_ROOT", write("ca-https.pem", s.Certificate().Raw))
	ts.Setenv("CACERT", write("ca-root.pem", authority.GetRootCert(0).Cert.Raw))
}
