package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"adit/gateway"
)

// Each kind of value is a type that reads itself from text, wherever the text
// came from. The zero value means "not set"; text that reads as it is
// therefore refused, except where a comment says what it becomes.

type (
	// path is a file or folder, made absolute; ~ is the home folder.
	path string
	// domain is a DNS name in lower case, without the final dot.
	domain string
	// addresses is listening addresses separated by commas, or "off".
	addresses string
	// hosts is IP addresses separated by commas.
	hosts string
	// networks is IP networks separated by commas, as netip.Prefix writes them.
	networks string
	// portRange is "A-B", one port, or "off".
	portRange string
	// names is DNS labels separated by commas, in lower case.
	names string
	// ciphers is SSH ciphers by name, separated by commas.
	ciphers string
	// port is a TCP port, 1 to 65535.
	port int
	// count is a number of things, at least 1.
	count int

	// text is one line of printable ASCII.
	text string
	// webURL is an http or https URL.
	webURL string
	// secret is a text that is not repeated in messages.
	secret string
	// tsigKey is a secret of three parts.
	tsigKey secret
	// hostPort is the address of another machine's service.
	hostPort string

	tlsMode   string // "acme", "internal", "files" or "off"
	dnsMode   string // "rfc2136" or "exec"
	onOff     string // "on" or "off"
	logFormat string // "text" or "json"
	logLevel  string // "debug", "info", "warn" or "error"

	// duration is a time above zero.
	duration struct{ time.Duration }
	// patience is a duration that may be zero, which becomes -1ns: to the
	// gateway zero is "as the preset has it", and less is "do not wait".
	patience struct{ time.Duration }
)

var errEmpty = errors.New("needs a value")

// UnmarshalText reads a file name.
func (p *path) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errEmpty
	}
	abs, err := filepath.Abs(kong.ExpandPath(string(text)))
	*p = path(abs)
	return err
}

// label is one DNS label (RFC 1123 section 2.1).
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// UnmarshalText reads a DNS name. A name of 253 octets has no room for the
// labels that go before it: 64 are left free.
func (d *domain) UnmarshalText(text []byte) error {
	name := strings.TrimSuffix(strings.ToLower(string(text)), ".")
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Errorf("%q is an IP address; wants a domain as gw.example.com", text)
	}
	for part := range strings.SplitSeq(name, ".") {
		if !label.MatchString(part) || len(name) > 253-64 {
			return fmt.Errorf("%q is no domain; wants one as gw.example.com, without scheme or port", text)
		}
	}
	*d = domain(name)
	return nil
}

// UnmarshalText reads listening addresses.
func (a *addresses) UnmarshalText(text []byte) error {
	for address := range strings.SplitSeq(string(text), ",") {
		if string(text) != "off" && !isAddress(address) {
			return fmt.Errorf("%q is no address; wants HOST:PORT, :PORT or off, with a port from 1 to 65535", address)
		}
	}
	*a = addresses(text)
	return nil
}

// isAddress reports whether address is host:port or :port, where host is an
// IP address or a host name.
func isAddress(address string) bool {
	host, number, err := net.SplitHostPort(address)
	if err != nil || new(port).UnmarshalText([]byte(number)) != nil {
		return false
	}
	return host == "" || isIP(host) || new(domain).UnmarshalText([]byte(host)) == nil
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// UnmarshalText reads IP addresses.
func (h *hosts) UnmarshalText(text []byte) error {
	for host := range strings.SplitSeq(string(text), ",") {
		if !isIP(host) {
			return fmt.Errorf("%q is no IP address", host)
		}
	}
	*h = hosts(text)
	return nil
}

// UnmarshalText reads IP networks.
func (n *networks) UnmarshalText(text []byte) error {
	var list []string
	for item := range strings.SplitSeq(string(text), ",") {
		network, err := parseNetwork(strings.TrimSpace(item))
		if err != nil {
			return err
		}
		list = append(list, network.String())
	}
	*n = networks(strings.Join(list, ","))
	return nil
}

// parseNetwork reads a CIDR, or an address that stands for itself. Bits behind
// the prefix are more likely a mistake than meant.
func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	switch {
	case err != nil || network.Addr().Is4In6():
		return network, fmt.Errorf("%q is no network; wants a CIDR as 10.0.0.0/8 or 2001:db8::/32, or an address", text)
	case network != network.Masked():
		return network, fmt.Errorf("%q has bits behind its prefix; wants %s or %s", text, network.Masked(), network.Addr())
	}
	return network, nil
}

// list is the networks one by one.
func (n networks) list() (list []netip.Prefix) {
	if n == "" {
		return nil
	}
	for network := range strings.SplitSeq(string(n), ",") {
		list = append(list, netip.MustParsePrefix(network))
	}
	return list
}

// UnmarshalText reads a port.
func (p *port) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is no port; wants a number from 1 to 65535", text)
	}
	*p = port(n)
	return nil
}

// UnmarshalText reads a range of ports.
func (r *portRange) UnmarshalText(text []byte) error {
	low, high, isRange := strings.Cut(string(text), "-")
	if !isRange {
		high = low
	}
	var a, b port
	err := errors.Join(a.UnmarshalText([]byte(low)), b.UnmarshalText([]byte(high)))
	if string(text) != "off" && (err != nil || a > b) {
		return fmt.Errorf("%q is no range of ports; wants LOW-HIGH as 20000-29999, or off", text)
	}
	*r = portRange(text)
	return nil
}

