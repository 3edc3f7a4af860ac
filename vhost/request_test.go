package vhost

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// hostile are requests that some reader somewhere takes for two, or for
// another one than its neighbour does. Each is refused.
var hostile = []struct {
	name, raw string
	status    int
}{
	{"CL.TE", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400},
	{"TE.CL", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n", 400},
	{"TE.TE", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400},
	{"TE twice", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE list", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400},
	{"TE gzip", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE not last", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400},
	{"TE quoted", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400},
	{"TE xchunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400},
	{"TE parameter", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", 400},
	{"TE vertical tab", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400},
	{"TE empty", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", 400},
	{"TE in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE space before colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE tab before colon", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE folded", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE after bare CR", "POST / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE after bare LF", "POST / HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE after NUL", "POST / HTTP/1.1\r\nHost: a\r\nX: y\x00Transfer-Encoding: chunked\r\n\r\n", 400},
	{"CL twice", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
	{"CL twice the same", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400},
	{"CL list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na", 400},
	{"CL plus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", 400},
	{"CL minus", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na", 400},
	{"CL hex", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\na", 400},
	{"CL empty", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\na", 400},
	{"CL words", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\na", 400},
	{"CL underscore", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\na", 400},
	{"CL overflow", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\na", 400},
	{"CL space before colon", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\na", 400},
	{"CL non-ASCII digit", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xd9\xa1\r\n\r\na", 400},
	{"fold", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400},
	{"fold of the first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
	{"fold with tab", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\tContent-Length: 5\r\n\r\n", 400},
	{"bare LF ends", "GET / HTTP/1.1\nHost: a\n\n", 400},
	{"bare LF in the middle", "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", 400},
	{"CR LF LF", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
	{"bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400},
	{"CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400},
	{"NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400},
	{"ESC in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[2J\r\n\r\n", 400},
	{"DEL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", 400},
	{"NUL in a name", "GET / HTTP/1.1\r\nHost: a\r\nX\x00: a\r\n\r\n", 400},
	{"non-ASCII name", "GET / HTTP/1.1\r\nHost: a\r\n\xc3\xa4: a\r\n\r\n", 400},
	{"empty name", "GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n", 400},
	{"no colon", "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", 400},
	{"empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"tabs", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"space at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
	{"two targets", "GET / /x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"no version", "GET /\r\nHost: a\r\n\r\n", 400},
	{"lower-case version", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
	{"long version", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
	{"HTTP/0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
	{"HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
	{"h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
	{"PRI", "PRI * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405},
	{"TRACE", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405},
	{"lower-case method", "get / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
	{"mixed-case method", "Get / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
	{"method with a bracket", "G[T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
	{"no Host in 1.0", "GET / HTTP/1.0\r\n\r\n", 400},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
	{"the same Host twice", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
	{"Host list", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400},
	{"Host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
	{"Host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
	{"Host empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
	{"absolute and Host differ", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"absolute with user", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"absolute with other scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"relative target", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"star", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"backslash", "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"NUL in the target", "GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"C1 control in the target", "GET /\xc2\x9b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"8-bit control in the target", "GET /\x85 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"malformed escape", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417},
	{"long target", "GET /" + strings.Repeat("a", longestTarget) + " HTTP/1.1\r\nHost: a\r\n\r\n", 414},
	{"endless target", "GET /" + strings.Repeat("a", 64<<10), 414},
	{"long head", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 40<<10) + "\r\n\r\n", 431},
	{"many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: 1\r\n", 100) + "\r\n", 431},
	{"many options", "GET / HTTP/1.1\r\nHost: a\r\nConnection: " + strings.Repeat("a,", 100) + "\r\n\r\n", 400},
	{"chunk size overflow", chunkedPost + "10000000000000000\r\na\r\n0\r\n\r\n", 400},
	{"chunk size overflow to the last", chunkedPost + "10000000000000000\r\n\r\n", 400},
	{"chunk size plus", chunkedPost + "+1\r\na\r\n0\r\n\r\n", 400},
	{"chunk size 0x", chunkedPost + "0x1\r\na\r\n0\r\n\r\n", 400},
	{"chunk size space", chunkedPost + "1 \r\na\r\n0\r\n\r\n", 400},
	{"chunk size space before extension", chunkedPost + "1 ;\r\na\r\n0\r\n\r\n", 400},
	{"chunk size leading space", chunkedPost + " 1\r\na\r\n0\r\n\r\n", 400},
	{"chunk size empty", chunkedPost + "\r\na\r\n0\r\n\r\n", 400},
	{"chunk bare LF", chunkedPost + "1\na\r\n0\r\n\r\n", 400},
	{"chunk bare LF after two digits", chunkedPost + "1f\na\r\n0\r\n\r\n", 400},
	{"chunk without end", chunkedPost + "1\r\nab\r\n0\r\n\r\n", 400},
	{"chunk ends in two other bytes", chunkedPost + "1\r\nabc0\r\n\r\n", 400},
	{"chunk ends in LF", chunkedPost + "1\r\na\n0\r\n\r\n", 400},
	{"chunk extension with bare LF", chunkedPost + "1;a\nb\r\na\r\n0\r\n\r\n", 400},
	{"chunk extension with CR", chunkedPost + "1;a\rb\r\na\r\n0\r\n\r\n", 400},
	{"chunk extension without semicolon", chunkedPost + "1 a\r\na\r\n0\r\n\r\n", 400},
	{"chunk extension too long", chunkedPost + "1;" + strings.Repeat("a", 4096) + "\r\na\r\n0\r\n\r\n", 400},
	{"trailer folded", chunkedPost + "0\r\nX: a\r\n b\r\n\r\n", 400},
	{"trailer with bare LF", chunkedPost + "0\r\nX: a\n\r\n", 400},
	{"trailer too long", chunkedPost + "0\r\nX: " + strings.Repeat("a", 16<<10) + "\r\n\r\n", 400},
}

const chunkedPost = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

// TestHostile sends each with a second request behind it: neither may reach
// the service, and the connection must end after one refusal.
func TestHostile(t *testing.T) {
	var seen atomic.Int32
	o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
		for {
			q, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, q.Body); err == nil {
				seen.Add(1)
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	g := front(t, o.addr)
	for _, test := range hostile {
		t.Run(test.name, func(t *testing.T) {
			c := g.dial()
			go io.WriteString(c.Conn, test.raw+"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
			got := c.ended()
			if status(got) != test.status || bytes.Count(got, []byte("HTTP/1.1 ")) != 1 {
				t.Errorf("got %.200q, want one %d", got, test.status)
			}
			if !bytes.Contains(got, []byte("\r\nConnection: close\r\n")) {
				t.Errorf("no Connection: close in %q", got)
			}
		})
	}
	if n := seen.Load(); n != 0 {
		t.Errorf("%d hostile requests reached the service", n)
	}
}

// TestTLSInClear: a client that speaks TLS to the wrong port is told so without
// having to wait.
func TestTLSInClear(t *testing.T) {
	g := front(t, "")
	if got := g.once("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"); status(got) != 400 {
		t.Errorf("%q", got)
	}
}

// TestTaken is what a strict reader must not refuse.
func TestTaken(t *testing.T) {
	g := front(t, rawOrigin(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).addr)
	for name, raw := range map[string]string{
		"absolute":            "GET http://A/x HTTP/1.1\r\nHost: a\r\n",
		"absolute no path":    "GET http://a HTTP/1.1\r\nHost: a\r\n",
		"absolute only query": "GET http://a?x HTTP/1.1\r\nHost: a\r\n",
		"options star":        "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
		"UTF-8":               "GET /ü?ü=\xe2\x82\xac HTTP/1.1\r\nHost: a\r\n",
		"query of anything":   "GET /?a=1;b=%zz&c=\\|{}^\"<> HTTP/1.1\r\nHost: a\r\n",
		"dots and slashes":    "GET //a/../b/%2F HTTP/1.1\r\nHost: a\r\n",
		"unknown method":      "PROPFIND / HTTP/1.1\r\nHost: a\r\n",
		"no space":            "GET / HTTP/1.1\r\nHost:a\r\nX:1\r\n",
		"much space":          "GET / HTTP/1.1\r\nHost: \t a \t \r\nX: \r\n",
		"Latin-1 value":       "GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\r\n",
		"length 0":            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n",
		"99 fields":           "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: 1\r\n", 98),
		"long head":           "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 31<<10) + "\r\n",
		"long target":         "GET /" + strings.Repeat("a", longestTarget-1) + " HTTP/1.1\r\nHost: a\r\n",
	} {
		if got := g.once(raw + "Connection: close\r\n\r\n"); status(got) != 200 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestCanonicalHost(t *testing.T) {
	long := strings.Repeat("a.", 126) + "a"
	for value, want := range map[string]string{
		"a": "a", "Blog.GW.example.COM": "blog.gw.example.com", "a.": "a", "a:80": "a", "a.:80": "a", "a:": "a",
		"127.0.0.1:1": "127.0.0.1", "[::1]": "[::1]", "[2001:DB8::0]:443": "[2001:db8::]", "xn--bcher-kva.a": "xn--bcher-kva.a",
		"a_b-c.d": "a_b-c.d", long: long, strings.Repeat("a", 63): strings.Repeat("a", 63),
		"": "", ".": "", "..": "", "a..": "", ".a": "", "a..b": "", "a,b": "", "a b": "", "u@a": "", "a:b": "", "a:80:80": "", "a:-1": "",
		"a:65536": "", "a:000080": "", "[::1": "", "::1": "", "[::1]x": "", "[::1]:x": "", "[127.0.0.1]": "", "[fe80::1%25eth0]": "",
		"bücher": "", "a/": "", "a?": "", "a#": "", "a\\": "", "a%2e": "", "*": "", "a\t": "",
		long + ".a": "", strings.Repeat("a", 64): "", strings.Repeat("a", 300): "",
	} {
		got, ok := canonicalHost(nil, []byte(value))
		if ok != (want != "") || ok && string(got) != want {
			t.Errorf("canonicalHost(%q) = %q, %v; want %q", value, got, ok, want)
		}
	}
}

func TestCookieDomain(t *testing.T) {
	for value, want := range map[string]string{
		"a=b":                                       "a=b",
		"a=b; Domain=gw.example.com":                "a=b",
		"a=b; Domain=gw.example.com; Path=/":        "a=b; Path=/",
		"a=b;domain=.GW.Example.Com;Secure":         "a=b;Secure",
		"a=b; Domain = example.com ; HttpOnly":      "a=b; HttpOnly",
		"a=b; DOMAIN=com":                           "a=b",
		"a=b; Domain=\"gw.example.com\"":            "a=b",
		"a=b; Domain=gw.example.com.":               "a=b",
		"a=b; Domain=blog.gw.example.com":           "a=b; Domain=blog.gw.example.com",
		"a=b; Domain=xample.com":                    "a=b; Domain=xample.com",
		"a=b; Domain=\uff47w.example.com; Secure":   "a=b; Secure",
		"a=b; Domain=gw\u00ad.example.com":          "a=b",
		"a=b; Domain=gw\u3002example.com":           "a=b",
		"a=b; Domain=gw.example.\xffcom":            "a=b",
		"a=b; Domain=other.org":                     "a=b; Domain=other.org",
		"a=b; Domain=":                              "a=b; Domain=",
		"a=b; Domain":                               "a=b; Domain",
		"a=b; domain=x.org; Domain=gw.example.com":  "a=b; domain=x.org",
		"Domain=gw.example.com; x":                  "Domain=gw.example.com; x",
		"__Host-a=b; Secure; Path=/":                "__Host-a=b; Secure; Path=/",
		"a=b;; ;Domain=gw.example.com;":             "a=b;; ;",
		"a=\"x; Domain=gw.example.com\"; Max-Age=1": "a=\"x; Max-Age=1",
	} {
		got := string(appendCookie(nil, []byte("Set-Cookie"), []byte(value), "gw.example.com"))
		if got != "Set-Cookie: "+want+"\r\n" {
			t.Errorf("%q became %q, want %q", value, got, want)
		}
	}
}

func TestIDs(t *testing.T) {
	for id, want := range map[string]bool{
		"abc-123": true, "a/b=c+d:e@f.g_h": true, strings.Repeat("a", 128): true,
		"": false, "a b": false, "a\"b": false, "a;b": false, "ä": false, strings.Repeat("a", 129): false,
	} {
		if validID([]byte(id)) != want {
			t.Errorf("validID(%q) = %v", id, !want)
		}
	}
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for trace, want := range map[string]bool{
		good: true, "cc" + good[2:] + "-what.comes": true, good + "-x": false, good[:54]: false, "ff" + good[2:]: false,
		strings.ToUpper(good): false, "00-" + strings.Repeat("0", 32) + good[35:]: false, good[:36] + strings.Repeat("0", 16) + "-01": false,
		"cc" + good[2:] + "x": false, "": false, strings.Replace(good, "-", "_", 1): false,
	} {
		if validTrace([]byte(trace)) != want {
			t.Errorf("validTrace(%q) = %v", trace, !want)
		}
	}
	if made := appendTrace(nil); !validTrace(made) {
		t.Errorf("made %q", made)
	}
}

// parseWhole parses a head as readHead and parse do.
func parseWhole(q *request, raw []byte) error {
	end, _, err := headEnd(raw, 0)
	switch {
	case err != nil:
		return err
	case end == 0:
		return io.ErrUnexpectedEOF
	}
	return q.parse(raw[:end])
}

// FuzzRequest compares with net/http: what is taken here is taken there, and
// means the same.
func FuzzRequest(f *testing.F) {
	for _, h := range hostile {
		f.Add([]byte(h.raw))
	}
	f.Add([]byte(benchRequest))
	f.Add([]byte("POST http://a:1/x?y HTTP/1.0\r\nHost: A:1\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nab"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var q request
		if parseWhole(&q, raw) != nil || len(raw) > longestHead || new(visitor).name(&q) != nil {
			return
		}
		std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			t.Fatalf("taken, but net/http says %v", err)
		}
		compare(t, &q, std)
		checkForwarded(t, &q)
	})
}

// compare fails unless both readers saw the same request.
func compare(t *testing.T, q *request, std *http.Request) {
	t.Helper()
	length := q.length
	if q.chunked || length < 0 && std.ContentLength == 0 {
		length = std.ContentLength
	}
	if q.method != std.Method || length != std.ContentLength || q.chunked != (len(std.TransferEncoding) == 1) || q.old != (std.ProtoMinor == 0) {
		t.Fatalf("%+v\nnet/http: %+v", q, std)
	}
	if q.authority == nil && (string(q.target) != std.RequestURI || string(q.hostValue) != std.Host) {
		t.Fatalf("target %q, host %q; net/http: %q, %q", q.target, q.hostValue, std.RequestURI, std.Host)
	}
	if q.authority != nil && string(q.authority) != std.Host {
		t.Fatalf("authority %q; net/http: %q", q.authority, std.Host)
	}
	for i := range q.fields {
		f := &q.fields[i]
		if f.kind != kindHost && f.kind != kindTransfer && !contains(std.Header[http.CanonicalHeaderKey(string(f.name))], string(f.value)) {
			t.Fatalf("field %q: %q is not in %v", f.name, f.value, std.Header)
		}
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// checkForwarded fails unless what would be sent is taken again and names the
// client as we do.
func checkForwarded(t *testing.T, q *request) {
	t.Helper()
	out := q.appendRequest(nil, "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n", q.wantsUpgrade())
	var again request
	if err := parseWhole(&again, out); err != nil && !errors.Is(err, faultLongHead) {
		t.Fatalf("%v: %q", err, out)
	}
	std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(out)))
	if err != nil {
		t.Fatalf("net/http: %v: %q", err, out)
	}
	for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-Id", "Traceparent"} {
		if len(std.Header[name]) != 1 {
			t.Fatalf("%s: %q in %q", name, std.Header[name], out)
		}
	}
}

func TestClearSiteData(t *testing.T) {
	for value, want := range map[string]string{
		`"cookies"`: "", `"cache"`: `"cache"`, `"cookies", "storage"`: `"storage"`, `"cache" ,"cookies"`: `"cache"`,
		`"*"`: `"cache", "storage", "executionContexts"`, `*`: `*`, `cookies`: `cookies`,
	} {
		for host, shared := range map[string]bool{"blog.gw.example.com": true, "app.customer.com": false} {
			d := delivery{domain: "gw.example.com", host: host}
			var p response
			if err := p.parse([]byte("HTTP/1.1 200 OK\r\nClear-Site-Data: "+value+"\r\n\r\n"), false); err != nil {
				t.Fatal(err)
			}
			line := "Clear-Site-Data: " + value + "\r\n"
			if shared {
				line = "Clear-Site-Data: " + want + "\r\n"
			}
			got := string(d.appendResponse(nil, &p))
			if shared && want == "" && strings.Contains(got, "Clear-") || (!shared || want != "") && !strings.Contains(got, line) {
				t.Errorf("%s, %s: %q", host, value, got)
			}
		}
	}
}

// TestCookiesBeforeTheEnd: what comes with a 1xx sets no cookie for other names
// either.
func TestCookiesBeforeTheEnd(t *testing.T) {
	const cookie = "Set-Cookie: a=b; Domain=gw.example.com\r\n"
	for answer, want := range map[string]int{
		"HTTP/1.1 103 Early Hints\r\n" + cookie + "\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n": 103,
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + cookie + "\r\nwhat follows": 101,
	} {
		o := rawOrigin(t, func(c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, answer)
		})
		c := front(t, o.addr).dial()
		c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		got, _ := io.ReadAll(c.r)
		if status(got) != want || !bytes.Contains(got, []byte("Set-Cookie: a=b\r\n")) {
			t.Errorf("%q", got)
		}
	}
}

// TestBadChunkIsSeen: of a request that is refused for its body the observer
// hears who sent it, and what.
func TestBadChunkIsSeen(t *testing.T) {
	seen := make(chan Exchange, 1)
	o := rawOrigin(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	g := front(t, o.addr, func(o *BackendOptions) { o.Observe = func(x *Exchange) { seen <- *x } })
	if got := g.once("POST /here HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"); status(got) != 400 {
		t.Errorf("%q", got)
	}
	if x := <-seen; x.Visitor == nil || x.Method != "POST" || x.Target != "/here" || x.Host != "a" || x.ID == "" || x.Status != 400 {
		t.Errorf("%+v", x)
	}
}
