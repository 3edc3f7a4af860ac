package sshd

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"adit/tcp"

	"golang.org/x/crypto/ssh"
)

// streaming is a server with one forward, and what dials a stream through it.
func streaming(t testing.TB) (*testServer, func() (net.Conn, error)) {
	forwards := make(chan *Forward, 1)
	ts := newServer(t, script{forward: func(ctx context.Context, f *Forward) {
		f.Accept(4000)
		forwards <- f
		<-ctx.Done()
	}})
	var f *Forward
	return ts, func() (net.Conn, error) {
		if f == nil {
			f = within(t, forwards)
		}
		return f.DialContext(context.Background(), visitor)
	}
}

// join gives both ends of one stream; the client's is answered by hand.
func join(t testing.TB) (c *client, gateway *Channel, local ssh.Channel) {
	t.Helper()
	ts, dial := streaming(t)
	c = ts.dialMute("ann")
	go ssh.DiscardRequests(c.reqs)
	c.forward("blog", 80)
	accepted := make(chan ssh.Channel, 1)
	go func() {
		nc := <-c.chans
		ch, reqs, _ := nc.Accept()
		go ssh.DiscardRequests(reqs)
		accepted <- ch
	}()
	k, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return c, k.(*Channel), <-accepted
}

func TestHalfCloses(t *testing.T) {
	t.Run("the visitor ends first", func(t *testing.T) {
		_, k, local := join(t)
		io.WriteString(k, "question")
		k.CloseWrite()
		if b, err := io.ReadAll(local); string(b) != "question" || err != nil {
			t.Fatalf("%q %v", b, err)
		}
		io.WriteString(local, "answer")
		local.CloseWrite()
		if b, err := io.ReadAll(k); string(b) != "answer" || err != nil {
			t.Errorf("%q %v", b, err)
		}
	})
	t.Run("the service ends first", func(t *testing.T) {
		_, k, local := join(t)
		io.WriteString(local, "greeting")
		local.CloseWrite()
		if b, err := io.ReadAll(k); string(b) != "greeting" || err != nil {
			t.Fatalf("%q %v", b, err)
		}
		io.WriteString(k, "late question")
		k.CloseWrite()
		if b, err := io.ReadAll(local); string(b) != "late question" || err != nil {
			t.Errorf("%q %v", b, err)
		}
	})
}

func TestBytesArriveWhole(t *testing.T) {
	_, k, local := join(t)
	source := make([]byte, 5<<20)
	rand.New(rand.NewSource(1)).Read(source)
	want := sha256.Sum256(source)
	pump := func(w io.WriteCloser, half func() error) {
		for p, r := source, rand.New(rand.NewSource(2)); len(p) > 0; {
			n := min(len(p), 1+r.Intn(100<<10))
			if _, err := w.Write(p[:n]); err != nil {
				t.Error(err)
				return
			}
			p = p[n:]
		}
		half()
	}
	go pump(k, k.CloseWrite)
	go pump(local, local.CloseWrite)
	sums := make(chan [32]byte, 2)
	sum := func(r io.Reader) {
		h := sha256.New()
		if _, err := io.Copy(h, r); err != nil {
			t.Error(err)
		}
		sums <- [32]byte(h.Sum(nil))
	}
	go sum(k)
	go sum(local)
	if a, b := within(t, sums), within(t, sums); a != want || b != want {
		t.Error("bytes differ")
	}
}

func TestEndOrCut(t *testing.T) {
	tests := []struct {
		name string
		end  func(c *client, local ssh.Channel)
		want error
	}{
		{"half-close", func(_ *client, l ssh.Channel) { l.CloseWrite() }, io.EOF},
		{"close", func(_ *client, l ssh.Channel) { l.Close() }, io.EOF},
		{"the connection is closed", func(c *client, _ ssh.Channel) { c.nc.Close() }, io.ErrUnexpectedEOF},
		{"the client says goodbye", func(c *client, _ ssh.Channel) { c.Close() }, io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, k, local := join(t)
			io.WriteString(local, "half")
			tt.end(c, local)
			b, err := io.ReadAll(k)
			if err == nil {
				err = io.EOF
			}
			if string(b) != "half" || !errors.Is(err, tt.want) {
				t.Errorf("%q %v, want %v", b, err, tt.want)
			}
		})
	}
}

