package vhost

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// moodyHandler is moody for any version.
func moodyHandler(w http.ResponseWriter, q *http.Request) {
	mood := rand.IntN(20)
	if mood != 0 {
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return
		}
	}
	if mood == 1 {
		time.Sleep(lull + time.Duration(rand.IntN(50))*time.Millisecond)
	}
	body := strings.Repeat(q.URL.Path+" ", rand.IntN(3000)+1)
	if mood%2 == 1 {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	}
	if mood == 2 || mood == 3 {
		io.WriteString(w, body[:rand.IntN(len(body))])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	io.WriteString(w, body)
}

// TestStreamChaos: whatever happens around it, a stream gets its own response
// whole, or an error that cannot be taken for one.
func TestStreamChaos(t *testing.T) {
	t.Parallel()
	for name, start := range services {
		t.Run("to "+name, func(t *testing.T) {
			addr, option := start(t, moodyHandler)
			o := BackendOptions{Dial: dialTo(addr)}
			option(&o)
			var mu sync.Mutex
			back := NewBackend(o)
			g := startTLS(t, &Router{Resolve: func(context.Context, *Request) (*Backend, *Page) { mu.Lock(); defer mu.Unlock(); return back, nil }})
			var wait sync.WaitGroup
			for i := range 8 {
				wait.Go(func() { g.pester(versions[1+i%2], i) })
			}
			for range 12 {
				time.Sleep(20 * time.Millisecond)
				mu.Lock()
				old := back
				back = NewBackend(o)
				mu.Unlock()
				old.Close(nil)
			}
			wait.Wait()
			back.Close(nil)
		})
	}
}

// pester sends requests, a few at a time, and gives some of them up.
func (g *secureGate) pester(version string, id int) {
	c := g.client(version)
	var wait sync.WaitGroup
	for i := range 10 {
		for j := range 3 {
			wait.Go(func() { g.ask(c, version, fmt.Sprintf("/%d/%d/%d", id, i, j)) })
		}
		if rand.IntN(2) == 0 {
			wait.Wait()
		}
	}
	wait.Wait()
}

// ask sends one request and checks its response.
func (g *secureGate) ask(c *http.Client, version, path string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	if rand.IntN(10) == 0 {
		ctx, cancel = context.WithTimeout(context.Background(), time.Duration(rand.IntN(20))*time.Millisecond)
	}
	defer cancel()
	body := io.Reader(strings.NewReader(strings.Repeat("x", rand.IntN(2)*rand.IntN(60_000))))
	if rand.IntN(2) == 0 {
		body = io.MultiReader(body) // hides the length
	}
	resp, err := c.Do(g.request(version, "POST", path, body).WithContext(ctx))
	if err != nil {
		return
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == 200 && strings.Trim(strings.ReplaceAll(string(got), path, ""), " ") != "" {
		g.t.Errorf("%s got %.100q", path, got)
	}
	if err == nil && resp.StatusCode != 200 && resp.StatusCode != 502 && resp.StatusCode != 503 {
		g.t.Errorf("%s got %d", path, resp.StatusCode)
	}
}

// TestRestartedH2C: a service that ends its connections between requests, or
// comes back on another one, is asked again, and the visitor notices nothing.
func TestRestartedH2C(t *testing.T) {
	addr := h2cOrigin(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Connection", "close") // GOAWAY after this one
		io.WriteString(w, "ok")
	})
	g := frontTLS(t, addr, func(o *BackendOptions) { o.H2C = true })
	c := g.client("HTTP/2.0")
	for i := range 30 {
		if resp, body := do(t, c, g.request("HTTP/2.0", "GET", "/", nil)); resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("%d: %v %q", i, resp, body)
		}
	}
}

// TestDialOnce: those who come together while there is no connection share the
// attempt to make one, and its failure.
func TestDialOnce(t *testing.T) {
	for _, fails := range []bool{false, true} {
		addr := h2cOrigin(t, func(w http.ResponseWriter, q *http.Request) {})
		waiting, dials := make(chan bool), make(chan bool, 100)
		g := frontTLS(t, addr, func(o *BackendOptions) {
			o.H2C = true
			dial := o.Dial
			o.Dial = func(ctx context.Context, a net.Addr) (net.Conn, error) {
				dials <- true
				<-waiting
				if fails {
					return nil, syscall.ECONNREFUSED
				}
				return dial(ctx, a)
			}
		})
		c := g.client("HTTP/2.0")
		var wait sync.WaitGroup
		for range 20 {
			wait.Go(func() {
				resp, _ := do(t, c, g.request("HTTP/2.0", "GET", "/", nil))
				if (resp.StatusCode == 502) != fails {
					t.Errorf("%v", resp)
				}
			})
		}
		until(t, "all to wait", func() bool { all, _ := g.backend.sizes(); return all == 20 })
		close(waiting)
		wait.Wait()
		if n := len(dials); n > 5 { // they are counted before they wait: some may be late
			t.Errorf("%d attempts", n)
		}
	}
}
