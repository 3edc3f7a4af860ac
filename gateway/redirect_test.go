package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Only a name that is served here is sent on to https, and only to itself:
// nothing that a visitor writes can make it another place.
func TestRedirectsGoNowhereElse(t *testing.T) {
	g := start(t, newState(t), withHTTPS, func(c *Config) { c.Redirect = "on" })
	u := g.login("ann")
	if _, ok := u.forward("blog", 80); !ok {
		t.Fatal(u.why())
	}
	eventually(t, "blog is sent on to https", func() bool { status, _ := g.get("blog"); return status != 404 && status != 503 })
	blog := fmt.Sprintf("https://blog.localhost:%d", g.ports.https)
	for _, tt := range []struct {
		host, target string // a method may stand before the target
		status       int
		location     string
	}{
		{"blog.localhost", "OPTIONS *", 308, blog + "/"},
		{"blog.localhost", "OPTIONS http://blog.localhost", 308, blog + "/"},
		{"localhost", "OPTIONS *", 308, fmt.Sprintf("https://localhost:%d/", g.ports.https)},
		{"blog.localhost", "/a%20b?c=d", 308, blog + "/a%20b?c=d"},
		{"BLOG.LocalHost.:1", "/", 308, blog + "/"},
		{"localhost", "/", 308, fmt.Sprintf("https://localhost:%d/", g.ports.https)},
		{"blog.localhost", "//evil.example/", 308, blog + "//evil.example/"},
		{"blog.localhost", "http://blog.localhost/x", 308, blog + "/x"},
		{"blog.localhost", "http://evil.example/", 400, ""},
		{"blog.localhost", "/\\evil.example", 400, ""},
		{"blog.localhost", "/.well-known/acme-challenge/evil", 308, blog + "/.well-known/acme-challenge/evil"},
		{"nobody.localhost", "/.well-known/acme-challenge/evil", 404, ""},
		{"nobody.localhost", "/", 404, ""},
		{"evil.example", "/", 404, ""},
		{"blog.localhost.evil.example", "/", 404, ""},
		{"evil.blog.localhost", "/", 404, ""},
		{"evil.example@blog.localhost", "/", 400, ""},
		{"blog.localhost/evil", "/", 400, ""},
		{"blog.localhost, evil.example", "/", 400, ""},
		{"", "/", 400, ""},
	} {
		resp, body := g.asks(tt.host, tt.target)
		if got := resp.Header.Get("Location"); resp.StatusCode != tt.status || got != tt.location {
			t.Errorf("Host %q, %s: %d to %q, want %d to %q", tt.host, tt.target, resp.StatusCode, got, tt.status, tt.location)
		}
		if tt.location == "" && strings.Contains(body, "evil") {
			t.Errorf("Host %q, %s: the page says it: %q", tt.host, tt.target, body)
		}
	}
}

// asks sends a request as it is written, to the HTTP port.
func (g *running) asks(host, target string) (*http.Response, string) {
	g.t.Helper()
	c, err := net.Dial("tcp", g.lns.http[0].Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	method, target, ok := strings.Cut(target, " ")
	if !ok {
		method, target = "GET", method
	}
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: gopher\r\nConnection: close\r\n\r\n", method, target, host)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp, string(body)
}