// A DISCONNECT message ends every channel in order, and only then does the
// socket close: half a stream must not look whole.
func TestDisconnectMessageIsACut(t *testing.T) {
	for range 20 {
		ts, dial := streaming(t)
		c, h := ts.dialRaw("ann")
		c.globalRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80}))
		c.want(msgRequestSuccess)
		got, reading := make(chan error, 1), make(chan struct{})
		go func() {
			k, err := dial()
			close(reading)
			if err == nil {
				_, err = io.ReadAll(k)
			}
			got <- err
		}()
		peer := c.acceptOpen()
		within(t, reading)
		c.send(struct {
			Peer uint32 `sshtype:"94"`
			Data string
		}{peer, "half"})
		c.send(struct {
			Reason    uint32 `sshtype:"1"`
			Text, Tag string
		}{11, "bye", ""})
		if err := within(t, got); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal("read:", err)
		}
		c.nc.Close()
		within(t, h.closed)
	}
}

// acceptOpen confirms the next channel that the server opens, as number 7
// with a window of 100 bytes, and gives the server's number for it.
func (c *raw) acceptOpen() uint32 {
	c.t.Helper()
	p := c.want(msgChannelOpen)
	n := binary.BigEndian.Uint32(p[1:])
	peer := binary.BigEndian.Uint32(p[5+n:])
	c.send(struct {
		Peer, ID, Window, Mx uint32 `sshtype:"91"`
	}{peer, 7, 100, 32 << 10})
	return peer
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, k, local := join(t)
		began := time.Now()
		k.SetReadDeadline(began.Add(5 * time.Second))
		if _, err := k.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("read: %v after %v", err, time.Since(began))
		}
		k.SetReadDeadline(time.Time{})
		io.WriteString(local, "x")
		if n, err := k.Read(make([]byte, 9)); n != 1 || err != nil {
			t.Error("a read after the deadline was lifted:", n, err)
		}

		// A deadline that passes while nothing is written costs nothing.
		k.SetWriteDeadline(time.Now().Add(time.Second))
		time.Sleep(time.Minute)
		k.SetWriteDeadline(time.Now().Add(time.Second))
		go local.Read(make([]byte, 9))
		if _, err := k.Write([]byte("x")); err != nil {
			t.Error("a write in time:", err)
		}

		// One that passes during a write ends the channel.
		began = time.Now()
		k.SetWriteDeadline(began.Add(time.Minute))
		if n, err := k.Write(make([]byte, 8<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n == 8<<20 || time.Since(began) != time.Minute {
			t.Errorf("write: %d %v after %v", n, err, time.Since(began))
		}
		if _, err := k.Read(make([]byte, 1)); err == nil {
			t.Error("the channel has not ended")
		}
		if err := k.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Error("SetDeadline:", err)
		}
	})
}

func TestPastDeadlines(t *testing.T) {
	_, k, _ := join(t)
	k.SetDeadline(time.Now().Add(-time.Second))
	if _, err := k.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("read:", err)
	}
	if _, err := k.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("write:", err)
	}
}

func TestSplicedSilenceIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts, dial := streaming(t)
		c := ts.dial("ann")
		c.forward("blog", 80)
		k, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		near, far := newPipe()
		done := make(chan struct{})
		go func() { tcp.Splice(far, k, time.Minute); close(done) }()
		for range 3 {
			io.WriteString(near, "ping")
			if _, err := io.ReadFull(near, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		near.Close()
		<-done
	})
}

func TestCloseUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, k, _ := join(t)
		read, wrote := make(chan error, 1), make(chan error, 1)
		go func() { _, err := k.Read(make([]byte, 1)); read <- err }()
		go func() { _, err := k.Write(make([]byte, 8<<20)); wrote <- err }()
		synctest.Wait()
		k.Close()
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Error("read:", err)
		}
		if err := <-wrote; !errors.Is(err, net.ErrClosed) {
			t.Error("write:", err)
		}
		if err := k.Close(); err != nil {
			t.Error("second Close:", err)
		}
	})
}