// UnmarshalText reads a number of things.
func (c *count) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is no number from 1 to %d", text, math.MaxInt32)
	}
	*c = count(n)
	return nil
}

// UnmarshalText reads labels.
func (n *names) UnmarshalText(text []byte) error {
	lower := strings.ToLower(string(text))
	for name := range strings.SplitSeq(lower, ",") {
		if !label.MatchString(name) {
			return fmt.Errorf("%q is no name; wants a-z, 0-9 and -, at most 63", name)
		}
	}
	*n = names(lower)
	return nil
}

// list is the names one by one.
func (n names) list() []string {
	if n == "" {
		return nil
	}
	return strings.Split(string(n), ",")
}

// UnmarshalText reads names of ciphers that the gateway has.
func (c *ciphers) UnmarshalText(text []byte) error {
	for name := range strings.SplitSeq(string(text), ",") {
		if known := gateway.Ciphers(); !slices.Contains(known, name) {
			return fmt.Errorf("%q is no cipher here; wants some of %s", name, strings.Join(known, ", "))
		}
	}
	*c = ciphers(text)
	return nil
}

// list is the ciphers one by one.
func (c ciphers) list() []string {
	if c == "" {
		return nil
	}
	return strings.Split(string(c), ",")
}

// UnmarshalText reads a source of certificates.
func (m *tlsMode) UnmarshalText(text []byte) error {
	return oneOf((*string)(m), text, "acme", "internal", "files", "off")
}

// UnmarshalText reads a way to make DNS records.
func (m *dnsMode) UnmarshalText(text []byte) error {
	return oneOf((*string)(m), text, "rfc2136", "exec")
}

// isLine reports whether b is printable ASCII without spaces, and not empty.
func isLine(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(b) > 0
}

// UnmarshalText reads a word.
func (t *text) UnmarshalText(b []byte) error {
	if !isLine(b) {
		return fmt.Errorf("%q is not one word of printable ASCII", b)
	}
	*t = text(b)
	return nil
}

// UnmarshalText reads a URL with a host.
func (u *webURL) UnmarshalText(b []byte) error {
	at, err := url.Parse(string(b))
	if err != nil || !isLine(b) || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" {
		return fmt.Errorf("%q is no URL; wants one as https://ca.example.com/directory", b)
	}
	*u = webURL(b)
	return nil
}

// UnmarshalText reads NAME:ALG:SECRET, and does not say it again.
func (k *tsigKey) UnmarshalText(b []byte) error {
	parts := strings.Split(string(b), ":")
	if !isLine(b) || len(parts) != 3 || slices.Contains(parts, "") {
		return errors.New("wants NAME:ALG:SECRET, without spaces")
	}
	*k = tsigKey(b)
	return nil
}

// UnmarshalText reads a word, and does not say it again.
func (s *secret) UnmarshalText(b []byte) error {
	if !isLine(b) || !strings.Contains(string(b), ":") {
		return errors.New("wants parts with colons between, without spaces")
	}
	*s = secret(b)
	return nil
}

// UnmarshalText reads an address whose host is not left out.
func (h *hostPort) UnmarshalText(text []byte) error {
	if !isAddress(string(text)) || text[0] == ':' {
		return fmt.Errorf("%q is no address; wants HOST:PORT", text)
	}
	*h = hostPort(text)
	return nil
}

// UnmarshalText reads a switch.
func (o *onOff) UnmarshalText(text []byte) error {
	return oneOf((*string)(o), text, "on", "off")
}

// UnmarshalText reads the form of the log.
func (f *logFormat) UnmarshalText(text []byte) error {
	return oneOf((*string)(f), text, "text", "json")
}

// UnmarshalText reads the level of the log.
func (l *logLevel) UnmarshalText(text []byte) error {
	return oneOf((*string)(l), text, "debug", "info", "warn", "error")
}

// oneOf sets target to text if it is one of choices.
func oneOf(target *string, text []byte, choices ...string) error {
	if !slices.Contains(choices, string(text)) {
		return fmt.Errorf("%q is not %s", text, strings.Join(choices, " or "))
	}
	*target = string(text)
	return nil
}

// UnmarshalText reads a time above zero.
func (d *duration) UnmarshalText(text []byte) (err error) {
	d.Duration, err = parseDuration(string(text))
	if err == nil && d.Duration == 0 {
		return fmt.Errorf("%q is no time; it must be more than 0", text)
	}
	return err
}

// UnmarshalText reads a time that may be zero.
func (p *patience) UnmarshalText(text []byte) (err error) {
	p.Duration, err = parseDuration(string(text))
	if err == nil && p.Duration == 0 {
		p.Duration = -1
	}
	return err
}

// maxDays keeps a duration well inside what an int64 of nanoseconds holds
// (106,751 days).
const maxDays = 36500

// parseDuration reads Go's durations, and days before them: 30d, 1d12h.
func parseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no time; wants one as 90s, 10m, 12h or 30d, up to %dd", text, maxDays)
	var days uint64
	before, rest, hasDays := strings.Cut(text, "d")
	if !hasDays {
		before, rest = "0", text
	} else if rest == "" {
		rest = "0"
	}
	days, err := strconv.ParseUint(before, 10, 32)
	d, err2 := time.ParseDuration(rest)
	const day = 24 * time.Hour
	if err != nil || err2 != nil || d < 0 || days > maxDays || d > maxDays*day {
		return 0, bad
	}
	return time.Duration(days)*day + d, nil
}
