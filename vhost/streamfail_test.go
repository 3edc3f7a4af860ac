package vhost

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestDialErrorsEverywhere: each way of not being reached has its page.
func TestDialErrorsEverywhere(t *testing.T) {
	for _, h2c := range []bool{false, true} {
		var dialErr atomic.Value
		seen := make(chan Exchange, 1)
		g := frontTLS(t, "", func(o *BackendOptions) {
			o.H2C = h2c
			o.Dial = func(context.Context, net.Addr) (net.Conn, error) { return nil, dialErr.Load().(failure).error }
			o.Observe = func(x *Exchange) { seen <- *x }
		})
		g.each(t, func(t *testing.T, version string, c *http.Client) {
			for _, test := range []struct {
				err    error
				status int
			}{
				{fmt.Errorf("open: %w", syscall.ECONNREFUSED), 502}, {os.ErrDeadlineExceeded, 504}, {context.DeadlineExceeded, 504},
				{net.ErrClosed, 503}, {errors.New("else"), 502},
			} {
				dialErr.Store(failure{test.err})
				q := named(g.request(version, "POST", "/p", strings.NewReader("hello")), "A.")
				resp, body := do(t, c, q)
				if resp.StatusCode != test.status || (resp.Header.Get("Retry-After") != "") != (test.status == 503) || !strings.HasPrefix(body, fmt.Sprint(test.status)) {
					t.Errorf("%v: %v %q", test.err, resp, body)
				}
				x := <-seen
				if x.Status != test.status || test.status != 503 && !errors.Is(x.Err, test.err) || x.Host != "a" || x.Target != "/p" || x.Visitor == nil {
					t.Errorf("observed %+v", x)
				}
			}
		})
	}
}

// failure makes errors of different types one, for an atomic.Value.
type failure struct{ error }

// TestBreaksEverywhere is a service that dies inside a body: what came cannot
// be taken for all there was, and a body short enough to wait for is a page.
func TestBreaksEverywhere(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100<<10)
	for name, raw := range map[string]string{
		"length":      "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + long,
		"chunked":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(long), long),
		"bad chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(long), long) + "nonsense",
		"bad trailer": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(long), long) + "0\r\nX : y\r\n\r\n",
		"short":       "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
		"no head":     "HTTP/1.1 200 OK\r\nContent-Le",
	} {
		o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) { readHead(r); io.WriteString(c, raw) })
		frontTLS(t, o.addr).breaks(t, name, name == "short" || name == "no head")
	}
}

// breaks asks once in each version: the response is a 502, or breaks off.
func (g *secureGate) breaks(t *testing.T, name string, page bool) {
	g.each(t, func(t *testing.T, version string, c *http.Client) {
		resp, err := c.Do(g.request(version, "GET", "/", nil))
		if err != nil && !page {
			return // the reset overtook the head
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if page && resp.StatusCode != 502 || !page && err == nil {
			t.Errorf("%s: %d with %d bytes, %v", name, resp.StatusCode, len(body), err)
		}
	})
}

// TestBreaksH2C is the same of a service that speaks HTTP/2.
func TestBreaksH2C(t *testing.T) {
	addr := h2cOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/long" {
			w.Header().Set("Content-Length", "1000000")
		}
		w.Write(make([]byte, 100<<10))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	frontTLS(t, addr, func(o *BackendOptions) { o.H2C = true }).breaks(t, "reset", false)
	plain := rawOrigin(t, answering(benchResponse))
	frontTLS(t, plain.addr, func(o *BackendOptions) { o.H2C = true }).breaks(t, "HTTP/1.1", true)
}

// TestLeavesEverywhere: a visitor leaves while the service thinks, streams, or
// takes a body: the service is told, and the exchange ends.
func TestLeavesEverywhere(t *testing.T) {
	t.Parallel()
	reached, ended := make(chan bool, 1), make(chan bool, 1)
	h := func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/stream" {
			w.(http.Flusher).Flush()
		}
		reached <- true
		if q.URL.Path == "/upload" {
			io.Copy(io.Discard, q.Body)
		} else {
			<-q.Context().Done()
		}
		ended <- true
	}
	for name, start := range services {
		addr, option := start(t, h)
		seen := make(chan Exchange, 1)
		g := frontTLS(t, addr, option, func(o *BackendOptions) { o.Observe = func(x *Exchange) { seen <- *x } })
		g.each(t, func(t *testing.T, version string, c *http.Client) {
			for _, path := range []string{"/poll", "/stream", "/upload"} {
				var body io.Reader
				pr, pw := io.Pipe()
				if path == "/upload" {
					body = pr
				}
				ctx, cancel := context.WithCancel(t.Context())
				got := make(chan error)
				go func() {
					resp, err := c.Do(g.request(version, "POST", path, body).WithContext(ctx))
					if err == nil {
						got <- nil
						_, err = io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
					got <- err
				}()
				<-reached
				if path == "/stream" {
					<-got
				}
				cancel()
				pw.CloseWithError(context.Canceled)
				if err := <-got; err == nil {
					t.Errorf("%s %s: a response", name, path)
				}
				<-ended
				if x := <-seen; x.Err != nil || x.Status != map[bool]int{true: 200, false: 499}[path == "/stream"] {
					t.Errorf("%s %s: %+v", name, path, x)
				}
			}
		})
	}
}

// TestBackendClosesEverywhere in the middle of a request, and of a response.
func TestBackendClosesEverywhere(t *testing.T) {
	reached := make(chan bool)
	for name, start := range services {
		for _, version := range versions {
			addr, option := start(t, func(w http.ResponseWriter, q *http.Request) {
				if q.URL.Path == "/begun" {
					w.(http.Flusher).Flush()
				}
				reached <- true
				<-q.Context().Done()
			})
			g := frontTLS(t, addr, option)
			c := g.client(version)
			var wait sync.WaitGroup
			begun := make(chan bool, 2)
			for _, path := range []string{"/", "/begun"} {
				wait.Go(func() {
					resp, err := c.Do(g.request(version, "GET", path, nil))
					if err != nil {
						t.Errorf("to %s %s%s: %v", name, version, path, err)
						return
					}
					defer resp.Body.Close()
					begun <- true
					if _, err := io.ReadAll(resp.Body); path == "/" && resp.StatusCode != 502 || path == "/begun" && err == nil {
						t.Errorf("to %s %s%s: %v, %v", name, version, path, resp, err)
					}
				})
			}
			<-reached
			<-reached
			<-begun
			g.backend.Close(errors.New("tunnel lost"))
			wait.Wait()
		}
	}
}

// TestSlowHeadEverywhere: the service has the request and does not answer.
func TestSlowHeadEverywhere(t *testing.T) {
	t.Parallel()
	h := func(w http.ResponseWriter, q *http.Request) {
		io.Copy(io.Discard, q.Body)
		<-q.Context().Done()
	}
	for _, start := range services {
		addr, option := start(t, h)
		g := frontTLS(t, addr, option, func(o *BackendOptions) { o.ResponseTimeout = 100 * time.Millisecond })
		g.each(t, func(t *testing.T, version string, c *http.Client) {
			resp, _ := do(t, c, g.request(version, "POST", "/", strings.NewReader(strings.Repeat("x", 100_000))))
			if resp.StatusCode != 504 {
				t.Errorf("%v", resp)
			}
		})
	}
}
