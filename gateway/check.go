package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"adit/keys"
	"adit/tcp"

	"golang.org/x/crypto/ssh"
)

// clockSlack is how far off a clock may be until it is called wrong.
const clockSlack = 5 * time.Minute

// check is one run of `adit check`: a line for each thing looked at.
type check struct {
	cfg      *settings
	dir      string
	w        io.Writer
	failed   bool
	running  bool          // a gateway runs on this state folder
	alone    bool          // none does
	early    time.Duration // how far the CA's clock is before ours
	hostKeys []ssh.Signer
}

// Check validates cfg and its surroundings without changing them, and writes
// a line for each thing it looked at: "ok", "warn", or "FAIL" for what would
// stop serve, with what to do. It reports whether nothing failed.
func Check(ctx context.Context, cfg Config, w io.Writer) bool {
	s, err := resolve(cfg)
	c := &check{cfg: s, w: w}
	if err != nil {
		c.fail("configuration", err.Error())
		return false
	}
	c.ok("configuration", "valid")
	for _, i := range s.idle {
		c.warn("configuration", fmt.Sprintf("%s has no effect: %s", i.flag, i.why))
	}
	if c.dir = s.State; c.dir == "" {
		if c.dir, err = DefaultState(!s.local); err != nil {
			c.fail("state folder", err.Error())
			return false
		}
	}
	c.stateFolder()
	c.ports(ctx)
	c.proxies()
	c.users()
	c.wildcard(ctx)
	c.certificates(ctx)
	c.clock()
	return !c.failed
}

func (c *check) line(mark, what, text string) {
	for l := range strings.SplitSeq(text, "\n") {
		fmt.Fprintf(c.w, "%-4s  %s: %s\n", mark, what, printable(l, 500))
	}
}

func (c *check) ok(what, text string)   { c.line("ok", what, text) }
func (c *check) warn(what, text string) { c.line("warn", what, text) }
func (c *check) fail(what, text string) {
	c.failed = true
	c.line("FAIL", what, text)
}

// stateFolder looks at the folder's files and modes.
func (c *check) stateFolder() {
	info, err := os.Stat(c.dir)
	missing, denied := errors.Is(err, fs.ErrNotExist), mayWrite(c.dir)
	switch {
	case missing && denied == nil:
		c.ok("state folder", c.dir+" is not there yet; serve makes it")
		c.alone = true
		return
	case err != nil && !missing:
		c.fail("state folder", err.Error())
		return
	case !missing && !info.IsDir():
		c.fail("state folder", c.dir+" is not a folder. Move it away, or use --state DIR")
		return
	case denied != nil:
		c.fail("state folder", fmt.Sprintf("%s cannot be written: %v. Run adit as the account that it belongs to, or use --state DIR", c.dir, denied))
		return
	case info.Mode().Perm()&0o022 != 0:
		c.fail("state folder", fmt.Sprintf("others may write %s. Run: chmod 700 %s", c.dir, c.dir))
	case info.Mode().Perm()&0o077 != 0:
		c.warn("state folder", fmt.Sprintf("others may read %s. Run: chmod 700 %s", c.dir, c.dir))
	default:
		c.ok("state folder", c.dir)
	}
	c.database()
	c.owner()
	c.secrets()
}

// owner looks at whose the folder is, unless a gateway runs on it, as what
// account it may be.
func (c *check) owner() {
	if name, foreign := foreignOwner(c.dir); foreign && !c.running {
		c.warn("state folder", fmt.Sprintf("%s belongs to %s, who cannot read what root makes in it. Run serve as that account, for instance with: runuser -u %s -- adit serve", c.dir, name, name))
	}
}

// database finds out whether a gateway runs, and whether the file is ours to
// read.
func (c *check) database() {
	path := filepath.Join(c.dir, "adit.db")
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 { // serve makes it
		c.alone = true
		return
	}
	switch err := readLedger(path); {
	case errors.Is(err, errRunning):
		c.running = true
		c.ok("adit.db", "in use by a running adit")
	case err != nil:
		c.fail("adit.db", err.Error())
	default:
		c.alone = true
		c.ok("adit.db", "readable")
	}
}

