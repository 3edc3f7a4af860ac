package sshd

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// socket is the TCP connection below SSH. It counts what the liveness watch
// needs and remembers that the connection has died, before any channel can
// report the end of its data: that is how a cut is told from an end.
type socket struct {
	net.Conn
	reads    atomic.Uint64 // reads that brought bytes
	writes   atomic.Uint64 // writes begun
	finished atomic.Uint64 // writes done
	dead     atomic.Bool

	// For steer: bytes to be read again, and a first write to be dropped.
	// Only the handshake's own goroutines use them, one after the other.
	replay   []byte
	greeting []byte

	said  int          // how much of "SSH-" has come
	early gate         // for who has not begun to log in
	begun atomic.Bool  // it has, and early is left alone
	heard atomic.Int64 // when bytes came last, until the login, in Unix nanoseconds; 0: never

	join atomic.Pointer[joiner] // nil: packets are not known by their length

	mux  atomic.Pointer[mux] // set when the client has logged in
	kept *[]byte             // Read's own, as the next ones
	rest []byte              // what is left of kept
	in   flow

	out flow // Write's
}

func (s *socket) Read(p []byte) (int, error) {
	if len(s.replay) > 0 {
		n := copy(p, s.replay)
		if s.replay = s.replay[n:]; len(s.replay) == 0 {
			s.replay = nil
		}
		return n, nil
	}
	early := !s.begun.Load()
	if early {
		p = s.early.admit(p)
	}
	m := s.mux.Load()
	if m != nil {
		m.take()
	}
	n, err := s.read(p)
	if n > 0 {
		s.reads.Add(1)
	}
	if n > 0 && m == nil {
		s.heard.Store(time.Now().UnixNano())
	}
	if early {
		s.early.passed(n)
		if !s.speaksSSH(p[:n]) {
			s.dead.Store(true)
			return 0, errNotSSH
		}
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.hangUp()
	}
	return n, err
}

const (
	// aheadPackets is how many packets the library's reader can hand over
	// before it waits for somebody to take one.
	aheadPackets = 16
	// fillBytes is how much the library may read at a time that it will take
	// apart into packets, of 28 bytes at the least: no more than aheadPackets,
	// with the one that has begun before. When it comes for more it has handed
	// over all of them, and they are taken.
	fillBytes = 14 * 28
)

// read is a Read in which the library takes apart no more packets than it can
// hand over: it has a buffer of libraryBuffer bytes, and reads past it what is
// the rest of one packet.
func (s *socket) read(p []byte) (n int, err error) {
	if len(s.rest) == 0 {
		n, err = s.Conn.Read(p)
		s.in.moved(n, n < len(p))
		if len(p) <= libraryBuffer && n > fillBytes {
			s.keep(p[fillBytes:n])
			n = fillBytes
		}
		return n, err
	}
	if len(p) <= libraryBuffer {
		p = p[:min(len(p), fillBytes)]
	}
	n = copy(p, s.rest)
	if s.rest = s.rest[n:]; len(s.rest) == 0 {
		heldParts.Put(s.kept)
		s.kept, s.rest = nil, nil
	}
	return n, nil
}

// keep holds b for the next reads.
func (s *socket) keep(b []byte) {
	s.kept = heldParts.Get().(*[]byte)
	s.rest = (*s.kept)[:copy(*s.kept, b)]
}

// attach has m dispatch the packets from now on.
func (s *socket) attach(m *mux) {
	s.mux.Store(m)
	if s.dead.Load() {
		m.hungUp()
	}
}

// hangUp notes that the connection has died.
func (s *socket) hangUp() {
	s.dead.Store(true)
	if m := s.mux.Load(); m != nil {
		m.hungUp()
	}
}

// silence is for how long a client has said nothing that has not logged in.
func (s *socket) silence() time.Duration { return time.Since(time.Unix(0, s.heard.Load())) }

// errNotSSH is why a client is let go whose first bytes are not SSH's.
var errNotSSH = errors.New("the client does not speak SSH")

// speaksSSH looks at the bytes that have come next. The library would pass over
// lines before the client's version, but only a server may send such (RFC 4253,
// section 4.2): they are another protocol's, as a proxy's header is from whom it
// is not taken.
func (s *socket) speaksSSH(b []byte) bool {
	const first = "SSH-"
	n := min(len(b), len(first)-s.said)
	ok := string(b[:n]) == first[s.said:s.said+n]
	s.said += n
	return ok
}

func (s *socket) Write(p []byte) (int, error) {
	if s.greeting != nil {
		if sent := s.greeting; bytes.Equal(p, sent) {
			s.greeting = nil
			return len(p), nil
		}
	}
	if !s.begun.Load() {
		s.early.watch(p)
	}
	s.writes.Add(1)
	n, err := s.pass(p)
	s.finished.Add(1)
	s.out.moved(n, false)
	return n, err
}

func (s *socket) pass(p []byte) (int, error) {
	if j := s.join.Load(); j != nil && j.on {
		return j.write(s.Conn, p)
	}
	return s.Conn.Write(p)
}

func (s *socket) Close() error {
	s.hangUp()
	err := s.Conn.Close()
	s.early.open() // not before: who waits there would read on
	return err
}

// CloseWrite lets the client read what was sent before the end.
func (s *socket) CloseWrite() error {
	if h, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}
