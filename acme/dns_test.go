package acme

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/libdns/libdns"
	"github.com/miekg/dns"
)

// secret is the TSIG secret of tests.
var secret = base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))

// named is BIND with the zones gw.bind.test and acme.bind.example, which take
// updates of challenges by the key adit, and static.bind.test, which takes none
// and whose challenges are an alias into the second.
type named struct{ addr string }

const namedConf = `options {
	directory "%[1]s"; listen-on port %[2]d { 127.0.0.1; }; listen-on-v6 { none; };
	pid-file none; session-keyfile none; lock-file none; recursion no; dnssec-validation no;
};
controls { };
key "adit" { algorithm hmac-sha256; secret "%[3]s"; };
zone "gw.bind.test" { type primary; file "gw"; update-policy { grant adit name _acme-challenge.gw.bind.test. TXT; }; };
zone "acme.bind.example" { type primary; file "acme"; update-policy { grant adit zonesub TXT; }; };
zone "static.bind.test" { type primary; file "static"; };
`

const zoneHead = "$TTL 1\n@ IN SOA ns x 1 60 60 60 1\n@ NS ns\nns A 127.0.0.1\n@ A 127.0.0.1\n"

func newNamed(t *testing.T) *named {
	t.Helper()
	program := need(t, "named", "bind9")
	dir := t.TempDir()
	put(t, filepath.Join(dir, "gw"), []byte(zoneHead+"* A 127.0.0.1\n"))
	put(t, filepath.Join(dir, "acme"), []byte(zoneHead))
	put(t, filepath.Join(dir, "static"), []byte(zoneHead+
		"_acme-challenge CNAME hop\nhop CNAME gw.acme.bind.example.\n"))
	pc, ln := bothPorts(t)
	addr := ln.Addr().(*net.TCPAddr)
	pc.Close()
	ln.Close()
	put(t, filepath.Join(dir, "named.conf"), fmt.Appendf(nil, namedConf, dir, addr.Port, secret))
	startNamed(t, program, filepath.Join(dir, "named.conf"))
	n := &named{addr: addr.String()}
	eventually(t, "named", func() bool {
		answer, err := dns.Exchange(new(dns.Msg).SetQuestion("gw.bind.test.", dns.TypeSOA), n.addr)
		return err == nil && len(answer.Answer) == 1
	})
	return n
}

func startNamed(t *testing.T, program, conf string) {
	t.Helper()
	out := &logBuffer{}
	cmd := exec.Command(program, "-g", "-n", "1", "-c", conf)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
}

// txt are the values at fqdn.
func (n *named) txt(t *testing.T, fqdn string) (values []string) {
	t.Helper()
	answer, err := dns.Exchange(new(dns.Msg).SetQuestion(fqdn, dns.TypeTXT), n.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, rr := range answer.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			values = append(values, txt.Txt...)
		}
	}
	return values
}

// bindWorld is a world whose wildcard is made through n.
func bindWorld(t *testing.T, n *named, domain string) *world {
	return newWorld(t, domain, func(w *world) {
		w.cfg.DNS = DNSConfig{Provider: "rfc2136", Server: n.addr, Key: "adit:hmac-sha256:" + secret}
		w.cfg.Resolver = n.addr
		w.options.resolver = n.addr
	})
}

// One wildcard through a real name server: what a user opens costs nothing.
func TestWildcard(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	w := bindWorld(t, n, "gw.bind.test")
	if lines := mustReport(t, w.cfg); lines[1].Level != OK || !strings.Contains(lines[1].Text, "accepted") {
		t.Errorf("%+v", lines)
	}
	m := w.start()
	if s := m.Ensure("app.gw.bind.test", "ann"); s.Ready || s.Err != nil {
		t.Error(s)
	}
	w.ready("gw.bind.test")
	w.ready("app.gw.bind.test")
	for i := range 10_000 {
		if s := m.Ensure(fmt.Sprintf("n%d.gw.bind.test", i), "ann"); !s.Ready {
			t.Fatal(i, s)
		}
	}
	if s := m.Ensure("a.b.gw.bind.test", "ann"); !errors.Is(s.Err, ErrName) {
		t.Error(s)
	}
	for _, host := range []string{"gw.bind.test", "app.gw.bind.test"} {
		if _, err := w.visit(host); err != nil {
			t.Error(err)
		}
	}
	if w.ca.ordered("*.gw.bind.test") != 1 || w.ca.ordered("gw.bind.test") != 1 || w.ca.ordered("") != 2 {
		t.Errorf("%+v", w.ca.orders)
	}
	eventually(t, "the records to be gone", func() bool { return len(n.txt(t, "_acme-challenge.gw.bind.test.")) == 0 })
	if strings.Contains(w.log.String(), secret) {
		t.Error("the secret is in the log")
	}

	m.Ensure("custom.gw.example", "ann") // not ours to make records for
	eventually(t, "word of it", func() bool { _, told := w.news("custom.gw.example"); return told })
	w.stop()
	w.start()
	if !w.m.Ready("app.gw.bind.test") {
		t.Error("the wildcard was not loaded")
	}
	if lines := mustReport(t, w.cfg); len(lines) != 4 || lines[2].Level != OK || lines[3].Level != OK {
		t.Errorf("%+v", lines)
	}
}

