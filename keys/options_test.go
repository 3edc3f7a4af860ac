package keys

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestOptionFlags(t *testing.T) {
	tests := []struct {
		field                   string
		forward, pty, touchless bool
	}{
		{"", true, true, false},
		{"restrict", false, false, false},
		{"RESTRICT", false, false, false},
		{"restrict,port-forwarding", true, false, false},
		{"restrict,pty", false, true, false},
		{"port-forwarding,restrict", false, false, false},
		{"no-port-forwarding", false, true, false},
		{"no-port-forwarding,Port-Forwarding", true, true, false},
		{"no-pty,no-X11-forwarding,no-agent-forwarding,no-user-rc", true, false, false},
		{"X11-forwarding,agent-forwarding,user-rc", true, true, false},
		{"no-touch-required", true, true, true},
		{"no-touch-required,touch-required", true, true, false},
		{"restrict,,pty,", false, true, false},
	}
	for _, tt := range tests {
		o, err := parseOptions(tt.field)
		if err != nil {
			t.Errorf("%q: %v", tt.field, err)
			continue
		}
		if o.PortForwarding != tt.forward || o.PTY != tt.pty || o.NoTouchRequired != tt.touchless {
			t.Errorf("%q: forwarding %v, pty %v, touchless %v", tt.field, o.PortForwarding, o.PTY, o.NoTouchRequired)
		}
	}
}

func TestOptionErrors(t *testing.T) {
	tests := []struct{ field, want string }{
		{`command="ls"`, `option "command" which adit does not know`},
		{`environment="A=b"`, `option "environment" which`},
		{`tunnel="0"`, `option "tunnel" which`},
		{`verify-required`, `option "verify-required" which`},
		{`no-restrict`, `option "no-restrict" which`},
		{`no-cert-authority`, "which adit does not know"},
		{`ptyx`, `option "ptyx" which`},
		{`pty="yes"`, `option "pty" which`},
		{`from`, `option "from" which`},
		{`from=`, "without quotes"},
		{`from=10.0.0.1`, "without quotes"},
		{`from='10.0.0.1'`, "without quotes"},
		{`from="10.0.0.1`, "without a closing quote"},
		{`from="10.0.0.1"pty`, "with stray text"},
		{`pty"x"`, "with stray text"},
		{`from="a",from="b"`, "twice"},
		{`from=""`, "empty element"},
		{`from="10.0.0.1,"`, "empty element"},
		{`from="!"`, "empty element"},
		{`from="10.0.0.1/8"`, "no network"},
		{`from="10.0.0.0/33"`, "no network"},
		{`from="10.1"`, "no network"},
		{`from="*/8"`, "no network"},
		{`principals="a"`, "without cert-authority"},
		{`cert-authority,principals="a",principals="b"`, "twice"},
		{`max-tunnels@adit="0"`, "no number from 1 up"},
		{`max-tunnels@adit="-1"`, "no number from 1 up"},
		{`max-tunnels@adit="1e3"`, "no number from 1 up"},
		{`max-tunnels@adit="99999999999"`, "no number from 1 up"},
		{`max-tunnels@adit="1",max-tunnels@adit="2"`, "twice"},
		{`max-tunnels="1"`, "which adit does not know"},
		{`permitlisten="none"`, "no port"},
		{`permitlisten="blog:0"`, "no port"},
		{`permitlisten="blog:65536"`, "no port"},
		{`permitlisten="blog:+80"`, "no port"},
		{`permitlisten="::1:80"`, "no port"},
		{`permitlisten="blog/80"`, "no port"},
		{`permitlisten="[::1]"`, "host:port"},
		{`permitlisten="[::1]80"`, "host:port"},
		{`permitlisten="[::1"`, "host:port"},
		{`permitlisten=""`, "no port"},
		{`permitopen="none"`, "host:port"},
		{`permitopen="80"`, "host:port"},
		{`permitopen="host:"`, "no port"},
		{`expiry-time="19700101Z"`, "YYYYMMDD"},
		{`expiry-time="20260231"`, "YYYYMMDD"},
		{`expiry-time="2026010112"`, "YYYYMMDD"},
		{`expiry-time="2026-01-01"`, "YYYYMMDD"},
		{`expiry-time="20260101ZZ"`, "YYYYMMDD"},
		{`expiry-time=""`, "YYYYMMDD"},
		{"\x1b[2J", `"\x1b[2J"`},
		{strings.Repeat("x", 5000), `xxx..."`},
	}
	for _, tt := range tests {
		_, err := parseOptions(tt.field)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: error %v, want %q", tt.field, err, tt.want)
		}
		if err != nil && len(err.Error()) > 250 {
			t.Errorf("%.60q: error of %d bytes", tt.field, len(err.Error()))
		}
	}
}

