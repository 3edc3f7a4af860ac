package keys

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Options is what one authorized_keys line lets its key do, with the meaning
// of sshd(8), AUTHORIZED_KEYS FILE FORMAT. It is never changed once read.
type Options struct {
	// PortForwarding is false after restrict or no-port-forwarding, until a
	// later port-forwarding. Ask for it before the permits: they do not.
	PortForwarding bool
	// PTY is false after restrict or no-pty, until a later pty.
	PTY bool
	// NoTouchRequired lets a security key sign without being touched; pass it
	// on as the extension "no-touch-required" of ssh.Permissions.
	NoTouchRequired bool
	// MaxTunnels is max-tunnels@adit="N", at least 1. 0: no limit of its own.
	MaxTunnels int
	// Admin is admin@adit.
	Admin bool
	// CertAuthority is cert-authority: the key signs certificates and is no
	// login key itself.
	CertAuthority bool
	// Principals are the names of which a certificate must have one. nil: the
	// user's own name. Only with CertAuthority.
	Principals []string

	listen, open []permit
	from         fromList
	expires      time.Time // the first second that is too late; zero: never
	text         string    // as written
	names        []string  // elements of from that can match no address
}

// PermitsListen reports whether permitlisten allows host, the name as asked
// without the domain ("localhost" where none was given), and port as asked
// (the granted one for 0). Without permitlisten everything is allowed.
func (o *Options) PermitsListen(host string, port uint32) bool {
	host = strings.ToLower(host)
	for _, p := range o.listen {
		if p.matchPort(port) && glob(p.host, host) {
			return true
		}
	}
	return o.listen == nil
}

// Listens is the permitlisten list for a refusal, "blog:80, *:20000". Empty:
// unrestricted.
func (o *Options) Listens() string {
	var s []string
	for _, p := range o.listen {
		s = append(s, p.String())
	}
	return strings.Join(s, ", ")
}

// PermitsOpen reports whether permitopen allows host and port. Hosts are
// literal here, or "*" alone. listed is false where there is no permitopen.
func (o *Options) PermitsOpen(host string, port uint32) (ok, listed bool) {
	host = strings.ToLower(host)
	for _, p := range o.open {
		if p.matchPort(port) && (p.host == "*" || p.host == host) {
			return true, true
		}
	}
	return false, o.open != nil
}

// String is the options as the line has them; empty for none.
func (o *Options) String() string { return o.text }

// defaultOptions is a line without options.
func defaultOptions() *Options { return &Options{PortForwarding: true, PTY: true} }

// errUnknownOption is an option that is neither honoured nor safe to ignore.
var errUnknownOption = errors.New("which adit does not know")

// parseOptions reads a whole options field, as splitOptions cuts it off.
func parseOptions(field string) (*Options, error) {
	o := defaultOptions()
	o.text = field
	for rest := field; rest != ""; {
		opt, tail, err := nextOption(rest)
		if err != nil {
			return nil, err
		}
		if err := o.set(opt); err != nil {
			return nil, fmt.Errorf("uses option %s %w", quote(opt.name), err)
		}
		rest = tail
	}
	return o, o.consistent()
}

