package gateway

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"adit/tcp"
)

// settings are a Config with its preset filled in and its values read. What
// of it can change while the gateway runs is to be asked of now.
type settings struct {
	Config
	live     atomic.Pointer[Config]
	local    bool
	domain   string // lower case, without a trailing dot
	suffix   string // what names have behind them: "." and domain
	ssh      []string
	http     []string
	https    []string // none: HTTPS is off
	admin    []string
	tcpHosts []string
	ports    tcp.Range
	redirect bool
	idle     []idleSetting
}

// idleSetting is one that was set and has no effect beside the others. That is
// no mistake: a file may be shared between presets.
type idleSetting struct{ flag, why string }

// preset is what the two ways of running differ in (README, "Production").
type preset struct{ ssh, http, https, tcpHost, tls, redirect string }

var (
	localPreset  = preset{"127.0.0.1:2222,[::1]:2222", "127.0.0.1:7080,[::1]:7080", "127.0.0.1:7443,[::1]:7443", "127.0.0.1,::1", "internal", "off"}
	publicPreset = preset{":22", ":80", ":443", "", "acme", "on"}
)

// resolve fills in cfg's preset. The error names every field that cannot be
// used, each with its flag.
func resolve(cfg Config) (*settings, error) {
	s := &settings{Config: cfg, local: cfg.Domain == "", domain: strings.ToLower(strings.TrimSuffix(cfg.Domain, "."))}
	p := publicPreset
	if s.local {
		p, s.domain = localPreset, "localhost"
	}
	s.suffix = "." + s.domain
	errs := []error{s.checkTLS()}
	s.defaults(p)
	addresses := func(to *[]string, flag, value string) {
		list, err := splitAddresses(value)
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
		}
		*to = list
	}
	addresses(&s.ssh, "ssh", s.SSH)
	addresses(&s.http, "http", s.HTTP)
	addresses(&s.https, "https", s.HTTPS)
	addresses(&s.admin, "admin", s.Admin)
	errs = append(errs, s.checkAddresses())
	var err error
	if s.ports, err = tcp.ParseRange(s.TCPPorts); err != nil {
		errs = append(errs, fmt.Errorf("--tcp-ports: %w", err))
	}
	if s.tcpHosts, err = splitHosts(s.TCPHost); err == nil {
		err = distinct(s.tcpHosts)
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("--tcp-host: %w", err))
	}
	if err := validDomain(s.domain); err != nil {
		errs = append(errs, fmt.Errorf("--domain: %w", err))
	}
	s.redirect = s.Redirect == "on" && len(s.https) > 0
	s.idle = s.withoutEffect(cfg)
	s.live.Store(&s.Config)
	return s, errors.Join(errs...)
}

// Validate says what in c New would refuse whatever the machine is like: values
// and combinations of them, each with its flag.
func (c Config) Validate() error {
	_, err := resolve(c)
	return err
}

// now is the configuration that is in force by now.
func (s *settings) now() *Config { return s.live.Load() }

// change puts in force what of cfg can be without a restart: limits and times.
// A cfg that New would refuse changes nothing.
func (s *settings) change(cfg Config) error {
	fresh, err := resolve(cfg)
	if err != nil {
		return err
	}
	next := s.Config
	next.NameTTL, next.MaxNames, next.MaxPorts = fresh.NameTTL, fresh.MaxNames, fresh.MaxPorts
	next.ReservedNames = fresh.ReservedNames
	next.Park, next.ResponseTimeout, next.StallTimeout, next.Drain = fresh.Park, fresh.ResponseTimeout, fresh.StallTimeout, fresh.Drain
	s.live.Store(&next)
	return nil
}

// checkTLS refuses settings that would have no effect, or could not have the
// one they are meant for. It looks at what was set, before the defaults.
func (s *settings) checkTLS() error {
	mode := s.TLS
	if mode == "" && s.local {
		mode = "internal"
	}
	var errs []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(s.TLS == "off" && s.HTTPS != "" && s.HTTPS != "off", "--https: %s would stay closed with --tls off: leave out one of them", s.HTTPS)
	refuse(mode == "files" && s.CertDir == "", "--tls: files needs --cert-dir DIR")
	refuse(mode != "files" && s.CertDir != "", "--cert-dir: is for --tls files only")
	refuse(mode == "acme" && s.local && s.HTTPS != "off", "--tls: acme needs --domain NAME: no CA certifies localhost")
	refuse(s.ACME.DNS == "rfc2136" && s.ACME.DNSServer == "", "--dns: rfc2136 needs --dns-server HOST:PORT")
	refuse(s.ACME.DNS == "exec" && s.ACME.DNSExec == "", "--dns: exec needs --dns-exec PROGRAM")
	refuse(s.ACME.DNS != "rfc2136" && s.ACME.DNSServer+s.ACME.DNSKey != "", "--dns-server and --dns-key: are for --dns rfc2136 only")
	refuse(s.ACME.DNS != "exec" && s.ACME.DNSExec != "", "--dns-exec: is for --dns exec only")
	return errors.Join(errs...)
}

// withoutEffect names what of set, the settings as they were given, has no effect
// beside those that are in force.
func (s *settings) withoutEffect(set Config) (idle []idleSetting) {
	where := func(given bool, flag, why string) {
		if given {
			idle = append(idle, idleSetting{"--" + flag, why})
		}
	}
	why := "--tls is " + s.TLS
	if len(s.https) == 0 {
		why = "HTTPS is off"
		where(set.TLS != "" && set.TLS != "off", "tls", why)
		where(set.Redirect == "on", "redirect", why)
		where(set.HTTP3 == "on", "http3", why)
		where(set.PublicHTTPS != 0, "public-https", why)
		where(set.CertDir != "", "cert-dir", why)
	}
	for _, flag := range set.ACME.given() {
		where(s.TLS != "acme", flag, why)
	}
	where(set.TCPHost != "" && s.ports.Len() == 0, "tcp-host", "--tcp-ports is off")
	where(set.MaxPorts != 0 && s.ports.Len() == 0, "max-ports", "--tcp-ports is off")
	return idle
}

