package vhost

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestVisitorLeaves while the service thinks, streams, or takes a body: the
// service is told, and the exchange ends.
func TestVisitorLeaves(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"long poll": "GET /poll HTTP/1.1\r\nHost: a\r\n\r\n",
		"stream":    "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
		"upload":    "POST /poll HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 5000),
		"uploaded":  "POST /poll HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + strings.Repeat("x", 50000),
		"expecting": "POST /poll HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			reached, ended := make(chan bool, 1), make(chan bool, 1)
			o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
				if head, _ := readHead(r); strings.Contains(head, "/stream") {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
				}
				reached <- true
				io.Copy(io.Discard, r)
				ended <- true
			})
			seen := make(chan Exchange, 1)
			g := front(t, o.addr, func(o *BackendOptions) { o.Observe = func(x *Exchange) { seen <- *x } })
			c := g.dial()
			c.send("%s", request)
			<-reached
			if name == "stream" {
				c.r.ReadString('\n')
			}
			c.Close()
			<-ended
			if x := <-seen; x.Err != nil || x.Status != map[bool]int{true: 200, false: 499}[name == "stream"] {
				t.Errorf("%+v", x)
			}
		})
	}
}

// TestVisitorLeavesResolve: a parked request's resolver is told.
func TestVisitorLeavesResolve(t *testing.T) {
	parked, ended := make(chan bool), make(chan bool)
	g := start(t, &Router{Resolve: func(ctx context.Context, _ *Request) (*Backend, *Page) {
		parked <- true
		<-ctx.Done()
		ended <- true
		return nil, pageGone
	}})
	c := g.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-parked
	c.Close()
	<-ended
}

// TestWatchKeepsBytes: what the visitor sends while its answer is awaited is
// the next request.
func TestWatchKeepsBytes(t *testing.T) {
	t.Parallel()
	next := make(chan bool)
	addr := httpOrigin(t, func(w http.ResponseWriter, q *http.Request) { <-next; io.WriteString(w, q.Method+q.URL.Path) })
	g := front(t, addr)
	c := g.dial()
	c.send("GET /0 HTTP/1.1\r\nHost: a\r\n\r\n")
	for i := range 3 {
		time.Sleep(2 * lull) // so that the watch is likely to read; right without, too
		c.send("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i+1)
		time.Sleep(lull / 2)
		next <- true
		if _, body := c.response("GET"); body != "GET/"+string(rune('0'+i)) {
			t.Fatalf("%d: %q", i, body)
		}
	}
	next <- true
	c.response("GET")
}

// TestShutdown lets the request in flight finish, tells its visitor that this
// is the last, and closes the idle one.
func TestShutdown(t *testing.T) {
	reached, finish := make(chan bool), make(chan bool)
	g := front(t, httpOrigin(t, func(w http.ResponseWriter, q *http.Request) { reached <- true; <-finish; io.WriteString(w, "done") }))
	idle, busy := g.dial(), g.dial()
	until(t, "two visitors", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return len(g.visitors) == 2 })
	busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-reached
	down := make(chan error, 1)
	go func() { down <- g.Shutdown(context.Background()) }()
	idle.ended()
	if c, err := net.Dial("tcp", g.addr); err == nil {
		c.Close()
		t.Error("still accepting")
	}
	select {
	case err := <-down:
		t.Fatalf("Shutdown did not wait: %v", err)
	default:
	}
	close(finish)
	if resp, body := busy.response("GET"); body != "done" || !resp.Close {
		t.Errorf("%v %q", resp, body)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	busy.ended()
}

// TestShutdownForced cuts what does not finish in time.
func TestShutdownForced(t *testing.T) {
	reached := make(chan bool)
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) { readHead(r); reached <- true; io.Copy(io.Discard, r) })
	g := front(t, o.addr)
	c := g.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-reached
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Shutdown(ctx); err != context.Canceled {
		t.Error(err)
	}
	c.ended()
}

