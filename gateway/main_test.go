package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// signer is the same key for the same name in every run.
func signer(name string) ssh.Signer {
	seed := sha256.Sum256([]byte(name))
	s, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return s
}

// running is a whole gateway in this process, on free ports of loopback.
type running struct {
	*Gateway
	t    testing.TB
	dir  string
	stop func()
}

// users are the keys in the authorized_keys of a test's gateway, by user.
var users = map[string][]string{"ann": {"ann", "ann2"}, "bob": {"bob"}}

// newState is a state folder with the users in it.
func newState(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for user, names := range users {
		var b bytes.Buffer
		for _, k := range names {
			b.Write(ssh.MarshalAuthorizedKey(signer(k).PublicKey()))
		}
		authorize(t, dir, user, b.String())
	}
	return dir
}

func authorize(t testing.TB, dir, user, lines string) {
	t.Helper()
	keys := filepath.Join(dir, "authorized_keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(keys, user), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
}

// config is for a gateway on dir that disturbs nobody.
func config(dir string) Config {
	return Config{
		State: dir, SSH: "127.0.0.1:0", HTTP: "127.0.0.1:0", HTTPS: "off", Admin: "off", DNSResolver: "127.0.0.1:1", // where nobody answers
		TCPHost: "127.0.0.1", TCPPorts: "off",
		Logger: slog.New(slog.DiscardHandler), Park: 5 * time.Second, Drain: time.Second,
	}
}

// start runs a gateway on dir until the test ends or it is stopped.
func start(t testing.TB, dir string, change ...func(*Config)) *running {
	t.Helper()
	return run(t, dir, opened(t, dir, change...))
}

// opened is a gateway that does not run yet.
func opened(t testing.TB, dir string, change ...func(*Config)) *Gateway {
	t.Helper()
	cfg := config(dir)
	for _, f := range change {
		f(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal("New:", err)
	}
	return g
}

func run(t testing.TB, dir string, g *Gateway) *running {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	r := &running{Gateway: g, t: t, dir: dir}
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error("Run:", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// withPorts gives a gateway n TCP ports that are free now.
func withPorts(t testing.TB, n int) (lo int, change func(*Config)) {
	t.Helper()
	for base := 10000 + os.Getpid()%500*18; ; base += n { // beside the ports of real gateways
		if base+n > 19999 {
			t.Fatal("no free ports")
		}
		if allFree(base, n) {
			text := fmt.Sprintf("%d-%d", base, base+n-1)
			return base, func(c *Config) { c.TCPPorts = text }
		}
	}
}

func allFree(base, n int) bool {
	for p := base; p < base+n; p++ {
		ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
		if err != nil {
			return false
		}
		ln.Close()
	}
	return true
}

// user is one SSH connection of a test, whose local service answers with who.
type user struct {
	*ssh.Client
	t   testing.TB
	g   *running
	who string
	nc  *freezer

	handle func(*http.Request) // called before a request is answered
}

// freezer is a connection that can stop taking bytes, as a stopped ssh does.
type freezer struct {
	net.Conn
	frozen chan struct{} // closed by freeze
	gone   chan struct{} // closed by Close
	once   sync.Once
}

func (f *freezer) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	select {
	case <-f.frozen:
		<-f.gone
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (f *freezer) Close() error {
	f.once.Do(func() { close(f.gone) })
	return f.Conn.Close()
}

// login connects with a key; login names mean nothing.
func (g *running) login(key string) *user {
	g.t.Helper()
	u, err := g.tryLogin(key)
	if err != nil {
		g.t.Fatal("login:", err)
	}
	return u
}

func (g *running) tryLogin(key string) (*user, error) { return g.loginWith(key, signer(key)) }

// loginAs is login with a certificate.
func (g *running) loginAs(s ssh.Signer) *user {
	g.t.Helper()
	u, err := g.loginWith("certificate", s)
	if err != nil {
		g.t.Fatal("login:", err)
	}
	return u
}

func (g *running) loginWith(who string, s ssh.Signer) (*user, error) {
	plain, err := net.Dial("tcp", g.lns.ssh[0].Addr().String())
	if err != nil {
		return nil, err
	}
	nc := &freezer{Conn: plain, frozen: make(chan struct{}), gone: make(chan struct{})}
	c, chans, reqs, err := ssh.NewClientConn(nc, "test", &ssh.ClientConfig{
		User: "x", Auth: []ssh.AuthMethod{ssh.PublicKeys(s)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		nc.Close()
		return nil, err
	}
	u := &user{Client: ssh.NewClient(c, chans, reqs), t: g.t, g: g, who: who, nc: nc}
	g.t.Cleanup(func() { u.Close() })
	go u.serve(u.HandleChannelOpen("forwarded-tcpip"))
	return u, nil
}

// serve is the local service: it answers HTTP with its name, and to anything
// else it says its name and echoes.
func (u *user) serve(opens <-chan ssh.NewChannel) {
	for nc := range opens {
		if ch, reqs, err := nc.Accept(); err == nil {
			go ssh.DiscardRequests(reqs)
			go u.answer(ch)
		}
	}
}

func (u *user) answer(ch ssh.Channel) {
	defer ch.Close()
	r := bufio.NewReader(ch)
	head, _ := r.Peek(4)
	if string(head) != "GET " {
		io.WriteString(ch, u.who+"\n")
		io.Copy(ch, r)
		return
	}
	if req, err := http.ReadRequest(r); err == nil {
		io.Copy(io.Discard, req.Body)
		if u.handle != nil {
			u.handle(req)
		}
		fmt.Fprintf(ch, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(u.who), u.who)
	}
}

// bind is a forward as it is asked for.
type bind struct {
	Addr string
	Port uint32
}

// forward asks for a forward, and gives the port that was granted.
func (u *user) forward(addr string, port uint32) (int, bool) {
	u.t.Helper()
	ok, reply, err := u.SendRequest("tcpip-forward", true, ssh.Marshal(bind{addr, port}))
	if err != nil {
		u.t.Fatal("tcpip-forward:", err)
	}
	var m struct{ Port uint32 }
	if ok && port == 0 {
		if err := ssh.Unmarshal(reply, &m); err != nil {
			u.t.Fatal("reply:", err)
		}
		return int(m.Port), ok
	}
	return int(port), ok
}

// cancel ends a forward.
func (u *user) cancel(addr string, port uint32) bool {
	u.t.Helper()
	ok, _, err := u.SendRequest("cancel-tcpip-forward", true, ssh.Marshal(bind{addr, port}))
	if err != nil {
		u.t.Fatal("cancel-tcpip-forward:", err)
	}
	return ok
}

// why opens a session and gives the code of the last refusal it is told.
func (u *user) why() (code, message string) {
	u.t.Helper()
	s, err := u.NewSession()
	if err != nil {
		u.t.Fatal("session:", err)
	}
	defer s.Close()
	out, err := s.StdoutPipe()
	if err != nil {
		u.t.Fatal(err)
	}
	if err := s.Start("json"); err != nil {
		u.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			u.t.Errorf("no event: %q", lines.Text())
		}
		if e.Event == "tunnel.refused" {
			return e.Code, e.Message
		}
	}
	return "", ""
}

// refusedFor asks for a forward that must be refused, on a connection of its
// own, and gives the code.
func (g *running) refusedFor(key, addr string, port uint32) (code, message string) {
	g.t.Helper()
	u := g.login(key)
	defer u.Close()
	if _, ok := u.forward(addr, port); ok {
		return "granted", ""
	}
	return u.why()
}

// get asks for a virtual host's page, and gives the status and the body.
func (g *running) get(name string) (int, string) {
	g.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	req, err := http.NewRequest("GET", "http://"+g.lns.http[0].Addr().String()+"/", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Host = name + "." + g.cfg.domain
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// served waits until a virtual host answers as who.
func (g *running) served(name, who string) {
	g.t.Helper()
	eventually(g.t, name+" is served by "+who, func() bool {
		status, body := g.get(name)
		return status == 200 && body == who
	})
}

// greeting connects to a TCP tunnel and gives who is there.
func greeting(port int) string {
	c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "hello")
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

// ofUser is the registry's record of who owns a name or a port.
func (g *running) ofUser(b bucket, key string) string {
	r, ok := g.state.ledger.owner(b, key, time.Now(), g.cfg.NameTTL)
	if !ok {
		return ""
	}
	return r.User
}

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not in time:", what)
		}
	}
}
