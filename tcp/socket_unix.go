//go:build unix

package tcp

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// Socket is a TCP connection whose reads and writes the runtime's scheduler is
// not told of. It is to be told of a system call that may wait, which a
// socket's never does: it does not block, and is waited for by the network
// poller. To tell it costs more than the call does: where nothing was to be run
// for a moment, as between any two packets of a quiet connection, the
// runtime's monitor thread is woken each time.
//
// Unlike the net package's, Read and Write may each be called from one goroutine
// at a time only, Write standing for all that sends, and Read for Wait and Quiet.
// The other methods are the connection's.
type Socket struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out transfer
	broken  atomic.Uintptr // the errno of a connection that broke; 0: none that is known
}

// transfer is one direction's present call.
type transfer struct {
	f   func(fd uintptr) bool
	p   []byte
	try bool // it is given up where it would have to wait
	n   int
	err syscall.Errno
}

// newSocket is nil for a connection that was never open.
func newSocket(c *net.TCPConn) *Socket {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	s := &Socket{TCPConn: c, raw: raw}
	s.in.f, s.out.f = s.in.read, s.out.write
	return s
}

func (t *transfer) read(fd uintptr) bool {
	t.n, t.err = sysRead(fd, t.p)
	return t.err != syscall.EAGAIN
}

func (t *transfer) write(fd uintptr) bool {
	t.n, t.err = sysWrite(fd, t.p)
	return t.err != syscall.EAGAIN || t.try
}

func (s *Socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return s.TCPConn.Read(p)
	}
	s.in.p = p
	err := s.raw.Read(s.in.f)
	s.in.p = nil
	return s.got(s.in.n, s.in.err, err)
}

// got is what a Read returns after a system call, and what the runtime said of
// it.
func (s *Socket) got(n int, errno syscall.Errno, err error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, s.failed("read", errno)
	case n == 0 && s.broken.Load() != 0:
		return 0, s.failed("read", syscall.Errno(s.broken.Load()))
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// note remembers that a call which was no Read has been told that the connection
// broke: the system tells it once, and a Read after it would see an end. EPIPE is
// none of these: the peer's end had come before.
func (s *Socket) note(errno syscall.Errno) {
	if errno != 0 && errno != syscall.EAGAIN && errno != syscall.EPIPE {
		s.broken.Store(uintptr(errno))
	}
}

// failed is the error of a system call as the net package has it.
func (s *Socket) failed(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

func (s *Socket) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var some int
		some, err = s.writeSome(p[n:])
		n += some
	}
	return n, err
}

// writeSome writes as much of p as the socket takes at a time, once it takes any;
// p must not be empty.
func (s *Socket) writeSome(p []byte) (int, error) {
	s.out.p = p
	err := s.raw.Write(s.out.f)
	s.out.p = nil
	switch {
	case err != nil:
		return 0, err
	case s.out.err != 0:
		s.note(s.out.err)
		return 0, s.failed("write", s.out.err)
	}
	return s.out.n, nil
}

// TryWrite writes as much of p as the socket takes at once, and returns how much
// that was. An error shows at the next Write.
func (s *Socket) TryWrite(p []byte) int {
	if len(p) == 0 {
		return 0
	}
	s.out.p, s.out.try, s.out.n = p, true, 0
	if s.raw.Write(s.out.f) == nil {
		s.note(s.out.err)
	}
	s.out.p, s.out.try = nil, false
	return max(s.out.n, 0)
}

// WriteBuffers writes all of b in as few system calls as the socket allows, and
// takes from b what was written.
func (s *Socket) WriteBuffers(b *net.Buffers) (n int64, err error) {
	for len(*b) > 0 && err == nil {
		var some int64
		some, err = s.writeSomeBuffers(b)
		n += some
	}
	return n, err
}

// writeSomeBuffers is writeSome for several pieces, and takes from b what was
// written.
func (s *Socket) writeSomeBuffers(b *net.Buffers) (n int64, err error) {
	v := allVectors.Get().(*vectors)
	defer v.giveBack()
	if !v.take(*b) {
		drop(b, 0)
		return 0, nil
	}
	err = s.raw.Write(v.f)
	switch {
	case err != nil:
		return 0, err
	case v.err != 0:
		s.note(v.err)
		return 0, s.failed("writev", v.err)
	}
	drop(b, v.n)
	return int64(v.n), nil
}

var allVectors = sync.Pool{New: func() any {
	v := &vectors{}
	v.f = v.write
	return v
}}

func (v *vectors) giveBack() {
	v.forget()
	allVectors.Put(v)
}

// Wait returns when a Read would not wait: nil, or the error of a read deadline
// that has passed or of a socket that was closed here.
func (s *Socket) Wait() error {
	return s.raw.Read(func(fd uintptr) bool { return s.peek(fd) != syscall.EAGAIN })
}

func (s *Socket) peek(fd uintptr) syscall.Errno {
	err := sysPeek(fd)
	s.note(err)
	return err
}

// Quiet reports whether nothing has arrived that was not read: neither bytes nor
// an end.
func (s *Socket) Quiet() bool {
	quiet := false
	err := s.raw.Read(func(fd uintptr) bool {
		quiet = s.peek(fd) == syscall.EAGAIN
		return true
	})
	return err == nil && quiet
}

// reader gives the way to read s that takes a buffer only when there is
// something to be read.
func (s *Socket) reader() reader {
	r := &lateRead{}
	f := r.once
	return func() (*[]byte, int, error) {
		err := s.raw.Read(f)
		buf := r.buf
		r.buf = nil
		n, err := s.got(r.n, r.err, err)
		return buf, n, err
	}
}

// lateRead is the present call of a reader.
type lateRead struct {
	buf *[]byte
	n   int
	err syscall.Errno
}

func (r *lateRead) once(fd uintptr) bool {
	r.buf = buffers.Get().(*[]byte)
	if r.n, r.err = sysRead(fd, (*r.buf)[headroom:]); r.err != syscall.EAGAIN {
		return true
	}
	buffers.Put(r.buf)
	r.buf = nil
	return false
}