func TestQuiet(t *testing.T) {
	_, k, local := join(t)
	if !k.Quiet() {
		t.Error("a fresh channel is not quiet")
	}
	io.WriteString(local, "x")
	eventually(t, "a byte is noise", func() bool { return !k.Quiet() })
	k.Read(make([]byte, 1))
	if !k.Quiet() {
		t.Error("not quiet after the byte was read")
	}
	local.CloseWrite()
	eventually(t, "an end is noise", func() bool { return !k.Quiet() })
}

func TestChannelAddresses(t *testing.T) {
	c, k, _ := join(t)
	if k.RemoteAddr() != net.Addr(visitor) || k.LocalAddr() == nil {
		t.Error(k.LocalAddr(), k.RemoteAddr())
	}
	if !strings.HasPrefix(c.h.conn.RemoteAddr().String(), "192.0.2.1:") {
		t.Error(c.h.conn.RemoteAddr())
	}
}

func TestServiceRefuses(t *testing.T) {
	ts, dial := streaming(t)
	c := ts.dialMute("ann")
	go ssh.DiscardRequests(c.reqs)
	c.forward("blog", 80)
	go func() { (<-c.chans).Reject(ssh.ConnectionFailed, "Connection refused") }()
	if _, err := dial(); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "connect failed") {
		t.Error(err)
	}
}

// A client that never answers an open costs each visitor ten seconds, and all
// of them no more than maxChannels goroutines.
func TestOpensWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts, dial := streaming(t)
		c := ts.dialMute("ann")
		go ssh.DiscardRequests(c.reqs)
		c.forward("blog", 80)
		began := time.Now()
		if _, err := dial(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != openLimit {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		late := make(chan ssh.NewChannel, 1)
		late <- <-c.chans
		go func() {
			for range c.chans {
			}
		}()
		errs := make(chan error, maxChannels+10)
		for range maxChannels + 10 {
			go func() { _, err := dial(); errs <- err }()
		}
		refused := 0
		for range maxChannels + 10 {
			if err := <-errs; errors.Is(err, ErrBusy) {
				refused++
			}
		}
		if refused != 11 { // one open was under way already
			t.Errorf("%d were refused at once", refused)
		}
		// An answer that comes to nobody is closed again.
		ch, reqs, err := (<-late).Accept()
		if err != nil {
			t.Fatal(err)
		}
		go ssh.DiscardRequests(reqs)
		if b, err := io.ReadAll(ch); len(b) > 0 || err != nil {
			t.Errorf("%q %v", b, err)
		}
	})
}

func TestDialGivenUp(t *testing.T) {
	ts := newServer(t, script{forward: func(ctx context.Context, f *Forward) {
		f.Accept(4000)
		gone := errors.New("the visitor has gone")
		dial, cancel := context.WithCancelCause(ctx)
		cancel(gone)
		if _, err := f.DialContext(dial, visitor); !errors.Is(err, gone) {
			t.Error(err)
		}
		f.conn.Close(gone)
		if _, err := f.DialContext(context.Background(), visitor); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}})
	c := ts.dialMute("ann")
	go ssh.DiscardRequests(c.reqs)
	c.SendRequest("tcpip-forward", true, ssh.Marshal(bind{"blog", 80}))
	c.ended()
}

// Extended data has no place on a forwarded channel. As much of it as the
// window takes, and more, does not keep the data from coming.
func TestExtendedDataIsDiscarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, k, local := join(t)
		go func() {
			local.Stderr().Write(make([]byte, firstWindow+firstWindow/2))
			io.WriteString(local, "data")
		}()
		got := make([]byte, 4)
		k.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := io.ReadFull(k, got); string(got[:n]) != "data" || err != nil {
			t.Errorf("%q, %v", got[:n], err)
		}
	})
}