// A zone that only its own server knows, as one behind a name server that is not
// public: who takes the updates is asked for it.
func TestWildcardUnseen(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	w := bindWorld(t, n, "gw.bind.test")
	w.cfg.Resolver = "127.0.0.1:1"
	if lines := mustReport(t, w.cfg); lines[1].Level != OK {
		t.Errorf("%+v", lines)
	}
	w.start()
	w.ready("app.gw.bind.test")
	w.ready("gw.bind.test")
}

// The challenge's name is an alias of one in another zone.
func TestWildcardCNAME(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	w := bindWorld(t, n, "static.bind.test")
	// BIND does not follow an alias out of a zone without recursion: the CA's
	// resolver asks in two steps, as the real one does.
	w.options.resolver = newZone(t, &zone{apex: "static.bind.test.", txt: func(fqdn string) []string {
		if fqdn == "_acme-challenge.static.bind.test." {
			fqdn = "gw.acme.bind.example."
		}
		return n.txt(t, fqdn)
	}}).addr
	w.ca.reset(t, w.options)
	if lines := mustReport(t, w.cfg); lines[1].Level != OK || !strings.Contains(lines[1].Text, "gw.acme.bind.example") {
		t.Errorf("%+v", lines)
	}
	w.start()
	w.ready("app.static.bind.test")
}

func TestUpdateRefused(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	rec := []libdns.Record{libdns.TXT{Name: "_acme-challenge", Text: "v", TTL: recordTTL}}
	for name, c := range map[string]struct{ key, zone, server, want string }{
		"good":         {"adit:hmac-sha256:" + secret, "gw.bind.test.", n.addr, ""},
		"bad secret":   {"adit:hmac-sha256:AAAA", "gw.bind.test.", n.addr, "secret is another"},
		"unknown key":  {"other:hmac-sha256:" + secret, "gw.bind.test.", n.addr, "does not know the key"},
		"unsigned":     {"", "gw.bind.test.", n.addr, "may not change this name"},
		"another zone": {"adit:hmac-sha256:" + secret, "elsewhere.test.", n.addr, "not its zone"},
		"nobody there": {"adit:hmac-sha256:" + secret, "gw.bind.test.", "127.0.0.1:1", "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := newRFC2136(DNSConfig{Server: c.server, Key: c.key})
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.AppendRecords(t.Context(), c.zone, rec)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Error(err)
			}
			if err == nil {
				if got := n.txt(t, "_acme-challenge."+c.zone); !slices.Equal(got, []string{"v"}) {
					t.Error(got)
				}
				if _, err := p.DeleteRecords(t.Context(), c.zone, rec); err != nil {
					t.Error(err)
				}
				if _, err := p.DeleteRecords(t.Context(), c.zone, rec); err != nil {
					t.Error("again:", err)
				}
			}
		})
	}
}

// hookScript notes how it was called and keeps a folder of records.
const hookScript = `#!/bin/sh
echo "$@" >>%[1]s/calls
env | grep ADIT_ >>%[1]s/calls
case $1 in
present) mkdir -p "%[1]s/$2" && : >"%[1]s/$2/$3" ;;
cleanup) rm "%[1]s/$2/$3" ;;
esac
`

// script makes a program. Another process writes it: a child that is forked
// meanwhile would hold our own file open, and it could not be run (ETXTBSY).
func script(t *testing.T, file, text string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `cat >"$0" && chmod 700 "$0"`, file)
	cmd.Stdin = strings.NewReader(text)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
}

func TestHook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "hook")
	script(t, program, fmt.Sprintf(hookScript, dir))
	z := newZone(t, &zone{apex: "gw.hook.test.", txt: func(fqdn string) (values []string) {
		entries, _ := os.ReadDir(filepath.Join(dir, fqdn))
		for _, e := range entries {
			values = append(values, e.Name())
		}
		return values
	}})
	w := newWorld(t, "gw.hook.test", func(w *world) {
		w.cfg.DNS = DNSConfig{Provider: "exec", Exec: program}
		w.cfg.Resolver, w.options.resolver = z.addr, z.addr
	})
	w.start()
	w.ready("app.gw.hook.test")
	w.ready("gw.hook.test")
	if _, err := w.visit("app.gw.hook.test"); err != nil {
		t.Error(err)
	}
	w.stop()
	calls := string(read(t, filepath.Join(dir, "calls")))
	if strings.Count(calls, "present _acme-challenge.gw.hook.test. ") != 2 || strings.Count(calls, "cleanup _acme-challenge.gw.hook.test. ") != 2 ||
		strings.Contains(calls, "ADIT_") {
		t.Error(calls)
	}
}

// oneValue is a program that knows one value of a name.
const oneValue = `#!/bin/sh
case $1 in
present) mkdir -p "%[1]s/$2" && rm -f "%[1]s/$2"/* && : >"%[1]s/$2/$3" ;;
cleanup) rm -rf "%[1]s/$2" ;;
esac
`

