package tcp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestParseRange(t *testing.T) {
	tests := []struct {
		text string
		want Range
		ok   bool
	}{
		{"off", Range{}, true},
		{"20000-29999", Range{20000, 29999}, true},
		{"1-65535", Range{1, 65535}, true},
		{"8080", Range{8080, 8080}, true},
		{"8080-8080", Range{8080, 8080}, true},
		{"", Range{}, false},
		{"0", Range{}, false},
		{"0-10", Range{}, false},
		{"1-65536", Range{}, false},
		{"30-20", Range{}, false},
		{"a-b", Range{}, false},
		{"1-", Range{}, false},
		{"-1", Range{}, false},
		{"1-2-3", Range{}, false},
		{" 1-2", Range{}, false},
		{"OFF", Range{}, false},
		{"99999999999999999999", Range{}, false},
	}
	for _, tt := range tests {
		got, err := ParseRange(tt.text)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%q: %v %v", tt.text, got, err)
		}
	}
}

func TestRange(t *testing.T) {
	tests := []struct {
		r       Range
		port    int
		in      bool
		n       int
		written string
	}{
		{Range{}, 0, false, 0, "off"},
		{Range{10, 12}, 10, true, 3, "10-12"},
		{Range{10, 12}, 12, true, 3, "10-12"},
		{Range{10, 12}, 13, false, 3, "10-12"},
		{Range{10, 12}, 9, false, 3, "10-12"},
		{Range{7, 7}, 7, true, 1, "7"},
		{Range{10, 12}, -11, false, 3, "10-12"},
	}
	for _, tt := range tests {
		if tt.r.Contains(tt.port) != tt.in || tt.r.Len() != tt.n || tt.r.String() != tt.written {
			t.Errorf("%v: %v %d %s", tt, tt.r.Contains(tt.port), tt.r.Len(), tt.r)
		}
	}
}

// FuzzParseRange holds that a range is within bounds and reads as it is
// written.
func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"off", "20000-29999", "1", "1-65535", "-", "+1-2", "0x10", "1e3", "１-２"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRange(s)
		if err != nil {
			if r != (Range{}) {
				t.Errorf("%v beside %v", r, err)
			}
			return
		}
		if r != (Range{}) && (r.Lo < 1 || r.Hi > 65535 || r.Lo > r.Hi) {
			t.Errorf("%q is %v", s, r)
		}
		if again, err := ParseRange(r.String()); err != nil || again != r {
			t.Errorf("%v reads as %v, %v", r, again, err)
		}
	})
}

func TestListen(t *testing.T) {
	lns, err := Listen([]string{"127.0.0.1", "192.0.2.1"}, 0) // no machine has the second
	if err != nil || len(lns) != 1 {
		t.Fatal(lns, err)
	}
	port := lns[0].Addr().(*net.TCPAddr).Port
	if _, err := Listen([]string{"127.0.0.1"}, port); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error("a taken port:", err)
	}
	if _, err := Listen([]string{"192.0.2.1"}, 0); err == nil {
		t.Error("an address of nobody")
	}
	// What was opened before the failure is closed again.
	free, err := Listen([]string{"127.0.0.2"}, 0)
	if err != nil {
		t.Skip("no 127.0.0.2 here:", err)
	}
	other := free[0].Addr().(*net.TCPAddr).Port
	Close(free)
	busy, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", other))
	if err != nil {
		t.Skip(err)
	}
	defer busy.Close()
	if _, err := Listen([]string{"127.0.0.2", "127.0.0.1"}, other); err == nil {
		t.Error("half of it is enough")
	}
	again, err := Listen([]string{"127.0.0.2"}, other)
	if err != nil {
		t.Error("still open:", err)
	}
	Close(again)
	Close(lns)
}

func TestServe(t *testing.T) {
	var lns []net.Listener
	for range 2 {
		ln, err := Listen([]string{"127.0.0.1"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		lns = append(lns, ln...)
	}
	var handled atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		Serve(lns, func(c net.Conn) {
			defer c.Close()
			io.Copy(c, c)
			handled.Add(1)
		})
	}()
	var clients []net.Conn
	for i := range 10 {
		c, err := net.Dial("tcp", lns[i%2].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "x")
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	Close(lns)
	if _, err := net.Dial("tcp", lns[0].Addr().String()); err == nil {
		t.Error("still accepting")
	}
	select {
	case <-done:
		t.Error("Serve has not waited for its connections")
	default:
	}
	for _, c := range clients {
		c.Close()
	}
	<-done
	if n := handled.Load(); n != 10 {
		t.Error("handled", n)
	}
}
