package vhost

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

const promptAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// lendScript is a service's connection of which the test says what a loan
// brings.
type lendScript struct {
	net.Conn // for the methods that nobody calls
	lend     func(o *lendScript, loan int, f func([]byte, error) (int, bool)) bool
	loans    int

	mu     sync.Mutex
	more   sync.Cond
	wrote  bytes.Buffer
	in     []byte
	closed bool
}

func newLendScript(lend func(o *lendScript, loan int, f func([]byte, error) (int, bool)) bool) *lendScript {
	o := &lendScript{lend: lend}
	o.more.L = &o.mu
	return o
}

func (o *lendScript) Lend(f func([]byte, error) (int, bool)) bool {
	o.loans++
	return o.lend(o, o.loans, f)
}

func (o *lendScript) Recall() bool                     { return false }
func (o *lendScript) Quiet() bool                      { return true }
func (o *lendScript) SetReadDeadline(time.Time) error  { return nil }
func (o *lendScript) SetWriteDeadline(time.Time) error { return nil }

func (o *lendScript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.wrote.Write(p)
}

func (o *lendScript) Read(p []byte) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.in) == 0 && !o.closed {
		o.more.Wait()
	}
	if o.closed {
		return 0, net.ErrClosed
	}
	n = copy(p, o.in)
	o.in = o.in[n:]
	return n, nil
}

// arrive is what Read returns.
func (o *lendScript) arrive(p string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.in = append(o.in, p...)
	o.more.Broadcast()
}

func (o *lendScript) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.more.Broadcast()
	return nil
}

// scripted is a gate to services whose connections are conns, in that order.
func scripted(t *testing.T, conns ...*lendScript) *gate {
	be := NewBackend(BackendOptions{Dial: func(context.Context, net.Addr) (net.Conn, error) {
		c := conns[0]
		conns = conns[1:]
		return c, nil
	}})
	t.Cleanup(func() { be.Close(nil) })
	g := start(t, &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { return be, nil }})
	g.backend = be
	return g
}

// A connection is closed here behind the first part of an answer, which was
// looked at where the request had been: the request is not sent again, let alone
// that.
func TestPromptClosedBehindAPart(t *testing.T) {
	whole := func(_ *lendScript, _ int, f func([]byte, error) (int, bool)) bool {
		go f([]byte(promptAnswer), nil)
		return true
	}
	a := newLendScript(func(o *lendScript, loan int, f func([]byte, error) (int, bool)) bool {
		if loan == 1 {
			return whole(o, loan, f)
		}
		go func() {
			o.Close()
			f([]byte("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\na secret"), nil)
		}()
		return true
	})
	b := newLendScript(whole)
	c := scripted(t, a, b).dial()
	for range 2 {
		c.send("GET /x HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n")
		c.response("GET")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if got := b.wrote.String(); got != "" && !strings.HasPrefix(got, "GET /x ") {
		t.Errorf("sent as a request: %q", got)
	}
}

// A visitor's goroutine that was roused, for a loan that was refused after all,
// leaves its connection as any other answer does: open.
func TestPromptRousedBeforeARefusal(t *testing.T) {
	a := newLendScript(func(o *lendScript, _ int, _ func([]byte, error) (int, bool)) bool {
		time.Sleep(2 * lull)
		o.arrive(promptAnswer)
		return false
	})
	c := scripted(t, a).dial()
	c.send("GET /x HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n")
	c.response("GET")
	c.Conn.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := c.Conn.Read(make([]byte, 1)); err == io.EOF {
		t.Error("the connection was closed behind the answer")
	}
}