// splitOptions cuts off the options field: it ends at the first space or tab
// outside quotes.
func splitOptions(s string) (field, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && (s[i] == ' ' || s[i] == '\t'):
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// option is one element of the options field.
type option struct {
	name, value string
	valued      bool
}

// nextOption takes one name or name="value" and the comma behind it.
func nextOption(s string) (o option, rest string, err error) {
	end := strings.IndexAny(s, "=,\"")
	if end < 0 {
		end = len(s)
	}
	o.name, rest = s[:end], s[end:]
	if strings.HasPrefix(rest, "=") {
		o.valued = true
		if o.value, rest, err = dequote(rest[1:]); err != nil {
			return o, "", fmt.Errorf("uses option %s %w", quote(o.name), err)
		}
	}
	if rest != "" && rest[0] != ',' {
		return o, "", fmt.Errorf("uses option %s with stray text behind it", quote(o.name))
	}
	return o, strings.TrimPrefix(rest, ","), nil
}

// dequote reads a quoted string, in which only \" is an escape.
func dequote(s string) (value, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", errors.New("without quotes around its value")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], nil
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == '"':
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", errors.New("without a closing quote")
}

// set takes one option. Names compare without case. An empty one is what two
// commas leave between them; sshd passes it over.
func (o *Options) set(opt option) error {
	name := strings.ToLower(opt.name)
	if opt.valued {
		return o.setValue(name, opt.value)
	}
	if name == "" || o.setFlag(name) {
		return nil
	}
	return errUnknownOption
}

// setFlag takes an option without a value. Later ones win over earlier ones,
// which is what makes "restrict,pty" useful.
func (o *Options) setFlag(name string) bool {
	switch name {
	case "restrict":
		o.PortForwarding, o.PTY = false, false
	case "port-forwarding", "no-port-forwarding":
		o.PortForwarding = name == "port-forwarding"
	case "pty", "no-pty":
		o.PTY = name == "pty"
	case "touch-required", "no-touch-required":
		o.NoTouchRequired = name == "no-touch-required"
	case "cert-authority":
		o.CertAuthority = true
	case "admin@adit":
		o.Admin = true
	case "agent-forwarding", "no-agent-forwarding", "x11-forwarding",
		"no-x11-forwarding", "user-rc", "no-user-rc": // nothing here has these
	default:
		return false
	}
	return true
}

// setValue takes an option with a value.
func (o *Options) setValue(name, value string) error {
	switch name {
	case "permitlisten":
		return addPermit(&o.listen, value, true)
	case "permitopen":
		return addPermit(&o.open, value, false)
	case "from":
		return o.setFrom(value)
	case "expiry-time":
		return o.setExpiry(value)
	case "principals":
		return o.setPrincipals(value)
	case "max-tunnels@adit":
		return o.setMaxTunnels(value)
	}
	return errUnknownOption
}

// errTwice is an option that a line may have once.
var errTwice = errors.New("twice")

func addPermit(list *[]permit, value string, bare bool) error {
	p, err := parsePermit(value, bare)
	if err != nil {
		return fmt.Errorf("whose value %s %w", quote(value), err)
	}
	*list = append(*list, p)
	return nil
}

func (o *Options) setFrom(value string) (err error) {
	if o.from != nil {
		return errTwice
	}
	if o.from, o.names, err = parseFrom(value); err != nil {
		return fmt.Errorf("whose list %w", err)
	}
	return nil
}

// setExpiry keeps the earliest. The second named is still good, so that the
// first one too late is the next.
func (o *Options) setExpiry(value string) error {
	t, err := parseTime(value)
	if err != nil {
		return err
	}
	if t = t.Add(time.Second); o.expires.IsZero() || t.Before(o.expires) {
		o.expires = t
	}
	return nil
}

// lastSecond is expiry-time as written.
func (o *Options) lastSecond() time.Time { return o.expires.Add(-time.Second) }

func (o *Options) setPrincipals(value string) error {
	if o.Principals != nil {
		return errTwice
	}
	o.Principals = []string{}
	for p := range strings.SplitSeq(value, ",") {
		if p == "" { // sshd reads no further
			break
		}
		o.Principals = append(o.Principals, p)
	}
	return nil
}

func (o *Options) setMaxTunnels(value string) error {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || n == 0 {
		return fmt.Errorf("whose value %s is no number from 1 up", quote(value))
	}
	if o.MaxTunnels != 0 {
		return errTwice
	}
	o.MaxTunnels = int(n)
	return nil
}

// consistent refuses what sshd refuses only when the key is used.
func (o *Options) consistent() error {
	if o.Principals != nil && !o.CertAuthority {
		return errors.New(`uses option "principals" without cert-authority`)
	}
	return nil
}

// parseTime reads YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, in local time, or
// in UTC with a trailing Z (newer sshd also takes UTC).
func parseTime(s string) (time.Time, error) {
	digits, zone := strings.TrimRight(s, "zZutcUTC"), time.Local
	switch strings.ToUpper(s[len(digits):]) {
	case "Z", "UTC":
		zone = time.UTC
	case "":
	default:
		digits = ""
	}
	layout := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(digits)]
	t, err := time.ParseInLocation(layout, digits, zone)
	if layout == "" || err != nil || t.Unix() <= 0 {
		return time.Time{}, fmt.Errorf("whose value %s is no YYYYMMDD[HHMM[SS]][Z]", quote(s))
	}
	return t, nil
}

// quote makes text from a file fit for a log line or a sentence: quoted,
// without control characters, at most 64 bytes.
func quote(s string) string {
	if len(s) > 64 {
		s = s[:64] + "..."
	}
	return strconv.QuoteToASCII(s)
}
