package tcp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a TCP connection's two ends.
func pair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// plain hides what a connection has beyond net.Conn and a half-close, as an
// SSH channel does.
type plain struct{ net.Conn }

func (p plain) CloseWrite() error { return p.Conn.(halfCloser).CloseWrite() }

// batches is a connection that hands out its packets as they are.
type batches struct{ plain }

func (b batches) ReadBuffers(dst [][]byte) ([][]byte, error) {
	for {
		p := make([]byte, 1<<10)
		n, err := b.Read(p)
		if n > 0 {
			dst = append(dst, p[:n])
		}
		if err != nil || n < len(p) || len(dst) == cap(dst) {
			return dst, err
		}
	}
}

// waiting is a connection that says when it can be read.
type waiting struct{ plain }

func (waiting) WaitRead() {}

// result is what Splice returned.
type result struct {
	aToB, bToA int64
	err        error
}

// joined is a splice under way: the two outer ends, and its result to come.
func joined(t testing.TB, stall time.Duration, wrap func(net.Conn) net.Conn) (a, b *net.TCPConn, done chan result) {
	a, innerA := pair(t)
	innerB, b := pair(t)
	done = make(chan result, 1)
	var wrapped net.Conn = innerB
	if wrap != nil {
		wrapped = wrap(innerB)
	}
	go func() {
		var r result
		r.aToB, r.bToA, r.err = Splice(innerA, wrapped, stall)
		done <- r
	}()
	return a, b, done
}

var kinds = map[string]func(net.Conn) net.Conn{
	"TCP":     nil,
	"plain":   func(c net.Conn) net.Conn { return plain{c} },
	"batches": func(c net.Conn) net.Conn { return batches{plain{c}} },
	"waiting": func(c net.Conn) net.Conn { return waiting{plain{c}} },
}

func within(t testing.TB, done chan result) (r result) {
	t.Helper()
	select {
	case r = <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("Splice has not returned")
	}
	return r
}

func TestHalfCloses(t *testing.T) {
	for name, wrap := range kinds {
		t.Run(name, func(t *testing.T) {
			for _, aFirst := range []bool{true, false} {
				a, b, done := joined(t, time.Minute, wrap)
				first, second := a, b
				if !aFirst {
					first, second = b, a
				}
				io.WriteString(first, "question")
				first.CloseWrite()
				if got, err := io.ReadAll(second); string(got) != "question" || err != nil {
					t.Errorf("%q %v", got, err)
				}
				io.WriteString(second, "a longer answer")
				second.CloseWrite()
				if got, err := io.ReadAll(first); string(got) != "a longer answer" || err != nil {
					t.Errorf("%q %v", got, err)
				}
				want := result{8, 15, nil}
				if !aFirst {
					want = result{15, 8, nil}
				}
				if r := within(t, done); r != want {
					t.Errorf("%+v, want %+v", r, want)
				}
			}
		})
	}
}

func TestBytesArriveWhole(t *testing.T) {
	for name, wrap := range kinds {
		t.Run(name, func(t *testing.T) {
			a, b, done := joined(t, time.Minute, wrap)
			source := make([]byte, 8<<20)
			rand.New(rand.NewSource(1)).Read(source)
			sums := make(chan [32]byte, 2)
			for i, c := range []*net.TCPConn{a, b} {
				go pour(c, source, int64(i))
				go func() {
					h := sha256.New()
					io.Copy(h, c)
					sums <- [32]byte(h.Sum(nil))
				}()
			}
			want := sha256.Sum256(source)
			if x, y := <-sums, <-sums; x != want || y != want {
				t.Error("bytes differ")
			}
			if r := within(t, done); r != (result{8 << 20, 8 << 20, nil}) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// pour writes p in pieces of any size, and half-closes.
func pour(c *net.TCPConn, p []byte, seed int64) {
	for r := rand.New(rand.NewSource(seed)); len(p) > 0; {
		n := min(len(p), 1+r.Intn(200<<10))
		if _, err := c.Write(p[:n]); err != nil {
			return
		}
		p = p[n:]
	}
	c.CloseWrite()
}

// A stream that broke must not look as one that ended.
func TestResetStaysAReset(t *testing.T) {
	for name, wrap := range kinds {
		t.Run(name, func(t *testing.T) {
			for _, aBreaks := range []bool{true, false} {
				a, b, done := joined(t, time.Minute, wrap)
				breaks, other := a, b
				if !aBreaks {
					breaks, other = b, a
				}
				io.WriteString(breaks, "half")
				io.ReadFull(other, make([]byte, 4))
				Reset(breaks)
				_, err := io.ReadAll(other)
				// What is no TCP connection to the splice cannot be reset by it.
				if canReset := !aBreaks || wrap == nil; canReset && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("read %v, want a reset", err)
				}
				if r := within(t, done); r.err == nil {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

func TestSilenceIsNoStall(t *testing.T) {
	const stall = 50 * time.Millisecond
	a, b, done := joined(t, stall, nil)
	for range 3 {
		io.WriteString(a, "ping")
		if _, err := io.ReadFull(b, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		select {
		case r := <-done:
			t.Fatalf("cut: %+v", r)
		case <-time.After(4 * stall):
		}
	}
	a.Close()
	b.Close()
	within(t, done)
}

func TestStallCuts(t *testing.T) {
	for name, wrap := range kinds {
		t.Run(name, func(t *testing.T) {
			a, b, done := joined(t, 200*time.Millisecond, wrap)
			go a.Write(make([]byte, 64<<20)) // b takes none of it
			if r := within(t, done); !errors.Is(r.err, os.ErrDeadlineExceeded) {
				t.Errorf("%+v", r)
			}
			b.SetReadDeadline(time.Now().Add(30 * time.Second))
			if n, err := io.Copy(io.Discard, b); err == nil && name == "TCP" {
				t.Errorf("%d bytes look whole", n)
			}
		})
	}
}

// Who takes bytes slowly takes them: it is not how long a large write needs
// that counts.
func TestSlowIsNoStall(t *testing.T) {
	const stall = time.Second
	innerA, a := pair(t)
	innerB, b := pair(t)
	for _, c := range []*net.TCPConn{innerB, b} {
		c.SetWriteBuffer(4 << 10)
		c.SetReadBuffer(4 << 10)
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.aToB, r.bToA, r.err = Splice(bulk{plain{innerA}}, innerB, stall)
		done <- r
	}()
	io.WriteString(a, "go")
	a.CloseWrite()
	buf := make([]byte, 8<<10)
	total := 0
	for began := time.Now(); time.Since(began) < 4*stall; time.Sleep(stall / 10) {
		n, err := b.Read(buf)
		if total += n; err != nil {
			t.Fatalf("cut after %d bytes: %v", total, err)
		}
	}
	b.Close()
	within(t, done)
}

// bulk hands out half a MiB at a time, for as long as it is asked.
type bulk struct{ plain }

func (bulk) ReadBuffers(dst [][]byte) ([][]byte, error) {
	for len(dst) < cap(dst) {
		dst = append(dst, bytes.Repeat([]byte("x"), 32<<10))
	}
	return dst, nil
}

// A connection that cannot half-close is closed.
func TestWithoutHalfClose(t *testing.T) {
	a, inner := pair(t)
	near, far := net.Pipe()
	done := make(chan result, 1)
	go func() {
		var r result
		r.aToB, r.bToA, r.err = Splice(inner, far, 0)
		done <- r
	}()
	io.WriteString(a, "x")
	if _, err := near.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	a.CloseWrite()
	if _, err := near.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	within(t, done)
}
