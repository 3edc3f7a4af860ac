//go:build unix

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"
)

// world is the part of the internet that certificates need: a CA, and a name
// server that takes every host here.
type world struct {
	mu  sync.Mutex
	txt map[string]string
	dir string // a folder of a name holds a file for each of its records, too
	ca  *authority
}

// newWorld starts one. With its own name server elsewhere, the CA asks that.
func newWorld(ts *testscript.TestScript, o caOptions) *world {
	w := &world{txt: map[string]string{}, dir: ts.MkAbs("txt")}
	ts.Check(os.Mkdir(w.dir, 0o700))
	if o.dns == "" {
		o.dns = w.serveDNS(ts)
	}
	ts.Setenv("DNS", o.dns)
	w.ca = newAuthority(ts, o.dns, o.eab)
	return w
}

// worlds are the worlds of the scripts that have one.
var worlds sync.Map // *rig to *world

func worldOf(ts *testscript.TestScript) *world {
	found, ok := worlds.Load(rigOf(ts))
	if !ok {
		ts.Fatalf("no CA yet: ca starts one")
	}
	return found.(*world)
}

// txtCmd sets a TXT record.
func txtCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || len(args) > 2 || neg {
		ts.Fatalf("usage: txt NAME [TEXT]")
	}
	w := worldOf(ts)
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

// bindConf is BIND with one zone, whose challenge alone may be changed, by whoever
// has the key adit.
const bindConf = `options {
	directory "%[1]s"; listen-on port %[2]s { 127.0.0.1; }; listen-on-v6 { none; };
	pid-file none; session-keyfile none; lock-file none; recursion no; dnssec-validation no;
};
controls { };
key "adit" { algorithm hmac-sha256; secret "%[4]s"; };
zone "%[3]s" { type primary; file "zone"; update-policy { grant adit name _acme-challenge.%[3]s. TXT; }; };
`

// bindZone is the zone: this machine, and every name below it.
const bindZone = "$TTL 1\n@ IN SOA ns x 1 60 60 60 1\n@ NS ns\nns A 127.0.0.1\n@ A 127.0.0.1\n* A 127.0.0.1\n"

// bindCmd starts BIND for a zone.
func bindCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: bind ZONE")
	}
	addr := "127.0.0.1:" + ts.Getenv("TCP_HI") // of the script's block: free, and nobody else takes it
	const secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	dir := ts.MkAbs("bind")
	ts.Check(os.Mkdir(dir, 0o700))
	ts.Check(os.WriteFile(filepath.Join(dir, "zone"), []byte(bindZone), 0o600))
	conf := filepath.Join(dir, "named.conf")
	ts.Check(os.WriteFile(conf, fmt.Appendf(nil, bindConf, dir, ts.Getenv("TCP_HI"), args[0], secret), 0o600))
	p := start(ts, "bind.log", "bind.log", namedProgram(ts), "-g", "-n", "1", "-c", conf)
	ts.Defer(p.kill)
	ready := poll(func() bool {
		answer, err := dns.Exchange(new(dns.Msg).SetQuestion(args[0]+".", dns.TypeSOA), addr)
		return !p.alive() || err == nil && len(answer.Answer) == 1
	}) && p.alive()
	if !ready {
		ts.Fatalf("BIND does not answer:\n%s", ts.ReadFile("bind.log"))
	}
	ts.Setenv("BIND", addr)
	ts.Setenv("BIND_KEY", "adit:hmac-sha256:"+secret)
}

// namedProgram is where BIND is: Debian has it where not everybody's path leads.
func namedProgram(ts *testscript.TestScript) string {
	for _, file := range []string{"named", "/usr/sbin/named"} {
		if found, err := exec.LookPath(file); err == nil {
			return found
		}
	}
	need(ts, false, []string{"named"})
	return ""
}