// given names the settings that are not empty.
func (a ACME) given() (flags []string) {
	for _, f := range []struct{ flag, value string }{
		{"acme-email", a.Email}, {"acme-ca", a.CA}, {"acme-ca-root", a.CARoot}, {"acme-eab", a.EAB},
		{"dns", a.DNS}, {"dns-server", a.DNSServer}, {"dns-key", a.DNSKey}, {"dns-exec", a.DNSExec},
	} {
		if f.value != "" {
			flags = append(flags, f.flag)
		}
	}
	if a.NamesPerDay != 0 {
		flags = append(flags, "acme-names-per-day")
	}
	return flags
}

func (s *settings) defaults(p preset) {
	set := func(to *string, value string) {
		if *to == "" {
			*to = value
		}
	}
	set(&s.SSH, p.ssh)
	set(&s.HTTP, p.http)
	set(&s.TLS, p.tls)
	set(&s.HTTPS, p.https)
	if s.TLS == "off" || s.HTTPS == "off" {
		s.TLS, s.HTTPS = "off", "off"
	}
	set(&s.Redirect, p.redirect)
	set(&s.HTTP3, "on")
	set(&s.TCPHost, p.tcpHost)
	set(&s.Admin, "127.0.0.1:9180")
	set(&s.TCPPorts, "20000-29999")
	duration := func(to *time.Duration, value time.Duration) {
		if *to == 0 {
			*to = value
		}
	}
	duration(&s.NameTTL, 30*24*time.Hour)
	duration(&s.Park, 10*time.Second)
	duration(&s.ResponseTimeout, time.Minute)
	duration(&s.StallTimeout, time.Minute)
	duration(&s.LoginGrace, 30*time.Second)
	duration(&s.Drain, 30*time.Second)
	number := func(to *int, value int) {
		if *to == 0 {
			*to = value
		}
	}
	number(&s.MaxNames, 20)
	number(&s.MaxPorts, 10)
}

// splitAddresses reads "host:port,host:port" or "off" (none).
func splitAddresses(value string) ([]string, error) {
	if value == "off" {
		return nil, nil
	}
	list := strings.Split(value, ",")
	for i, a := range list {
		list[i] = strings.TrimSpace(a)
		_, port, err := net.SplitHostPort(list[i])
		if err != nil {
			return nil, fmt.Errorf("%q is not an address: write HOST:PORT, :PORT or off", a)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
			return nil, fmt.Errorf("%q is not a port between 1 and 65535", port)
		}
	}
	return list, nil
}

// splitHosts reads "127.0.0.1,::1"; an empty value is all addresses.
func splitHosts(value string) ([]string, error) {
	list := strings.Split(value, ",")
	for i, h := range list {
		list[i] = strings.Trim(strings.TrimSpace(h), "[]")
		if list[i] != "" && net.ParseIP(list[i]) == nil && list[i] != "localhost" {
			return nil, fmt.Errorf("%q is not an IP address", h)
		}
	}
	return list, nil
}

// distinct refuses two hosts of which one would take the other's ports.
func distinct(hosts []string) error {
	for i, h := range hosts {
		for _, before := range hosts[:i] {
			if sameHost(before, h) {
				return fmt.Errorf("%s and %s are the same address, or one is in the other: leave out one of them", before, h)
			}
		}
	}
	return nil
}

// checkAddresses refuses one port for two things: what listens second would
// only say that another program has it.
func (s *settings) checkAddresses() error {
	type place struct{ addr, what, flag string }
	var seen []place
	var errs []error
	for _, l := range []struct {
		addrs      []string
		what, flag string
	}{{s.ssh, "SSH", "ssh"}, {s.http, "HTTP", "http"}, {s.https, "HTTPS", "https"}, {s.admin, "the admin listener", "admin"}} {
		for _, a := range l.addrs {
			if i := slices.IndexFunc(seen, func(p place) bool { return overlap(p.addr, a) }); i >= 0 {
				errs = append(errs, fmt.Errorf("port %d (%s) is also that of --%s, for %s. Use another one with --%s ADDRESS:PORT",
					portOf(a), l.what, seen[i].flag, seen[i].what, l.flag))
			}
			seen = append(seen, place{a, l.what, l.flag})
		}
	}
	return errors.Join(errs...)
}

// overlap reports whether two listening addresses are the same port of the
// same address. A port of 0 is another one each time.
func overlap(a, b string) bool {
	ahost, aport, _ := net.SplitHostPort(a)
	bhost, bport, _ := net.SplitHostPort(b)
	return aport == bport && aport != "0" && sameHost(ahost, bhost)
}

// sameHost reports whether a port of one host is also the other's.
func sameHost(a, b string) bool {
	ip := net.ParseIP(a)
	return a == b || isAll(a) || isAll(b) || ip != nil && ip.Equal(net.ParseIP(b))
}

// isAll reports whether a host stands for all addresses of the machine. To
// net.Listen 0.0.0.0 does too, and not for those of IPv4 alone.
func isAll(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

func validDomain(d string) error {
	if len(d) > 180 {
		return fmt.Errorf("%q is too long", d)
	}
	for label := range strings.SplitSeq(d, ".") {
		if domainLabel(label) != "" {
			return fmt.Errorf("%q is not a domain name", d)
		}
	}
	return nil
}

// portOf is the port of a listener, or of the first of an address list.
func portOf(addr string) int {
	_, p, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(p)
	return n
}