// secrets looks at the host keys and the name secret.
func (c *check) secrets() {
	used, err := isUsed(c.dir)
	if err != nil {
		c.fail("state folder", err.Error())
		return
	}
	if !used {
		c.ok("host key", "not there yet; serve makes it")
		return
	}
	signers, files, err := loadHostKeys(c.dir)
	if err != nil {
		c.fail("host key", err.Error())
	}
	c.hostKeys = signers
	for i, k := range signers {
		c.ok("host key", fmt.Sprintf("%s %s", filepath.Base(files[i]), ssh.FingerprintSHA256(k.PublicKey())))
	}
	if _, err := readSecret(c.dir); err != nil {
		c.fail("name_secret", err.Error())
		return
	}
	c.ok("name_secret", "readable by its owner only")
}

// ports tries each address, and asks who has it where it is taken.
func (c *check) ports(ctx context.Context) {
	ssh := func(addr string) bool { return c.isOurSSH(ctx, addr) }
	c.listener(c.cfg.ssh, "SSH", "ssh", ssh)
	c.listener(c.cfg.http, "HTTP", "http", func(addr string) bool { return c.isOurHTTP(ctx, addr, "/known_hosts") })
	c.listener(c.cfg.https, "HTTPS", "https", ssh) // which it answers too
	c.udp()
	c.listener(c.cfg.admin, "admin", "admin", func(addr string) bool { return c.isOurHTTP(ctx, addr, "/healthz") })
	c.tcpHosts()
}

// listener tries the addresses of one listener, of which the machine must have
// one.
func (c *check) listener(addrs []string, what, flag string, ours func(string) bool) {
	some := slices.ContainsFunc(addrs, func(a string) bool {
		host, _, _ := net.SplitHostPort(a)
		return hasAddress(host)
	})
	for _, a := range addrs {
		c.port(a, what, flag, some, ours)
	}
}

func (c *check) port(addr, what, flag string, some bool, ours func(string) bool) {
	host, port, _ := net.SplitHostPort(addr)
	name := fmt.Sprintf("port %s (%s)", port, what)
	lns, err := tcp.Listen([]string{host}, portOf(addr))
	tcp.Close(lns)
	switch {
	case err == nil:
		c.ok(name, "free at "+addr)
	case some && isNoAddress(err):
		c.warn(name, fmt.Sprintf("this machine has no address %s; it is left out", host))
	case c.running && ours(dialable(host, port)):
		c.ok(name, "held by the running adit at "+addr)
	default:
		c.fail(name, portError(err, addr, what, flag).Error())
	}
}

// tcpHosts looks for the addresses that TCP tunnels listen on.
func (c *check) tcpHosts() {
	if err := c.cfg.tryTCPHosts(); err != nil {
		c.fail("TCP tunnels", err.Error())
		return
	}
	for _, host := range c.cfg.tcpHosts {
		if c.cfg.ports.Len() > 0 && !hasAddress(host) {
			c.warn("TCP tunnels", fmt.Sprintf("this machine has no address %s; it is left out", host))
		}
	}
}

// dialable turns "all addresses" into one that can be asked.
func dialable(host, port string) string {
	if isAll(host) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// isOurSSH asks for the host key that is served at addr.
func (c *check) isOurSSH(ctx context.Context, addr string) bool {
	found := false
	errSeen := errors.New("seen")
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	nc, err := c.dial(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(3 * time.Second))
	ssh.NewClientConn(nc, addr, &ssh.ClientConfig{
		User: "check",
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			for _, ours := range c.hostKeys {
				found = found || bytes.Equal(ours.PublicKey().Marshal(), k.Marshal())
			}
			return errSeen
		},
	})
	return found
}

