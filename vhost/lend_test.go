package vhost

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// promptly counts packets that a borrower has taken whole.
var promptly atomic.Int64

// lending is a connection that can be lent, as an SSH channel can: what arrives
// is read by a goroutine of its own.
type lending struct {
	net.Conn
	ended chan struct{} // that goroutine has ended

	mu     sync.Mutex
	came   sync.Cond
	buf    []byte
	err    error
	lent   func([]byte, error) (int, bool)
	loans  int
	inside bool // lent is being called
	readBy time.Time
}

// dialLending is dialTo for connections that can be lent.
func dialLending(addr string) Dial {
	dial := dialPlain(addr)
	return func(ctx context.Context, visitor net.Addr) (net.Conn, error) {
		c, err := dial(ctx, visitor)
		if err != nil {
			return nil, err
		}
		l := &lending{Conn: c, ended: make(chan struct{})}
		l.came.L = &l.mu
		go l.run()
		return l, nil
	}
}

func (l *lending) run() {
	defer close(l.ended)
	for {
		p := make([]byte, 32<<10)
		n, err := l.Conn.Read(p)
		l.arrive(p[:n], err)
		if err != nil {
			return
		}
	}
}

func (l *lending) arrive(p []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lent != nil && len(p) > 0 {
		n := l.lend(p, nil)
		if p = p[n:]; len(p) == 0 {
			promptly.Add(1)
		}
	}
	l.buf, l.err = append(l.buf, p...), err
	if l.lent != nil && err != nil {
		l.lend(nil, err)
	}
	l.came.Broadcast()
}

func (l *lending) lend(p []byte, end error) int {
	f, loan := l.lent, l.loans
	l.inside = true
	l.mu.Unlock()
	n, more := f(p, end)
	l.mu.Lock()
	l.inside = false
	if l.loans == loan && (!more || n < len(p) || end != nil) {
		l.lent = nil
	}
	return n
}

func (l *lending) Lend(f func([]byte, error) (int, bool)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.buf) > 0 || l.err != nil {
		return false
	}
	l.lent = f
	l.loans++
	return true
}

func (l *lending) Recall() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lent == nil || l.inside {
		return false
	}
	l.lent = nil
	return true
}

func (l *lending) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.buf) == 0 && l.err == nil {
		if !l.readBy.IsZero() && !time.Now().Before(l.readBy) {
			return 0, os.ErrDeadlineExceeded
		}
		l.came.Wait()
	}
	if len(l.buf) == 0 {
		if errors.Is(l.err, io.EOF) {
			return 0, io.EOF
		}
		return 0, l.err
	}
	n := copy(p, l.buf)
	l.buf = l.buf[n:]
	return n, nil
}

// ReadBuffers makes it one that hands out packets.
func (l *lending) ReadBuffers(dst [][]byte) ([][]byte, error) {
	p := make([]byte, 32<<10)
	n, err := l.Read(p)
	if n > 0 {
		return append(dst, p[:n]), nil
	}
	return dst, err
}

func (l *lending) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readBy = t
	if !t.IsZero() {
		time.AfterFunc(time.Until(t)+time.Millisecond, l.wake)
	}
	l.came.Broadcast()
	return nil
}

func (l *lending) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.came.Broadcast()
}

func (l *lending) Quiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.buf) == 0 && l.err == nil
}

func (l *lending) CloseWrite() error { return l.Conn.(*net.TCPConn).CloseWrite() }

// WriteBehind uses the room, as an SSH channel does.
func (l *lending) WriteBehind(p []byte, room int) (int, error) {
	clear(p[:room])
	return l.Conn.Write(p[room:])
}