// TestMaxVisitors turns the next one away with an answer.
func TestMaxVisitors(t *testing.T) {
	g := start(t, &Router{MaxVisitors: 1, Resolve: func(context.Context, *Request) (*Backend, *Page) { return nil, nil }})
	c := g.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.response("GET")
	if got := g.dial().ended(); status(got) != 503 {
		t.Errorf("%q", got)
	}
}

// slowAccept fails a few times, as a process without descriptors does.
type slowAccept struct {
	net.Listener
	failures int
	err      error
}

func (l *slowAccept) Accept() (net.Conn, error) {
	if l.failures--; l.failures >= 0 {
		return nil, &net.OpError{Op: "accept", Err: l.err}
	}
	return l.Listener.Accept()
}

// TestAcceptGoesOn after errors that are not the end.
func TestAcceptGoesOn(t *testing.T) {
	for _, failure := range []error{io.ErrNoProgress, os.NewSyscallError("accept4", syscall.EMFILE)} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		r := &Router{Logger: quietLogger, Resolve: func(context.Context, *Request) (*Backend, *Page) { return nil, nil }}
		served := make(chan error)
		go func() { served <- r.Serve(&slowAccept{ln, 3, failure}) }()
		g := &gate{Router: r, addr: ln.Addr().String(), t: t}
		if got := g.once("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); status(got) != 404 {
			t.Errorf("%v: %q", failure, got)
		}
		r.Shutdown(context.Background())
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
		if err := r.Serve(ln); err != http.ErrServerClosed {
			t.Error(err)
		}
	}
}

// TestPanic costs the visitor whose request it was, nobody else.
func TestPanic(t *testing.T) {
	g := start(t, &Router{Logger: quietLogger, Resolve: func(_ context.Context, r *Request) (*Backend, *Page) {
		if r.Host == "bad" {
			panic("a bug")
		}
		return nil, nil
	}})
	good, bad := g.dial(), g.dial()
	bad.send("GET / HTTP/1.1\r\nHost: bad\r\n\r\n")
	if got := bad.ended(); len(got) > 0 {
		t.Errorf("%q", got)
	}
	good.send("GET / HTTP/1.1\r\nHost: good\r\n\r\n")
	good.response("GET")
}

// TestSlowVisitors: how long a head may take, in a clock of its own.
func TestSlowVisitors(t *testing.T) {
	for _, test := range []struct {
		name   string
		sends  []string // one byte string every nine seconds
		after  time.Duration
		status int
	}{
		{"says nothing", nil, firstByte, 0},
		{"begins and stops", []string{"GET / HT"}, headLimit, 408},
		{"drips", []string{"G", "E", "T", " ", "/", " ", "H"}, headLimit, 408},
		{"idle", []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n"}, idleLimit, 404},
		{"drips later", []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "G", "E", "T"}, 9*time.Second + headLimit, 408},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { return nil, nil }}
				here, there := net.Pipe()
				begin := time.Now()
				var wait sync.WaitGroup
				defer wait.Wait()
				wait.Go(func() {
					for _, s := range test.sends {
						io.WriteString(here, s)
						time.Sleep(9 * time.Second)
					}
				})
				wait.Go(func() { r.ServeConn(there) })
				got, _ := io.ReadAll(here)
				if d := time.Since(begin); d != test.after {
					t.Errorf("ended after %v, want %v", d, test.after)
				}
				if i := strings.LastIndex(string(got), "HTTP/1.1 "); test.status != 0 && (i < 0 || status(got[i:]) != test.status) || test.status == 0 && len(got) > 0 {
					t.Errorf("%q", got)
				}
				here.Close()
			})
		})
	}
}

