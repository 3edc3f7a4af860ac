package sshd

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeSize is what one direction holds before a Write blocks.
const pipeSize = 256 << 10

// pipe is one end of a connection in memory. Unlike net.Pipe it has buffers,
// which both sides' greetings need, and it half-closes as TCP does. It works
// on the clock of testing/synctest.
type pipe struct {
	in, out *stream
	addr    *net.TCPAddr
}

// stream is one direction.
type stream struct {
	mu     sync.Mutex
	cond   *sync.Cond
	buf    []byte
	ended  bool // no more bytes will come
	broken bool // nobody reads any more
	closed bool // the reading end was closed
	limit  time.Time
	size   int // what it holds
}

func newStream() *stream {
	s := &stream{size: pipeSize}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func newPipe() (near, far *pipe) {
	a, b := newStream(), newStream()
	return &pipe{a, b, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2222}},
		&pipe{b, a, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 40000}}
}

func (p *pipe) Read(b []byte) (int, error) {
	s := p.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case !s.limit.IsZero() && !time.Now().Before(s.limit):
			return 0, os.ErrDeadlineExceeded
		case len(s.buf) > 0:
			n := copy(b, s.buf)
			s.buf = s.buf[n:]
			s.cond.Broadcast()
			return n, nil
		case s.ended:
			return 0, io.EOF
		}
		s.cond.Wait()
	}
}

func (p *pipe) Write(b []byte) (n int, err error) {
	s := p.out
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(b) > 0 {
		switch {
		case s.ended:
			return n, net.ErrClosed
		case s.broken:
			return n, syscall.EPIPE
		case len(s.buf) < s.size:
			m := min(len(b), s.size-len(s.buf))
			s.buf = append(s.buf, b[:m]...)
			n, b = n+m, b[m:]
			s.cond.Broadcast()
			continue
		}
		s.cond.Wait()
	}
	return n, nil
}

func (p *pipe) CloseWrite() error {
	p.out.set(func(s *stream) { s.ended = true })
	return nil
}

func (p *pipe) Close() error {
	p.out.set(func(s *stream) { s.ended = true })
	p.in.set(func(s *stream) { s.broken, s.closed = true, true })
	return nil
}

func (s *stream) set(f func(*stream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
	s.cond.Broadcast()
}

func (p *pipe) SetReadDeadline(t time.Time) error {
	p.in.set(func(s *stream) { s.limit = t })
	if !t.IsZero() {
		time.AfterFunc(time.Until(t), func() { p.in.set(func(*stream) {}) })
	}
	return nil
}

func (p *pipe) SetDeadline(t time.Time) error    { return p.SetReadDeadline(t) }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
func (p *pipe) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2222} }
func (p *pipe) RemoteAddr() net.Addr             { return p.addr }