func TestOptionValues(t *testing.T) {
	o, err := parseOptions(`cert-authority,principals="ann,b\"ob,,eve",MAX-tunnels@adit="3",Admin@adit`)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(o.Principals, "|") != `ann|b"ob` || o.MaxTunnels != 3 || !o.Admin || !o.CertAuthority {
		t.Errorf("%+v", o)
	}
	if o, _ := parseOptions(`cert-authority,principals=""`); o.Principals == nil {
		t.Error("an empty list of principals became no list")
	}
}

func TestPermitsListen(t *testing.T) {
	tests := []struct {
		field string
		host  string
		port  uint32
		want  bool
	}{
		{``, "anything", 1, true},
		{`restrict`, "anything", 1, true}, // PortForwarding says no
		{`permitlisten="blog:80"`, "blog", 80, true},
		{`permitlisten="blog:80"`, "BLOG", 80, true},
		{`permitlisten="Blog:80"`, "blog", 80, true},
		{`permitlisten="blog:80"`, "blog", 443, false},
		{`permitlisten="blog:80"`, "blog2", 80, false},
		{`permitlisten="blog:80"`, "localhost", 80, false},
		{`permitlisten="80"`, "blog", 80, true},
		{`permitlisten="80"`, "localhost", 80, true},
		{`permitlisten="80"`, "blog", 81, false},
		{`permitlisten="*"`, "blog", 81, true},
		{`permitlisten="blog:*"`, "blog", 22, true},
		{`permitlisten="*:20000"`, "x", 20000, true},
		{`permitlisten="blog-*:80"`, "blog-42", 80, true},
		{`permitlisten="blog-*:80"`, "blog", 80, false},
		{`permitlisten="bl?g:80"`, "blig", 80, true},
		{`permitlisten="bl?g:80"`, "blg", 80, false},
		{`permitlisten="localhost:*"`, "localhost", 0, true},
		{`permitlisten="localhost:8080"`, "localhost", 0, false},
		{`permitlisten="[::1]:80"`, "::1", 80, true},
		{`permitlisten="blog:80",permitlisten="www:443"`, "www", 443, true},
		{`permitlisten="blog:80",permitlisten="www:443"`, "www", 80, false},
		{`permitlisten="blog:http"`, "blog", 80, true},
		{`permitlisten=":80"`, "blog", 80, false},
	}
	for _, tt := range tests {
		o, err := parseOptions(tt.field)
		if err != nil {
			t.Errorf("%s: %v", tt.field, err)
			continue
		}
		if got := o.PermitsListen(tt.host, tt.port); got != tt.want {
			t.Errorf("%s: %s:%d %v", tt.field, tt.host, tt.port, got)
		}
	}
}

func TestListens(t *testing.T) {
	o, err := parseOptions(`permitlisten="blog:80",permitlisten="20000",permitlisten="[::1]:*"`)
	if err != nil || o.Listens() != "blog:80, *:20000, [::1]:*" {
		t.Errorf("%q, %v", o.Listens(), err)
	}
	if plain.Listens() != "" {
		t.Errorf("unrestricted: %q", plain.Listens())
	}
}

func TestPermitsOpen(t *testing.T) {
	tests := []struct {
		field      string
		host       string
		port       uint32
		ok, listed bool
	}{
		{``, "blog", 22, false, false},
		{`permitopen="blog:22"`, "blog", 22, true, true},
		{`permitopen="blog:22"`, "Blog", 22, true, true},
		{`permitopen="blog:22"`, "blog", 23, false, true},
		{`permitopen="blog:*"`, "blog", 23, true, true},
		{`permitopen="*:22"`, "any", 22, true, true},
		{`permitopen="b*:22"`, "blog", 22, false, true}, // no patterns here, as in sshd
		{`permitopen="[::1]:22"`, "::1", 22, true, true},
		{`permitopen="a:1",permitopen="b:2"`, "b", 2, true, true},
	}
	for _, tt := range tests {
		o, err := parseOptions(tt.field)
		if err != nil {
			t.Errorf("%s: %v", tt.field, err)
			continue
		}
		if ok, listed := o.PermitsOpen(tt.host, tt.port); ok != tt.ok || listed != tt.listed {
			t.Errorf("%s: %s:%d %v %v", tt.field, tt.host, tt.port, ok, listed)
		}
	}
}

