package sshd

import (
	"crypto/sha256"
	"errors"
	"io"
	"math/rand"
	"net"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"adit/tcp"
)

// loan is what a borrower was called with.
type loan struct {
	data string
	end  error
}

// A lent channel's packets and end go to the borrower; what that leaves, and
// all that comes after it, is read.
func TestLend(t *testing.T) {
	_, k, local := join(t)
	got := make(chan loan, 10)
	take, more := 100, true
	f := func(p []byte, end error) (int, bool) {
		got <- loan{string(p), end}
		return min(len(p), take), more
	}
	if !k.Lend(f) {
		t.Fatal("not lent")
	}
	for _, text := range []string{"one", "two"} {
		io.WriteString(local, text)
		if l := within(t, got); l.data != text || l.end != nil {
			t.Fatal(l)
		}
	}
	eventually(t, "the loan is recalled, when the borrower has returned", k.Recall)
	if k.Recall() {
		t.Error("it was lent once")
	}
	io.WriteString(local, "three")
	buf := make([]byte, 10)
	if n, err := k.Read(buf); string(buf[:n]) != "three" || err != nil {
		t.Error(string(buf[:n]), err)
	}
	take = 2
	k.Lend(f)
	io.WriteString(local, "four")
	within(t, got)
	if n, err := k.Read(buf); string(buf[:n]) != "ur" || err != nil {
		t.Error(string(buf[:n]), err)
	}
	take, more = 100, false
	k.Lend(f)
	io.WriteString(local, "five")
	within(t, got)
	io.WriteString(local, "six")
	eventually(t, "a byte is noise", func() bool { return !k.Quiet() })
	if k.Lend(f) {
		t.Error("lent before what has come was read")
	}
	if n, err := k.Read(buf); string(buf[:n]) != "six" || err != nil {
		t.Error(string(buf[:n]), err)
	}
}

// The borrower hears of every kind of end, once.
func TestLentToTheEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(c *client, k *Channel, local io.Closer)
		want error
	}{
		"the client's end": {func(_ *client, _ *Channel, l io.Closer) { l.Close() }, io.EOF},
		"a cut":            {func(c *client, _ *Channel, _ io.Closer) { c.nc.Close() }, io.ErrUnexpectedEOF},
		"our own":          {func(_ *client, k *Channel, _ io.Closer) { k.Close() }, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			c, k, local := join(t)
			got := make(chan loan, 10)
			k.Lend(func(p []byte, end error) (int, bool) {
				got <- loan{string(p), end}
				return len(p), true
			})
			tt.end(c, k, local)
			if l := within(t, got); !errors.Is(l.end, tt.want) {
				t.Error(l)
			}
			k.Close()
			if k.Lend(nil) || k.Recall() || len(got) > 0 {
				t.Error("lent after its end")
			}
		})
	}
}

// A borrower that panics costs its connection and no more.
func TestBorrowerPanics(t *testing.T) {
	c, k, local := join(t)
	told := make(chan error, 1)
	k.Lend(func(_ []byte, end error) (int, bool) {
		if end == nil {
			panic("test")
		}
		told <- end
		return 0, false
	})
	io.WriteString(local, "x")
	c.ended()
	if end := within(t, told); end == nil {
		t.Error("no end")
	}
}

// A packet without data, which a client may send, is none to a borrower.
func TestLendNothing(t *testing.T) {
	ts, dial := streaming(t)
	c, _ := ts.dialRaw("ann")
	c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80}))
	c.want(msgRequestSuccess)
	near, far := pair(t)
	over := make(chan error, 1)
	go func() {
		k, err := dial()
		if err == nil {
			_, _, err = tcp.Splice(near, k, time.Minute)
		}
		over <- err
	}()
	peer := c.acceptOpen()
	for _, data := range []string{"", "x", "", "y"} {
		c.send(struct {
			Peer uint32 `sshtype:"94"`
			Data string
		}{peer, data})
	}
	got := make([]byte, 2)
	if _, err := io.ReadFull(far, got); string(got) != "xy" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	c.nc.Close()
	if err := within(t, over); err == nil {
		t.Error("a cut is an end")
	}
}

// pair is both ends of a TCP connection.
func pair(t *testing.T) (near, far net.Conn) {
	lns, err := tcp.Listen([]string{"127.0.0.1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close(lns)
	if far, err = net.Dial("tcp", lns[0].Addr().String()); err == nil {
		near, err = lns[0].Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// Between a socket that stops and goes and a channel that is lent, every byte
// comes across, and each direction's end.
func TestSpliceToASlowSocket(t *testing.T) {
	_, k, local := join(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near.(*net.TCPConn).SetWriteBuffer(8 << 10)
	type sums struct {
		aToB, bToA int64
		err        error
	}
	done := make(chan sums, 1)
	go func() {
		a, b, err := tcp.Splice(near, k, time.Minute)
		done <- sums{a, b, err}
	}()
	source := make([]byte, 4<<20)
	rnd := rand.New(rand.NewSource(1))
	rnd.Read(source)
	go func() {
		for p := source; len(p) > 0; {
			n := min(len(p), 1+rnd.Intn(60<<10))
			local.Write(p[:n])
			p = p[n:]
		}
		local.CloseWrite()
	}()
	h := sha256.New()
	for buf := make([]byte, 100<<10); ; {
		n, err := far.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if [32]byte(h.Sum(nil)) != sha256.Sum256(source) {
		t.Error("bytes differ")
	}
	io.WriteString(far, "back")
	far.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(local); string(b) != "back" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if s := within(t, done); s.aToB != 4 || s.bToA != int64(len(source)) || s.err != nil {
		t.Error(s)
	}
}
