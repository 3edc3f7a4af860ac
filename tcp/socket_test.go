package tcp

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// socketPair is a Socket, as it comes from a listener of Listen's, and the
// connection that was dialled to it.
func socketPair(t *testing.T) (*Socket, *net.TCPConn) {
	t.Helper()
	lns, err := Listen([]string{"127.0.0.1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(lns)
	far, err := net.Dial("tcp", lns[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := lns[0].Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near.(*Socket), far.(*net.TCPConn)
}

func random(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(p)
	return p
}

// TestSocketWrites: what is larger than the kernel's buffers goes out whole, by
// Write, by WriteBuffers in pieces of all sizes, and by TryWrite again and again.
func TestSocketWrites(t *testing.T) {
	data := random(8 << 20)
	for name, write := range map[string]func(s *Socket) (int64, error){
		"Write": func(s *Socket) (int64, error) {
			n, err := s.Write(data)
			return int64(n), err
		},
		"WriteBuffers": func(s *Socket) (int64, error) {
			parts := net.Buffers{nil}
			for rest := data; len(rest) > 0; {
				n := min(rand.IntN(3)*rand.IntN(300_000), len(rest))
				parts, rest = append(parts, rest[:n:n]), rest[n:]
			}
			n, err := s.WriteBuffers(&parts)
			for _, p := range parts {
				if len(p) > 0 {
					t.Errorf("%d bytes are left over", len(p))
				}
			}
			return n, err
		},
		"TryWrite": func(s *Socket) (n int64, err error) {
			for rest := data; len(rest) > 0; {
				w := s.TryWrite(rest)
				if rest = rest[w:]; w == 0 {
					w, err = s.Write(rest[:1])
					rest = rest[w:]
				}
				if n += int64(w); err != nil {
					break
				}
			}
			return n, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, far := socketPair(t)
			got := make(chan []byte)
			go func() {
				all, _ := io.ReadAll(far)
				got <- all
			}()
			n, err := write(s)
			s.Close()
			if all := <-got; n != int64(len(data)) || err != nil || !bytes.Equal(all, data) {
				t.Errorf("%d bytes written, %v, %d read", n, err, len(all))
			}
		})
	}
}

// TestSocketReads: bytes, a deadline that passes and is taken back, and an end.
func TestSocketReads(t *testing.T) {
	s, far := socketPair(t)
	if n, err := s.Read(nil); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
	s.SetReadDeadline(time.Now().Add(time.Millisecond))
	buf := make([]byte, 10)
	if n, err := s.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("late: %d, %v", n, err)
	}
	s.SetReadDeadline(time.Time{})
	if !s.Quiet() {
		t.Error("it is not quiet")
	}
	time.AfterFunc(time.Millisecond, func() { far.Write([]byte("hello")) })
	if err := s.Wait(); err != nil || s.Quiet() {
		t.Errorf("waited: %v", err)
	}
	if n, err := s.Read(buf); string(buf[:n]) != "hello" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
	far.Close()
	if err := s.Wait(); err != nil || s.Quiet() {
		t.Errorf("waited for the end: %v", err)
	}
	if n, err := s.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("end: %d, %v", n, err)
	}
}

// TestSocketErrors are told by the same names as the net package's.
func TestSocketErrors(t *testing.T) {
	s, far := socketPair(t)
	for s.TryWrite(make([]byte, 1<<20)) > 0 {
	}
	s.SetWriteDeadline(time.Now().Add(time.Millisecond))
	if n, err := s.Write([]byte("late")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a full socket: %d, %v", n, err)
	}
	if n, err := s.WriteBuffers(&net.Buffers{[]byte("late")}); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a full socket: %d, %v", n, err)
	}
	s.SetWriteDeadline(time.Time{})
	far.SetLinger(0)
	far.Close()
	_, err := s.Read(make([]byte, 1))
	if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "read" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read after a reset: %v", err)
	}
	_, err = s.Write([]byte("x"))
	if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "write" || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after a reset: %v", err)
	}
	if n, err := s.WriteBuffers(&net.Buffers{[]byte("x")}); n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("writev after a reset: %d, %v", n, err)
	}

	s, _ = socketPair(t)
	time.AfterFunc(time.Millisecond, func() { s.Close() })
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed meanwhile: %v", err)
	}
	if err := s.Wait(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("waited for a closed one: %v", err)
	}
	if n, err := s.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %d, %v", n, err)
	}
	if s.TryWrite([]byte("x")) != 0 || s.TryWrite(nil) != 0 || s.Quiet() {
		t.Error("a closed one takes bytes, or is quiet")
	}
}

// TestSocketResetIsNoEnd: a connection that was reset does not read as one that
// has come to its end, whoever was told of the reset; one that had ended before
// does.
func TestSocketResetIsNoEnd(t *testing.T) {
	told := map[string]func(s *Socket){
		"nobody":       func(*Socket) {},
		"TryWrite":     func(s *Socket) { s.TryWrite([]byte("x")) },
		"Write":        func(s *Socket) { s.Write([]byte("x")) },
		"WriteBuffers": func(s *Socket) { s.WriteBuffers(&net.Buffers{[]byte("x")}) },
		"Wait":         func(s *Socket) { s.Wait() },
		"Quiet":        func(s *Socket) { s.Quiet() },
	}
	for name, tell := range told {
		t.Run(name, func(t *testing.T) {
			for _, reset := range []bool{true, false} {
				s, far := socketPair(t)
				buf := make([]byte, 8)
				if reset {
					far.SetLinger(0)
				}
				far.Close()
				time.Sleep(time.Millisecond)                // a reset that comes later is told to the Read
				for !reset && s.TryWrite([]byte("x")) > 0 { // until one has come behind the end
				}
				tell(s)
				if _, err := s.Read(buf); reset != (err != io.EOF) {
					t.Errorf("reset %v: %v", reset, err)
				}
			}
		})
	}
}
