package keys

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// The corpus is put before a real sshd and before a Store; both must say the
// same about who gets in and what the key may do. %P and %Q are two ports.
var corpus = []struct {
	options string
	cert    string   // arguments of ssh-keygen -s; "": the plain key is offered
	from    []string // addresses to come from; nil: 127.0.0.1
	// stricter is set where adit refuses what sshd takes.
	stricter bool
}{
	{options: ``},
	{options: `restrict`},
	{options: `RESTRICT`},
	{options: `restrict,port-forwarding`},
	{options: `port-forwarding,restrict`},
	{options: `restrict,pty`},
	{options: `no-pty`},
	{options: `no-port-forwarding`},
	{options: `no-port-forwarding,port-forwarding`},
	{options: `no-X11-forwarding,no-agent-forwarding,no-user-rc`},
	{options: `restrict,,pty,`},
	{options: `,restrict`},
	{options: `restrict, pty`},
	{options: `no-restrict`},
	{options: `ptyx`},
	{options: `pty="x"`},
	{options: `unknown-option`},
	{options: `unknown="x"`},
	{options: `command="true"`, stricter: true},
	{options: `environment="A=b"`, stricter: true},
	{options: `tunnel="1"`, stricter: true},
	{options: `verify-required`, stricter: true},
	{options: `no-touch-required`},
	{options: `principals="x"`},
	{options: `cert-authority`},

	{options: `from="127.0.0.1"`, from: []string{"127.0.0.1", "127.0.0.2", "::1"}},
	{options: `from="127.0.0.0/8"`, from: []string{"127.0.0.1", "127.0.0.2", "::1"}},
	{options: `from="127.0.0.0/8,!127.0.0.2"`, from: []string{"127.0.0.1", "127.0.0.2"}},
	{options: `from="!127.0.0.2,*"`, from: []string{"127.0.0.1", "127.0.0.2", "::1"}},
	{options: `from="!127.0.0.2"`, from: []string{"127.0.0.1", "127.0.0.2"}},
	{options: `from="127.0.0.?"`, from: []string{"127.0.0.1", "127.0.0.2"}},
	{options: `FROM="127.*.1"`, from: []string{"127.0.0.1", "127.0.0.2"}},
	{options: `from="::1"`, from: []string{"127.0.0.1", "::1"}},
	{options: `from="::/0"`, from: []string{"127.0.0.1", "::1"}},
	{options: `from="0.0.0.0/0"`, from: []string{"127.0.0.1", "::1"}},
	{options: `from="0:0::1"`, from: []string{"::1"}},
	{options: `from="::ffff:127.0.0.0/104"`},
	{options: `from="127.0.0.1/8"`},
	{options: `from="127.0.0.1,"`},
	{options: `from=""`},
	{options: `from="localhost"`},
	{options: `from="*.example.com,127.0.0.1"`},
	{options: `from="10.0.0.0/8"`},
	{options: `from="127.0.0.1",from="127.0.0.1"`},
	{options: `from=127.0.0.1`},
	{options: `from="127.0.0.1`},

	{options: `expiry-time="20200101"`},
	{options: `expiry-time="20990101"`},
	{options: `expiry-time="20990101Z"`},
	{options: `expiry-time="209901011200"`},
	{options: `expiry-time="20990101120000Z"`},
	{options: `expiry-time="20990101",expiry-time="20200101"`},
	{options: `expiry-time="2099"`},
	{options: `expiry-time="2099-01-01"`},
	{options: `expiry-time="19700101Z"`},
	{options: `expiry-time=""`},

	{options: `permitlisten="localhost:%P"`},
	{options: `permitlisten="%P"`},
	{options: `permitlisten="*:%P"`},
	{options: `permitlisten="*"`},
	{options: `permitlisten="blog:*"`},
	{options: `permitlisten="bl?g:%P"`},
	{options: `permitlisten="b*:%P",permitlisten="localhost:%Q"`},
	{options: `permitlisten="none"`},
	{options: `permitlisten="localhost:0"`},
	{options: `permitlisten="localhost"`},
	{options: `permitlisten="[::1]:%P"`},
	{options: `permitlisten="::1:%P"`},
	{options: `permitlisten="localhost/%P"`},
	{options: `permitlisten="localhost:http"`},
	{options: `restrict,permitlisten="localhost:%P"`},
	{options: `restrict,port-forwarding,permitlisten="localhost:%P"`},
	{options: `permitopen="localhost:1"`},
	{options: `permitopen="127.0.0.1:*"`},
	{options: `permitopen="*:1"`},
	{options: `permitopen="local*:1"`},
	{options: `permitopen="none"`},
	{options: `permitopen="1"`},
	{options: `permitopen="localhost:1",permitlisten="%P"`},

	{options: `cert-authority`, cert: "-n USER"},
	{options: `cert-authority`, cert: "-n other,USER"},
	{options: `cert-authority`, cert: "-n other"},
	{options: `cert-authority`, cert: "-n USER*"},
	{options: `cert-authority`, cert: "-n USER -V -2d:-1d"},
	{options: `cert-authority`, cert: "-n USER -V +1d:+2d"},
	{options: `cert-authority`, cert: "-n USER -V -1d:+1d"},
	{options: `cert-authority`, cert: "-n USER -h"},
	{options: `cert-authority`, cert: "-n USER -O clear"},
	{options: `cert-authority`, cert: "-n USER -O no-port-forwarding"},
	{options: `cert-authority`, cert: "-n USER -O no-pty"},
	{options: `cert-authority,restrict`, cert: "-n USER"},
	{options: `cert-authority,permitlisten="%P"`, cert: "-n USER"},
	{options: `cert-authority`, cert: "-n USER -O source-address=127.0.0.1/32", from: []string{"127.0.0.1", "127.0.0.2"}},
	{options: `cert-authority`, cert: "-n USER -O source-address=10.0.0.0/8"},
	{options: `cert-authority`, cert: "-n USER -O critical:x@example.com"},
	{options: `cert-authority`, cert: "-n USER -O extension:x@example.com=y"},
	{options: `cert-authority`, cert: "-n USER -O force-command=true", stricter: true},
	{options: `cert-authority,from="127.0.0.1"`, cert: "-n USER", from: []string{"127.0.0.1", "127.0.0.2"}},
	{options: `cert-authority,expiry-time="20200101"`, cert: "-n USER"},
	{options: `cert-authority,principals="ops,dev"`, cert: "-n dev"},
	{options: `cert-authority,principals="ops,dev"`, cert: "-n USER"},
	{options: `cert-authority,principals="ops"`, cert: "-n ops -V -2d:-1d"},
	{options: `cert-authority,principals=""`, cert: "-n USER"},
	{options: `cert-authority,principals="a,,ops"`, cert: "-n ops", stricter: true}, // newer sshd stops there too
	{options: ``, cert: "-n USER"},
	{options: `principals="ops"`, cert: "-n ops"},
}