// The domain and its wildcard are proven at one name, after one another: many a
// program sets the value of a name, or removes all of it. The zone need not be
// known, nor need the record be seen from here.
func TestHookOneValue(t *testing.T) {
	t.Parallel()
	for name, resolver := range map[string]string{"no zone known": "", "nobody to ask": "127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			program := filepath.Join(dir, "hook")
			script(t, program, fmt.Sprintf(oneValue, dir))
			z := newZone(t, &zone{txt: func(fqdn string) (values []string) {
				entries, _ := os.ReadDir(filepath.Join(dir, fqdn))
				for _, e := range entries {
					values = append(values, e.Name())
				}
				return values
			}})
			w := newWorld(t, "gw.one.test", func(w *world) {
				w.cfg.DNS = DNSConfig{Provider: "exec", Exec: program}
				w.cfg.Resolver, w.options.resolver = cmp.Or(resolver, z.addr), z.addr
			})
			if lines := mustReport(t, w.cfg); lines[1].Level != OK || lines[1].Text != "_acme-challenge.gw.one.test accepted" {
				t.Errorf("%+v", lines)
			}
			w.start()
			w.ready("app.gw.one.test")
			w.ready("gw.one.test")
			w.ca.mu.Lock()
			defer w.ca.mu.Unlock()
			if o := w.ca.orders; len(o) != 2 || o[0].Identifiers[0].Value != "*.gw.one.test" { // names wait for it
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestHookFails(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "hook")
	script(t, program, "#!/bin/sh\nprintf 'no \\033[31m credentials'; head -c 100000 /dev/zero; exit 3\n")
	h, err := newHook(DNSConfig{Exec: program})
	if err != nil {
		t.Fatal(err)
	}
	err = h.run(t.Context(), "present", "x.", "v")
	if err == nil || !strings.Contains(err.Error(), "exit status 3: no  [31m credentials") || len(err.Error()) > 1000 {
		t.Errorf("%.500q", err)
	}
	if _, err := newHook(DNSConfig{Exec: program + ".missing"}); err == nil {
		t.Error("not missed")
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	z := newZone(t, &zone{cname: map[string]string{
		"_acme-challenge.a.test.": "b.test.", "b.test.": "c.test.",
		"_acme-challenge.loop.test.": "loop2.test.", "loop2.test.": "_acme-challenge.loop.test.",
	}})
	s, err := newDNSSolver(&Config{Resolver: z.addr, DNS: DNSConfig{Provider: "rfc2136", Server: z.addr}, Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"_acme-challenge.a.test": "c.test", "_acme-challenge.plain.test": "_acme-challenge.plain.test", "_acme-challenge.loop.test": "",
	} {
		got, err := s.follow(t.Context(), name)
		if got != want || (err == nil) != (want != "") {
			t.Error(name, got, err)
		}
	}
}

// FuzzCNAME reads answers as a resolver that lies might send them.
func FuzzCNAME(f *testing.F) {
	m := new(dns.Msg).SetQuestion("a.test.", dns.TypeCNAME)
	m.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: "A.test.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "b.test."}}
	seed, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m dns.Msg
		if m.Unpack(b) == nil {
			target, err := cnameIn(&m, "a.test.")
			if err != nil && target != "" {
				t.Error(target, err)
			}
		}
	})
}

func TestDNSKey(t *testing.T) {
	t.Parallel()
	for key, ok := range map[string]bool{
		"adit:hmac-sha256:" + secret: true, "Adit.example.:HMAC-SHA512:" + secret: true,
		"": true, "adit": false, "adit:hmac-sha256": false, ":hmac-sha256:" + secret: false, "adit:hmac-md5:" + secret: false,
		"adit:hmac-sha256:***": false, "adit:hmac-sha256:": false, "a:b:c:d": false,
	} {
		_, err := newRFC2136(DNSConfig{Server: "ns", Key: key})
		if (err == nil) != ok {
			t.Errorf("%q: %v", key, err)
		}
	}
	for server, want := range map[string]string{"ns.test": "ns.test:53", "ns.test:5353": "ns.test:5353", "::1": "[::1]:53", "[::1]": "[::1]:53"} {
		if p, err := newRFC2136(DNSConfig{Server: server}); err != nil || p.server != want {
			t.Error(server, p.server, err)
		}
	}
}

func FuzzDNSKey(f *testing.F) {
	f.Add("adit:hmac-sha256:" + secret)
	f.Add("::")
	f.Fuzz(func(t *testing.T, s string) {
		p := &rfc2136{}
		err := p.parseKey(s)
		if _, private, ok := cutLast(s); ok && err != nil && len(private) > 8 && strings.Contains(err.Error(), private) {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func FuzzEAB(f *testing.F) {
	f.Add("kid:a2V5")
	f.Add("k:id:a2V5+/==")
	f.Fuzz(func(t *testing.T, s string) {
		eab, err := parseEAB(s)
		if err == nil && (eab.KeyID == "" || eab.MACKey == "") {
			t.Errorf("%q: %+v", s, eab)
		}
	})
}
