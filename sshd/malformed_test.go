package sshd

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// str is a string as the wire has it, with a length that may lie.
func str(length uint32, s string) string {
	return string(binary.BigEndian.AppendUint32(nil, length)) + s
}

const huge = 0xffffffff

// sized gives payloads for one that is right: whole, cut at every length, and
// with bytes left over.
func sized(right string) []string {
	all := []string{right, right + "x", right + strings.Repeat("\x00", 4096)}
	for i := range min(len(right), 40) {
		all = append(all, right[:i])
	}
	return all
}

func right(m any) string { return string(ssh.Marshal(m)) }

// A malformed request costs at most the connection it came on.
func TestMalformedGlobalRequests(t *testing.T) {
	ts := newServer(t, script{})
	control := ts.dial("bob")
	baseline := runtime.NumGoroutine()
	payloads := map[string][]string{
		"tcpip-forward":                    append(sized(right(bind{"blog", 80})), str(huge, "blog"), str(0, "")+"\xff\xff\xff\xff"),
		"cancel-tcpip-forward":             append(sized(right(bind{"blog", 80})), str(huge, "blog"), str(1<<31, "")),
		"hostkeys-prove-00@openssh.com":    append(sized(str(3, "abc")), str(huge, ""), strings.Repeat(str(0, ""), 5000)),
		"streamlocal-forward@openssh.com":  sized(str(4, "/tmp")),
		"keepalive@openssh.com":            {"", "x"},
		"no-more-sessions@openssh.com":     {"", "x"},
		"":                                 {"", "x"},
		strings.Repeat("long", 4000):       {""},
		"tcpip-forward\x00":                {right(bind{"blog", 80})},
		"\x1b[2J":                          {"\x1b[2J"},
		"cancel-streamlocal-forward@\xff/": {str(huge, "")},
	}
	for kind, list := range payloads {
		c := ts.dial("ann")
		for _, p := range list {
			c.SendRequest(kind, true, []byte(p))
		}
		c.Close()
		c.ended()
	}
	alive(t, control, baseline)
}

// alive checks that a connection still works, and that no other has left
// anything behind.
func alive(t *testing.T, control *client, baseline int) {
	t.Helper()
	if !control.forward("alive", 80) {
		t.Error("the control connection was hit")
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= baseline+6 })
}

func TestMalformedChannelOpens(t *testing.T) {
	echo := func(string, uint32) (net.Conn, error) {
		near, far := newPipe()
		go func() { io.Copy(far, far); far.Close() }()
		return near, nil
	}
	ts := newServer(t, script{direct: echo})
	control := ts.dial("bob")
	baseline := runtime.NumGoroutine()
	opens := map[string][]string{
		"direct-tcpip":                   append(sized(right(opened{"h", 1, "0.0.0.0", 0})), str(huge, "h"), str(1, "h")+"\x00\x00\x00\x01"+str(huge, "")),
		"session":                        {"", "x", strings.Repeat("x", 4096)},
		"forwarded-tcpip":                sized(right(opened{"blog", 80, "192.0.2.7", 1})),
		"x11":                            sized(str(1, "h")),
		"tun@openssh.com":                {"", "\x00\x00\x00\x01\x00\x00\x00\x00"},
		"direct-streamlocal@openssh.com": sized(str(4, "/tmp") + str(0, "") + "\x00\x00\x00\x00"),
		"\x1b]0;x\x07":                   {""},
	}
	for kind, list := range opens {
		for i := 0; i < len(list); i += 8 {
			c := ts.dial("ann")
			for _, p := range list[i:min(i+8, len(list))] {
				if ch, reqs, err := c.OpenChannel(kind, []byte(p)); err == nil {
					go ssh.DiscardRequests(reqs)
					ch.Close()
				}
			}
			c.Close()
			c.ended()
		}
	}
	alive(t, control, baseline)
}

// ptyReq is a pty-req (RFC 4254, section 6.2).
type ptyReq struct {
	Term       string
	W, H, X, Y uint32
	Modes      string
}

func TestMalformedSessionRequests(t *testing.T) {
	ts := newServer(t, script{session: func(_ context.Context, s *Session) { s.PTY(); s.Words(); s.Window() }})
	control := ts.dial("bob")
	baseline := runtime.NumGoroutine()
	pty := right(ptyReq{"xterm", 80, 24, 0, 0, "\x01\x00\x00\x00\x01\x00"})
	requests := map[string][]string{
		"pty-req": append(sized(pty), str(huge, "xterm"), right(ptyReq{"xterm", huge, huge, huge, huge, ""}),
			str(5, "xterm")+strings.Repeat("\x00", 16)+str(huge, ""), right(ptyReq{strings.Repeat("x", 30000), 1, 1, 1, 1, ""})),
		"env":                        append(sized(right(struct{ A, B string }{"A", "b"})), str(huge, "A"), str(1, "A")+str(huge, "")),
		"exec":                       append(sized(str(2, "ls")), str(huge, "ls"), str(0, ""), right(struct{ S string }{strings.Repeat("x ", 20000)}), str(4, "'a \"")),
		"shell":                      {"x", strings.Repeat("x", 5000), ""},
		"window-change":              append(sized(strings.Repeat("\xff", 16)), str(huge, "")),
		"signal":                     append(sized(str(3, "INT")), str(huge, "")),
		"subsystem":                  append(sized(str(4, "sftp")), str(huge, "")),
		"x11-req":                    {"", "\x01" + str(huge, "")},
		"auth-agent-req@openssh.com": {"", "x"},
		"break":                      {"", "\x00\x00\x00\x01"},
		"xon-xoff":                   {"", "\x01"},
		"exit-status":                {"", "\x00\x00\x00\x01"},
		"\x1b[2J":                    {"\x1b[2J"},
	}
	for kind, list := range requests {
		for _, reply := range []bool{true, false} {
			c := ts.dial("ann")
			for _, p := range list {
				ch, reqs, err := c.OpenChannel("session", nil)
				if err != nil {
					t.Fatal(kind, err)
				}
				go ssh.DiscardRequests(reqs)
				ch.SendRequest(kind, reply, []byte(p))
				ch.SendRequest(kind, reply, []byte(p))
				ch.Close()
				eventually(t, "the session is gone", func() bool { return !c.h.conn.HasSession() })
			}
			c.Close()
			c.ended()
		}
	}
	alive(t, control, baseline)
}