// TestSilentBody: a visitor may be silent inside its body for as long as the
// service waits for it.
func TestSilentBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBackend(BackendOptions{Dial: func(context.Context, net.Addr) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				q, err := http.ReadRequest(bufio.NewReader(there))
				if err == nil {
					_, err = io.Copy(io.Discard, q.Body)
				}
				if err == nil {
					io.WriteString(there, benchResponse)
				}
				there.Close()
			}()
			return here, nil
		}})
		r := &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { return b, nil }}
		here, there := net.Pipe()
		go r.ServeConn(there)
		io.WriteString(here, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n12")
		time.Sleep(24 * time.Hour)
		io.WriteString(here, "34")
		if resp, err := http.ReadResponse(bufio.NewReader(here), nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("%v, %v", resp, err)
		}
		here.Close()
		b.Close(nil)
	})
}

// TestSilentAnswer: a service may be silent inside its answer, and both sides of
// a WebSocket, for as long as they like.
func TestSilentAnswer(t *testing.T) {
	for _, test := range []struct{ request, answer, want string }{
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "late"},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nlate\r\n"},
		{"GET / HTTP/1.0\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "late"},
		{wsRequest + "\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "late"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := NewBackend(BackendOptions{Dial: func(context.Context, net.Addr) (net.Conn, error) {
				here, there := net.Pipe()
				go func() {
					readHead(bufio.NewReader(there))
					io.WriteString(there, test.answer)
					time.Sleep(24 * time.Hour)
					io.WriteString(there, test.want)
				}()
				return here, nil
			}})
			r := &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { return b, nil }}
			here, there := net.Pipe()
			go r.ServeConn(there)
			io.WriteString(here, test.request)
			in := bufio.NewReader(here)
			readHead(in)
			got := make([]byte, len(test.want))
			if _, err := io.ReadFull(in, got); err != nil || string(got) != test.want {
				t.Errorf("%q: %q, %v", test.answer, got, err)
			}
			here.Close()
			b.Close(nil)
		})
	}
}

// TestIdleSweep: connections that nobody uses are closed in time, and new ones
// are opened afterwards.
func TestIdleSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBackend(BackendOptions{Dial: func(context.Context, net.Addr) (net.Conn, error) {
			here, there := net.Pipe()
			go answering(benchResponse)(there, bufio.NewReader(there))
			return here, nil
		}})
		r := &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { return b, nil }}
		for range 2 {
			here, there := net.Pipe()
			go r.ServeConn(there)
			io.WriteString(here, benchRequest)
			resp, err := http.ReadResponse(bufio.NewReader(here), nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			here.Close()
			synctest.Wait()
			if all, idle := b.sizes(); all != 1 || idle != 1 {
				t.Errorf("%d connections, %d idle", all, idle)
			}
			time.Sleep(idleTimeout - spareTimeout)
			if _, idle := b.sizes(); idle != 1 {
				t.Errorf("%d are idle after a while", idle)
			}
			time.Sleep(2 * idleTimeout)
			if all, _ := b.sizes(); all != 0 {
				t.Errorf("%d connections are left", all)
			}
		}
		b.Close(nil)
		b.Close(nil)
	})
}

// TestSpareSweep: of many connections that were used at once only a few are
// kept for later.
func TestSpareSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBackend(BackendOptions{Dial: func(context.Context, net.Addr) (net.Conn, error) {
			here, there := net.Pipe()
			go io.Copy(io.Discard, there)
			return here, nil
		}})
		defer b.Close(nil)
		var ups []*upstream
		for range 3 * mostKept {
			up, err := b.get(t.Context(), nil, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			ups = append(ups, up)
		}
		for _, up := range ups {
			b.put(up)
		}
		for _, then := range []struct {
			after time.Duration
			left  int
		}{{spareTimeout / 2, 3 * mostKept}, {2 * spareTimeout, mostKept}, {idleTimeout / 2, mostKept}, {idleTimeout, 0}} {
			time.Sleep(then.after)
			if all, idle := b.sizes(); all != then.left || idle != then.left {
				t.Errorf("%v later: %d connections, %d idle, want %d", then.after, all, idle, then.left)
			}
		}
	})
}

var quietLogger = slog.New(slog.DiscardHandler)
