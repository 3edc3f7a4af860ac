package gateway

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// TestSampler: a lone line passes at once, a burst's rest is counted on the next
// line of its kind, and kinds do not hide each other.
func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedLog
		l := sampled(log.logger())
		wants := func(what, want string) {
			t.Helper()
			if got := log.take(); got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		l.Info("a", "n", 1)
		wants("the first", "msg=a n=1\n")
		for range 699 {
			l.Info("a", "n", 2)
		}
		wants("the burst", "")
		l.Warn("b")
		wants("another kind", "msg=b\n")
		time.Sleep(sampleTime)
		l.Info("a", "n", 3)
		wants("after the burst", "msg=a n=3 left_out=699\n")
		l.Debug("a")
		time.Sleep(sampleTime)
		l.Info("a")
		wants("a lone one later", "msg=a\n")
	})
}

// TestLoginFlood: refused logins are a line a second, and the first has key and
// reason.
func TestLoginFlood(t *testing.T) {
	var log lockedLog
	g := start(t, newState(t), func(c *Config) { c.Logger = log.logger() })
	began := time.Now()
	for range 10 {
		if _, err := g.tryLogin("stranger"); err == nil {
			t.Fatal("a stranger is in")
		}
	}
	var lines []string
	eventually(t, "a line", func() bool {
		lines = regexp.MustCompile("(?m)^msg=\"ssh: login refused\".*$").FindAllString(log.String(), -1)
		return len(lines) > 0
	})
	if want := ssh.FingerprintSHA256(signer("stranger").PublicKey()) + " is not registered here"; !strings.Contains(lines[0], want) {
		t.Errorf("no %q in %q", want, lines[0])
	}
	if most := 1 + int(time.Since(began)/sampleTime); len(lines) > most {
		t.Errorf("%d lines, want %d at most", len(lines), most)
	}
}

// TestHandshakesDropped: who loses their place to a crowd is counted, and said.
func TestHandshakesDropped(t *testing.T) {
	var log lockedLog
	g := opened(t, newState(t), func(c *Config) { c.Logger = log.logger() })
	g.ssh.MaxStartups = 3
	run(t, "", g)
	for range 5 {
		nc, err := net.Dial("tcp", g.lns.ssh[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	eventually(t, "a count of two", func() bool {
		page := httptest.NewRecorder()
		g.adminHandler().ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
		return strings.Contains(page.Body.String(), "\nadit_ssh_handshakes_dropped_total 2\n")
	})
	eventually(t, "a line", func() bool {
		return strings.Contains(log.String(), `msg="ssh: too many handshakes at once, one was cut" remote=127.0.0.1:`)
	})
}

// lockedLog is a log in memory.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// logger writes to it, without times and levels.
func (l *lockedLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// take is what was written since the last time.
func (l *lockedLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, _ := io.ReadAll(&l.text)
	return string(text)
}