func TestFrom(t *testing.T) {
	tests := []struct {
		list, addr string
		want       bool
	}{
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"10.0.0.0/8", "10.255.0.1", true},
		{"10.0.0.0/8", "11.0.0.1", false},
		{"10.0.0.0/8,!10.6.6.6", "10.6.6.6", false},
		{"!10.6.6.6,10.0.0.0/8", "10.6.6.6", false},
		{"!10.6.6.6,10.0.0.0/8", "10.6.6.7", true},
		{"!10.6.6.6", "10.6.6.7", false},
		{"*", "10.6.6.7", true},
		{"*,!10.6.*", "10.6.6.7", false},
		{"10.?.0.1", "10.5.0.1", true},
		{"10.?.0.1", "10.55.0.1", false},
		{"2001:db8::/32", "2001:db8::7", true},
		{"2001:DB8:*", "2001:db8:1::7", true},
		{"2001:0db8:0::7", "2001:db8::7", true},
		{"::1", "::1", true},
		{"0.0.0.0/0", "1.2.3.4", true},
		{"0.0.0.0/0", "::1", false},
		{"::/0", "1.2.3.4", false},
		{"0.0.0.0/0", "::ffff:1.2.3.4", true},
		{"::ffff:1.2.3.0/120", "1.2.3.4", false},
		{"host.example.com", "10.0.0.1", false},
		{"*.example.com,10.0.0.1", "10.0.0.1", true},
		{"fe80::/10", "fe80::1%eth0", false}, // a scope is part of an address
		{"fe80::1%*", "fe80::1%eth0", true},
	}
	for _, tt := range tests {
		list, _, err := parseFrom(tt.list)
		if err != nil {
			t.Errorf("%s: %v", tt.list, err)
			continue
		}
		if got := list.allows(netip.MustParseAddr(tt.addr).Unmap()); got != tt.want {
			t.Errorf("%s from %s: %v", tt.addr, tt.list, got)
		}
	}
	if list, _, _ := parseFrom("*"); list.allows(netip.Addr{}) {
		t.Error("an unknown address was let in")
	}
}

func TestFromNames(t *testing.T) {
	_, names, err := parseFrom("10.0.0.1,*.example.com,cafe.de,fe80::1%eth0,10.*,!gw")
	if err != nil || strings.Join(names, " ") != "*.example.com cafe.de gw" {
		t.Errorf("%q, %v", names, err)
	}
}

func TestParseTime(t *testing.T) {
	berlin := time.FixedZone("UTC+2", 2*3600)
	defer func(l *time.Location) { time.Local = l }(time.Local)
	time.Local = berlin
	tests := []struct {
		s    string
		want time.Time
	}{
		{"20260102", time.Date(2026, 1, 2, 0, 0, 0, 0, berlin)},
		{"20260102Z", time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)},
		{"20260102utc", time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)},
		{"202601021504", time.Date(2026, 1, 2, 15, 4, 0, 0, berlin)},
		{"202601021504z", time.Date(2026, 1, 2, 15, 4, 0, 0, time.UTC)},
		{"20260102150405", time.Date(2026, 1, 2, 15, 4, 5, 0, berlin)},
		{"20260102150405Z", time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)},
	}
	for _, tt := range tests {
		if got, err := parseTime(tt.s); err != nil || !got.Equal(tt.want) {
			t.Errorf("%s: %v, %v", tt.s, got, err)
		}
	}
}

func TestEarliestExpiryCounts(t *testing.T) {
	o, err := parseOptions(`expiry-time="20300101Z",expiry-time="20260101Z",expiry-time="20280101Z"`)
	if want := time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC); err != nil || !o.expires.Equal(want) {
		t.Errorf("%v, %v", o.expires, err)
	}
}

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"**", "a", true},
		{"a*b*c", "aXbXbc", true}, {"a*b*c", "aXbXb", false}, {"?", "", false},
		{"*a", "ba", true}, {"*a", "ab", false}, {"a?c*", "abcd", true},
	}
	for _, tt := range tests {
		if got := glob(tt.pattern, tt.s); got != tt.want {
			t.Errorf("%q %q: %v", tt.pattern, tt.s, got)
		}
	}
	// No pattern may take exponential time.
	if glob(strings.Repeat("*a", 200)+"b", strings.Repeat("a", 2000)) {
		t.Error("matched without a b")
	}
}

func FuzzOptions(f *testing.F) {
	for _, s := range []string{
		`restrict,pty`, `from="10.0.0.0/8,!10.1.*",permitlisten="[::1]:80"`, `principals="a\"b"`,
		`expiry-time="20260101Z"`, `max-tunnels@adit="5",admin@adit`, `permitopen="*:*"`, `a="`, `\"`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		field, rest := splitOptions(s)
		if field+rest != s {
			t.Fatalf("%q split into %q and %q", s, field, rest)
		}
		o, err := parseOptions(field)
		if err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%q: error with raw text: %q", s, err)
			}
			return
		}
		if o.expires.IsZero() && strings.Contains(strings.ToLower(field), "expiry-time=") {
			t.Fatalf("%q: an expiry was lost", s)
		}
		o.PermitsListen("localhost", 80)
		o.from.allows(netip.MustParseAddr("10.0.0.1"))
		for _, p := range o.listen {
			if again, err := parsePermit(p.String(), true); err != nil || again != p {
				t.Fatalf("%v printed and read is %v, %v", p, again, err)
			}
		}
	})
}