// verdict is what was allowed, in words that compare.
type verdict string

const refused verdict = "refused"

// probes are what is tried with a key that got in.
var (
	listenProbes = []string{"localhost:%P", "localhost:%Q", "blog:%P", "blog:%Q", "::1:%P"}
	openProbes   = []string{"localhost:1", "127.0.0.1:1"}
)

func TestAgainstSSHD(t *testing.T) {
	t.Parallel()
	d := startSSHD(t)
	for i, c := range corpus {
		for _, ip := range append(c.from, "127.0.0.1")[:max(len(c.from), 1)] {
			t.Run(strings.TrimSpace(c.options+" "+c.cert+" from "+ip), func(t *testing.T) {
				t.Parallel()
				e := d.credential(t, i, c.cert)
				ours := d.askStore(t, e, ip)
				theirs := d.ask(t, e, ip)
				if !c.stricter && ours != theirs { // a port may have been taken just then
					theirs = d.ask(t, e, ip)
				}
				if c.stricter && ours != refused || !c.stricter && ours != theirs {
					t.Errorf("here %s\nsshd %s", ours, theirs)
				}
			})
		}
	}
}

// corpusLines is the file with all of the corpus: line i has a key of its own.
func corpusLines() (text string) {
	for i, c := range corpus {
		name := fmt.Sprint("k", i)
		if c.cert != "" {
			name = fmt.Sprint("ca", i)
		}
		text += fill(c.options, i) + " " + testLine(name) + "\n"
	}
	return text
}