func TestSessionRequestAnswers(t *testing.T) {
	heard := make(chan string, 8)
	ts := newServer(t, script{
		session:     func(ctx context.Context, _ *Session) { <-ctx.Done() },
		unsupported: func(s *Session, what string) { heard <- what; s.Notice("adit: no " + what + "\n") },
	})
	c := ts.dial("ann")
	ch, reqs := c.session()
	go ssh.DiscardRequests(reqs)
	said := make(chan string, 8)
	go func() {
		for lines := bufio.NewScanner(ch.Stderr()); lines.Scan(); {
			said <- lines.Text()
		}
	}()
	size := strings.Repeat("\x00\x00\x00\x50", 4)
	tests := []struct {
		kind, payload string
		ok            bool
	}{
		{"window-change", size, false}, // there is no terminal yet
		{"subsystem", str(4, "sftp"), false},
		{"x11-req", "", false},
		{"auth-agent-req@openssh.com", "", false},
		{"signal", str(3, "INT"), false},
		{"env", right(struct{ A, B string }{"LANG", "C"}), true},
		{"pty-req", right(ptyReq{"xterm", 80, 24, 0, 0, ""}), true},
		{"pty-req", right(ptyReq{"xterm", 80, 24, 0, 0, ""}), false},
		{"window-change", size, true},
		{"shell", "", true},
		{"shell", "", false},
		{"exec", str(2, "ls"), false},
		{"env", right(struct{ A, B string }{"LANG", "C"}), false},
		{"window-change", size, true},
	}
	for _, tt := range tests {
		if ok, err := ch.SendRequest(tt.kind, true, []byte(tt.payload)); ok != tt.ok || err != nil {
			t.Errorf("%s: %v %v, want %v", tt.kind, ok, err, tt.ok)
		}
	}
	for _, what := range []string{"subsystem", "x11-req", "auth-agent-req@openssh.com"} {
		if got := within(t, heard); got != what {
			t.Errorf("told of %q, want %q", got, what)
		}
		if got := within(t, said); got != "adit: no "+what {
			t.Errorf("said %q", got)
		}
	}
}

func TestEnvironmentIsBounded(t *testing.T) {
	c := newServer(t, script{}).dial("ann")
	env := func(ch ssh.Channel, size int) bool {
		ok, err := ch.SendRequest("env", true, ssh.Marshal(struct{ A, B string }{"A", strings.Repeat("b", size)}))
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	count := func(size int) (n int) {
		ch, reqs := c.session()
		go ssh.DiscardRequests(reqs)
		for range 500 {
			if env(ch, size) {
				n++
			}
		}
		if ok, err := ch.SendRequest("shell", true, nil); !ok || err != nil {
			t.Error("a shell after it:", ok, err)
		}
		return n
	}
	if n := count(1); n != maxEnv {
		t.Errorf("%d short ones", n)
	}
	if n := count(1000); n != maxEnvBytes/1009 {
		t.Errorf("%d long ones", n)
	}
}

// A thousand sizes before the shell once filled a channel that nobody read,
// and the connection stood still for good.
func TestWindowChangesBeforeTheShell(t *testing.T) {
	window := make(chan Window, 1)
	ts := newServer(t, script{session: func(_ context.Context, s *Session) { window <- s.Window() }})
	c := ts.dial("ann")
	ch, reqs := c.session()
	go ssh.DiscardRequests(reqs)
	ch.SendRequest("pty-req", true, ssh.Marshal(ptyReq{"xterm", 80, 24, 0, 0, ""}))
	for i := range 1000 {
		ch.SendRequest("window-change", false, ssh.Marshal(struct{ W, H, X, Y uint32 }{uint32(i), 24, 0, 0}))
	}
	ch.SendRequest("shell", true, nil)
	if w := within(t, window); w != (Window{999, 24}) {
		t.Error(w)
	}
}

// A client may open a session that takes no bytes at all, and then ask for
// things it is told are not to be had.
func TestNoticesToASessionThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newServer(t, script{unsupported: func(s *Session, what string) { s.Notice("adit: no " + what + "\n") }})
		c, h := ts.dialRaw("ann")
		peer := c.openSession(1, 0)
		began := time.Now()
		for range 100 {
			c.channelRequest(peer, "subsystem", false, []byte(str(4, "sftp")))
		}
		c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80}))
		c.want(msgRequestSuccess)
		if took := time.Since(began); took > 2*noticeLimit {
			t.Errorf("the connection stood still for %v", took)
		}
		c.nc.Close()
		within(t, h.closed)
	})
}