// isOurHTTP asks for a path that only a gateway answers.
func (c *check) isOurHTTP(ctx context.Context, addr, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return false
	}
	req.Host = c.cfg.domain
	resp, err := c.transport(path).RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusPermanentRedirect {
		return c.isOurRedirect(ctx, resp)
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if path == "/healthz" {
		return string(body) == "ok\n" || string(body) == "draining\n"
	}
	for _, k := range c.hostKeys {
		if bytes.Contains(body, bytes.TrimSpace(ssh.MarshalAuthorizedKey(k.PublicKey()))) {
			return true
		}
	}
	return false
}

// isOurRedirect says whether the page is on the HTTPS port of the running
// gateway by now: the domain's certificate is there.
func (c *check) isOurRedirect(ctx context.Context, resp *http.Response) bool {
	to, err := resp.Location()
	if err != nil || to.Scheme != "https" || to.Hostname() != c.cfg.domain {
		return false
	}
	return slices.ContainsFunc(c.cfg.https, func(addr string) bool {
		host, port, _ := net.SplitHostPort(addr)
		return c.isOurSSH(ctx, dialable(host, port))
	})
}

// users reports every authorized_keys line that is not as it should be.
func (c *check) users() {
	dir := filepath.Join(c.dir, "authorized_keys")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if len(c.cfg.KeyFiles) == 0 {
			c.warn("users", "there is none yet. Add one with: adit keys add NAME FILE")
			return
		}
		dir = ""
	}
	store, err := keys.Open(keys.Config{Dir: dir, Files: c.cfg.KeyFiles, FilesUser: c.cfg.KeyUser, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		c.fail("authorized_keys", err.Error())
		return
	}
	for _, p := range store.Problems() {
		if p.Fatal {
			c.fail(p.Where(), p.Message)
		} else {
			c.warn(p.Where(), p.Message)
		}
	}
	for _, u := range store.Users() {
		c.ok("user "+u.Name, fmt.Sprintf("keys: %d", u.Keys))
	}
	if len(store.Users()) == 0 {
		c.warn("users", "there is none yet. Add one with: adit keys add NAME FILE")
	}
}

// wildcard looks up the domain, and a name that nobody has below it.
func (c *check) wildcard(ctx context.Context) {
	if c.cfg.local {
		c.ok("names", "*.localhost needs no DNS: browsers and curl take it to this machine")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c.resolves(ctx, "domain DNS", c.cfg.domain, c.cfg.domain)
	c.resolves(ctx, "wildcard DNS", "*."+c.cfg.domain, "adit-check-"+strings.ToLower(rand.Text()[:8])+"."+c.cfg.domain)
}

// resolves looks up name, which stands for what a record is needed for.
func (c *check) resolves(ctx context.Context, what, record, name string) {
	addrs, err := newResolver(c.cfg.DNSResolver).LookupHost(ctx, name+".")
	if err != nil {
		c.warn(what, fmt.Sprintf("%s does not resolve (%v). Add an A or AAAA record for *.%s and for %s with this machine's public address", record, err, c.cfg.domain, c.cfg.domain))
		return
	}
	c.ok(what, fmt.Sprintf("%s is %s", record, strings.Join(addrs, ", ")))
}

// clock looks for files from the future, and compares with the CA's clock.
func (c *check) clock() {
	info, err := os.Stat(filepath.Join(c.dir, "adit.db"))
	now, wrong := time.Now(), ""
	switch {
	case c.early.Abs() > clockSlack:
		wrong = "and the CA's says " + now.Add(c.early).Format(time.RFC3339)
	case now.Year() < 2025 || err == nil && info.ModTime().After(now.Add(clockSlack)):
		wrong = "which is earlier than it was"
	default:
		c.ok("clock", now.Format(time.RFC3339))
		return
	}
	c.warn("clock", fmt.Sprintf("it says %s, %s. Expiry dates and certificates are judged by it. Set it, for instance with: timedatectl set-ntp true", now.Format(time.RFC3339), wrong))
}
