package vhost

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// TestStreamEverywhere: events reach the visitor one by one, as they are
// written.
func TestStreamEverywhere(t *testing.T) {
	next := make(chan string)
	everywhere(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for event := range next {
			if event == "" {
				return
			}
			io.WriteString(w, event)
			w.(http.Flusher).Flush()
		}
	}, func(t *testing.T, g *secureGate, version string, c *http.Client) {
		resp, err := c.Do(g.request(version, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for i := range 3 {
			event := fmt.Sprintf("data: %d\n\n", i)
			next <- event
			got := make([]byte, len(event))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != event {
				t.Fatalf("%q, %v", got, err)
			}
		}
		next <- ""
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

// TestBothWaysEverywhere: a service may answer a body while it is still coming.
func TestBothWaysEverywhere(t *testing.T) {
	everywhere(t, func(w http.ResponseWriter, q *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		buf := make([]byte, 1)
		for {
			if n, err := q.Body.Read(buf); n == 0 && err != nil {
				return
			}
			w.Write(buf)
			w.(http.Flusher).Flush()
		}
	}, func(t *testing.T, g *secureGate, version string, c *http.Client) {
		pr, pw := io.Pipe()
		resp, err := c.Do(g.request(version, "POST", "/", pr))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buf := make([]byte, 1)
		for b := byte('a'); b < 'z'; b++ {
			pw.Write([]byte{b})
			if _, err := io.ReadFull(resp.Body, buf); err != nil || buf[0] != b {
				t.Fatalf("%q, %v", buf, err)
			}
		}
		pw.Close()
		if _, err := io.ReadFull(resp.Body, buf); err != io.EOF {
			t.Error(err)
		}
	})
}

// TestInterimEverywhere: early hints reach the visitor before the response.
func TestInterimEverywhere(t *testing.T) {
	next := make(chan bool, 1)
	everywhere(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Add("Link", "</a>")
		w.WriteHeader(103)
		<-next
		w.Header().Del("Link")
		io.WriteString(w, "late")
	}, func(t *testing.T, g *secureGate, version string, c *http.Client) {
		hint := ""
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hint = fmt.Sprint(code, h)
			next <- true
			return nil
		}}
		q := g.request(version, "GET", "/", nil)
		resp, body := do(t, c, q.WithContext(httptrace.WithClientTrace(q.Context(), trace)))
		if hint != "103 map[Link:[</a>]]" || body != "late" || resp.Header["Link"] != nil {
			t.Errorf("%s, %v %q", hint, resp.Header, body)
		}
	})
}

// TestExpectEverywhere: the body waits for the service, and reaches it. (Over
// HTTP/2 net/http answers the expectation by itself, and does not pass it on.)
func TestExpectEverywhere(t *testing.T) {
	everywhere(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/no" {
			http.Error(w, "no", http.StatusExpectationFailed)
			return
		}
		echo(w, q)
	}, func(t *testing.T, g *secureGate, version string, c *http.Client) {
		for _, path := range []string{"/", "/no"} {
			q := g.request(version, "POST", path, strings.NewReader("hello"))
			q.Header.Set("Expect", "100-continue")
			resp, body := do(t, c, q)
			if resp.StatusCode != map[string]int{"/": 200, "/no": 417}[path] || path == "/" && body != "hello" {
				t.Errorf("%s: %v %q", path, resp, body)
			}
		}
	})
}

// TestEarlyAnswerEverywhere: a service that refuses a large body is heard while
// the visitor is still sending.
func TestEarlyAnswerEverywhere(t *testing.T) {
	everywhere(t, func(w http.ResponseWriter, q *http.Request) {
		w.WriteHeader(413)
		io.WriteString(w, "big")
	}, func(t *testing.T, g *secureGate, version string, c *http.Client) {
		pr, pw := io.Pipe()
		defer pw.Close()
		go pw.Write(make([]byte, 10))
		q := g.request(version, "POST", "/", pr)
		q.ContentLength = 1e9
		resp, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(body) != "big" {
			t.Errorf("%v %q", resp, body)
		}
	})
}

// TestRedirectEverywhere: the target comes back byte for byte.
func TestRedirectEverywhere(t *testing.T) {
	g := startTLS(t, &Router{Resolve: func(_ context.Context, r *Request) (*Backend, *Page) {
		if !r.TLS {
			t.Error("not TLS")
		}
		return nil, &Page{Status: 308, Location: "https://else.example.com" + r.Target(), HSTS: time.Hour}
	}, AltSvc: `h3=":443"; ma=60`})
	g.each(t, func(t *testing.T, version string, c *http.Client) {
		for _, target := range []string{"/", "/a//b/../%2F?a=1;b=%zz&c=\\|{}^\"<>", "/?", "/?/"} {
			resp, _ := do(t, c, g.request(version, "POST", target, strings.NewReader("hello")))
			h := resp.Header
			if resp.StatusCode != 308 || h.Get("Location") != "https://else.example.com"+target || h.Get("Strict-Transport-Security") != "max-age=3600" {
				t.Errorf("%s: %v", target, resp)
			}
			if (h.Get("Alt-Svc") == `h3=":443"; ma=60`) != (version != "HTTP/3.0") || len(h["Date"]) != 1 || len(h["Content-Length"]) != 1 {
				t.Errorf("%v", h)
			}
		}
	})
}

// TestServiceFields: what only we may say of this port is not relayed, and
// nothing stands twice.
func TestServiceFields(t *testing.T) {
	everywhere(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Alt-Svc", `h3=":1"`)
		w.Header().Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
		w.Header().Set("Strict-Transport-Security", "max-age=1")
		w.Header().Add("Set-Cookie", "a=b; Domain=example.com; Secure")
	}, func(t *testing.T, g *secureGate, version string, c *http.Client) {
		resp, _ := do(t, c, g.request(version, "GET", "/", nil))
		h := resp.Header
		if len(h["Date"]) != 1 || h["Date"][0] != "Thu, 01 Jan 1970 00:00:00 GMT" || h.Get("Strict-Transport-Security") != "max-age=1" || h.Get("Set-Cookie") != "a=b; Secure" {
			t.Errorf("%v", h)
		}
		if want := `h3=":443"`; (version == "HTTP/3.0") != (h.Get("Alt-Svc") == "") || version != "HTTP/3.0" && h.Get("Alt-Svc") != want {
			t.Errorf("%v", h)
		}
	})
}

// TestStalledStream takes nothing of its response: it is cut, and the service
// with it.
func TestStalledStream(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		_, err := io.Copy(c, io.LimitReader(zeros{}, 1e9))
		ended <- err
	})
	g := frontTLS(t, o.addr, func(o *BackendOptions) { o.StallTimeout = 200 * time.Millisecond })
	for _, version := range versions[1:] {
		resp, err := g.client(version).Do(g.request(version, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a gigabyte went nowhere")
			}
		case <-time.After(patience):
			t.Errorf("%s: never cut", version)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Errorf("%s: looks whole", version)
		}
		resp.Body.Close()
	}
}