// fill puts the i-th pair of ports in. They lie below those that systems give
// to outgoing connections.
func fill(s string, i int) string {
	p := 10000 + (os.Getpid()*256+2*i)%9000
	return strings.NewReplacer("%P", strconv.Itoa(p), "%Q", strconv.Itoa(p+1)).Replace(s)
}

// exam is one line of the corpus and the key it is about.
type exam struct {
	number int
	key    ssh.Signer
}

// daemon is a real sshd for one account, ours.
type daemon struct {
	addr   map[string]string // by "4" and "6"
	file   string            // its AuthorizedKeysFile
	user   string
	work   string
	keygen string
	store  *Store // of the same file
}

// startSSHD ends with the test.
func startSSHD(t *testing.T) *daemon {
	t.Helper()
	sshd, keygen := tool(t, "sshd"), tool(t, "ssh-keygen")
	account, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{user: account.Username, work: t.TempDir(), keygen: keygen, addr: map[string]string{}}
	d.file = filepath.Join(d.work, "authorized_keys")
	write(t, d.file, corpusLines())
	if !validUser(d.user) {
		t.Skip("this account's name is no user name")
	}
	d.store = testStore(t, testDir(t, map[string]string{d.user: corpusLines()}))
	if err := CreateHostKey(d.work); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(d.work, "sshd_config")
	write(t, conf, d.config(sshd, freePort(t), t))
	cmd := exec.Command(sshd, "-D", "-e", "-f", conf)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	d.await(t, bufio.NewScanner(stderr))
	d.control(t)
	return d
}

// control makes sure that sshd lets this account in at all: without a shell,
// for one, it does not.
func (d *daemon) control(t *testing.T) {
	t.Helper()
	switch v := d.ask(t, d.credential(t, 0, ""), "127.0.0.1"); {
	case v != refused:
	case os.Getenv("CI") == "true":
		t.Fatalf("sshd lets nobody in as %s", d.user)
	default:
		t.Skipf("sshd lets nobody in as %s", d.user)
	}
}

