package vhost

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
	"time"
)

// bulkOrigin answers each request with data, and then with more on the same
// connection; framed says whether the body has a length or ends with the
// connection.
func bulkOrigin(t testing.TB, data, more []byte, framed bool) *origin {
	return rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			if framed {
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(data))
			} else {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			}
			for p := data; len(p) > 0; {
				n := min(1+rand.IntN(100_000), len(p))
				if _, err := c.Write(p[:n]); err != nil {
					return
				}
				p = p[n:]
			}
			if c.Write(more); !framed {
				return
			}
		}
	})
}

// TestLean: a long body goes past the visitor's goroutine and comes whole, to a
// visitor who takes it at once and to one who pauses until the socket is full.
func TestLean(t *testing.T) {
	data := random(16 << 20)
	for _, framed := range []bool{true, false} {
		for _, pauses := range []bool{false, true} {
			t.Run(fmt.Sprintf("framed %v, pauses %v", framed, pauses), func(t *testing.T) {
				g := front(t, bulkOrigin(t, data, nil, framed).addr)
				before := promptly.Load()
				for range 2 {
					c := g.dial()
					version := "1.1"
					if !framed {
						version = "1.0" // 1.1 has it in chunks
					}
					c.send("GET / HTTP/%s\r\nHost: a.gw.example.com\r\n\r\n", version)
					resp, err := http.ReadResponse(c.r, nil)
					if err != nil {
						t.Fatal(err)
					}
					var got bytes.Buffer
					for err == nil {
						if _, err = io.CopyN(&got, resp.Body, 1+rand.Int64N(4<<20)); pauses {
							time.Sleep(10 * time.Millisecond)
						}
					}
					if err != io.EOF || !bytes.Equal(got.Bytes(), data) {
						t.Errorf("%d bytes, %v", got.Len(), err)
					}
				}
				if n := promptly.Load() - before; n < 20 {
					t.Errorf("%d packets went past the visitor's goroutine", n)
				}
			})
		}
	}
}

// TestLeanSurplus: what a service sends behind a long body's end goes to nobody,
// and its connection is not used again.
func TestLeanSurplus(t *testing.T) {
	data := bytes.Repeat([]byte("data"), 1<<20)
	o := bulkOrigin(t, data, []byte("HTTP/1.1 200 OK\r\n\r\nnobody's"), true)
	g := front(t, o.addr)
	c := g.dial()
	for i := 1; i <= 3; i++ {
		c.send("GET / HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n")
		if _, b := c.response("GET"); b != string(data) {
			t.Fatalf("%d bytes", len(b))
		}
		if o.accepted() != i {
			t.Errorf("%d connections to the service for %d requests", o.accepted(), i)
		}
	}
}

// TestLeanCut: a body that breaks off, and one whose visitor leaves, are cut on
// the other side too.
func TestLeanCut(t *testing.T) {
	left := make(chan error, 1)
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		q, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 8<<20)
		c.Write(make([]byte, 4<<20))
		if q.URL.Path == "/wait" {
			_, err := c.Read(make([]byte, 1))
			left <- err
		}
	})
	g := front(t, o.addr)
	c := g.dial()
	c.send("GET / HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n > 4<<20 || err == nil {
		t.Errorf("half a body: %d bytes, %v", n, err)
	}
	c = g.dial()
	c.send("GET /wait HTTP/1.1\r\nHost: a.gw.example.com\r\n\r\n")
	if resp, err = http.ReadResponse(c.r, nil); err != nil {
		t.Fatal(err)
	}
	io.CopyN(io.Discard, resp.Body, 4<<20)
	c.Conn.Close()
	select {
	case err := <-left:
		if err == nil {
			t.Error("the service reads on")
		}
	case <-time.After(10 * time.Second):
		t.Error("the service is not told that the visitor has left")
	}
}