// config is an sshd_config in which only the key's own options decide.
func (d *daemon) config(sshd string, port int, t *testing.T) string {
	d.addr["4"] = fmt.Sprintf("127.0.0.1:%d", port)
	lines := []string{
		"ListenAddress " + d.addr["4"],
		"HostKey " + filepath.Join(d.work, hostKey),
		"AuthorizedKeysFile " + d.file,
		"PidFile none", "StrictModes no", "UsePAM no", "PasswordAuthentication no",
		"KbdInteractiveAuthentication no", "PermitRootLogin yes", "MaxStartups 100", "UseDNS no",
	}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		l.Close()
		d.addr["6"] = fmt.Sprintf("[::1]:%d", port)
		lines = append(lines, "ListenAddress "+d.addr["6"])
	}
	// Newer ones punish an address for refused logins; older ones do not know
	// the word.
	penalties := "PerSourcePenalties no"
	if exec.Command(sshd, "-t", "-f", os.DevNull, "-h", filepath.Join(d.work, hostKey), "-o", penalties).Run() == nil {
		lines = append(lines, penalties)
	}
	if os.Geteuid() == 0 { // where sshd confines its unprivileged half
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Skip(err)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// await reads sshd's log until it listens, and then keeps reading it so that
// it never blocks; the goroutine ends with sshd.
func (d *daemon) await(t *testing.T, log *bufio.Scanner) {
	t.Helper()
	for log.Scan() {
		if strings.Contains(log.Text(), "Server listening on 127.0.0.1") {
			go drain(log)
			return
		}
		t.Log("sshd:", log.Text())
	}
	t.Fatal("sshd did not start")
}

func drain(log *bufio.Scanner) {
	for log.Scan() {
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// credential is the key of line i, with a certificate by ssh-keygen if args
// are given.
func (d *daemon) credential(t *testing.T, i int, args string) exam {
	t.Helper()
	name := fmt.Sprint("k", i)
	e := exam{number: i, key: testSigner(name)}
	if args == "" {
		return e
	}
	dir := t.TempDir()
	ca, pub := filepath.Join(dir, "ca"), filepath.Join(dir, "k.pub")
	write(t, ca, pemOf(t, fmt.Sprint("ca", i)))
	write(t, pub, testLine(name)+"\n")
	argv := append([]string{"-q", "-s", ca, "-I", "id"}, strings.Fields(strings.ReplaceAll(args, "USER", d.user))...)
	if out, err := exec.Command(d.keygen, append(argv, pub)...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %s: %v: %s", args, err, out)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(content(t, filepath.Join(dir, "k-cert.pub"))))
	if err != nil {
		t.Fatal(err)
	}
	if e.key, err = ssh.NewCertSigner(key.(*ssh.Certificate), e.key); err != nil {
		t.Fatal(err)
	}
	return e
}

// ask tries everything at sshd.
func (d *daemon) ask(t *testing.T, e exam, ip string) verdict {
	t.Helper()
	c, err := d.dial(t, e.key, ip)
	if err != nil {
		if !strings.Contains(err.Error(), "unable to authenticate") {
			t.Fatal(err)
		}
		return refused
	}
	defer c.Close()
	v := []string{"pty " + strconv.FormatBool(askPTY(t, c))}
	for _, p := range listenProbes {
		v = append(v, "-R "+p+" "+strconv.FormatBool(askListen(t, c, fill(p, e.number))))
	}
	for _, p := range openProbes {
		v = append(v, "-L "+p+" "+strconv.FormatBool(askOpen(t, c, p)))
	}
	return verdict(strings.Join(v, ", "))
}

func (d *daemon) dial(t *testing.T, key ssh.Signer, ip string) (*ssh.Client, error) {
	addr := d.addr["4"]
	if strings.Contains(ip, ":") {
		if addr = d.addr["6"]; addr == "" {
			t.Skip("no IPv6 here")
		}
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 20 * time.Second}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		t.Skip(err) // only Linux has all of 127.0.0.0/8
	}
	c, chans, reqs, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: d.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, chans, reqs), nil
}

func askPTY(t *testing.T, c *ssh.Client) bool {
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.RequestPty("xterm", 24, 80, nil) == nil
}

type forward struct {
	Host string
	Port uint32
}

func splitProbe(p string) forward {
	i := strings.LastIndexByte(p, ':')
	n, _ := strconv.ParseUint(p[i+1:], 10, 16)
	return forward{p[:i], uint32(n)}
}

// askListen tries RFC 4254, section 7.1.
func askListen(t *testing.T, c *ssh.Client, probe string) bool {
	f := ssh.Marshal(splitProbe(probe))
	ok, _, err := c.SendRequest("tcpip-forward", true, f)
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		if _, _, err := c.SendRequest("cancel-tcpip-forward", true, f); err != nil {
			t.Fatal(err)
		}
	}
	return ok
}

// askOpen tries RFC 4254, section 7.2, at a port where nobody listens.
func askOpen(t *testing.T, c *ssh.Client, probe string) bool {
	to := splitProbe(probe)
	ch, _, err := c.OpenChannel("direct-tcpip", ssh.Marshal(struct {
		Host       string
		Port       uint32
		Originator string
		From       uint32
	}{to.Host, to.Port, "127.0.0.1", 1}))
	var open *ssh.OpenChannelError
	switch {
	case err == nil:
		ch.Close()
	case !errors.As(err, &open):
		t.Fatal(err)
	}
	return err == nil || open.Reason != ssh.Prohibited
}

// askStore tries the same here.
func (d *daemon) askStore(t *testing.T, e exam, ip string) verdict {
	t.Helper()
	k, err := d.store.Authenticate(e.key.PublicKey(), &net.TCPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Log("here:", reason(err))
		return refused
	}
	o := &k.Options
	v := []string{"pty " + strconv.FormatBool(o.PTY)}
	for _, p := range listenProbes {
		f := splitProbe(fill(p, e.number))
		v = append(v, "-R "+p+" "+strconv.FormatBool(o.PortForwarding && o.PermitsListen(f.Host, f.Port)))
	}
	for _, p := range openProbes {
		f := splitProbe(p)
		ok, listed := o.PermitsOpen(f.Host, f.Port)
		v = append(v, "-L "+p+" "+strconv.FormatBool(o.PortForwarding && (ok || !listed)))
	}
	return verdict(strings.Join(v, ", "))
}
