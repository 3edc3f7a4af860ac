//go:build unix

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/rogpeppe/go-internal/testscript"
)

// service is somebody's local service, in the test process.
type service struct {
	listener net.Listener
	server   *http.Server // nil: plain TCP
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // plain TCP: what close must end
}

// web opens a local web service. A path decides what it does:
//
//	/echo       says what it was asked: method, path, headers, body
//	/status/N   answers N
//	/slow/MS    waits MS milliseconds before the head
//	/bytes/N    N bytes
//	/drip/N     N lines, one each 50 ms, each sent at once
//	/sse        an event each 100 ms, for ever
//	/ws         a WebSocket that sends back what it gets
//	/broken     promises 100 bytes, sends 5, and breaks off
//	/broken/N   promises N bytes, sends half of them, and breaks off
//	/cut        sends a line in chunks and breaks off
//	/silent     breaks off before the head
//	/store      keeps what is PUT, and gives it back
//	/trailers   a body with the trailer X-Sum behind it
//	/early      a 103 with a Link before the answer
//	/full       answers 413 without reading the body
//	/cookie     sets a cookie for all names of the domain
//	any other   TEXT
func web(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: web NAME TEXT")
	}
	s := open(ts, args[0])
	s.server = &http.Server{Handler: webHandler(args[1])}
	s.running.Add(1)
	go s.serveHTTP()
}

// echo opens a TCP service that sends back what it gets.
func echo(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: echo NAME")
	}
	s := open(ts, args[0])
	s.conns = make(map[net.Conn]bool)
	s.running.Add(1)
	go s.serveTCP()
}

// down ends a service.
func down(ts *testscript.TestScript, neg bool, args []string) {
	services := rigOf(ts).services
	if len(args) != 1 || neg || services[args[0]] == nil {
		ts.Fatalf("usage: down NAME")
	}
	services[args[0]].close()
	delete(services, args[0])
}

// open listens, on the port that a service of this name had before.
func open(ts *testscript.TestScript, name string) *service {
	if rigOf(ts).services[name] != nil {
		ts.Fatalf("service %s is open already", name)
	}
	variable := "PORT_" + name
	l, err := net.Listen("tcp", "127.0.0.1:"+ts.Getenv(variable))
	ts.Check(err)
	ts.Setenv(variable, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	s := &service{listener: l}
	rigOf(ts).services[name] = s
	return s
}

// close ends the service with everybody who is connected.
func (s *service) close() {
	s.listener.Close()
	if s.server != nil {
		s.server.Close()
	}
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *service) serveHTTP() {
	defer s.running.Done()
	_ = s.server.Serve(s.listener) // ends by close
}

func (s *service) serveTCP() {
	defer s.running.Done()
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.running.Add(1)
		go s.echo(c)
	}
}

// echo is one connection of an echo service; a half-close is answered by one.
func (s *service) echo(c net.Conn) {
	defer s.running.Done()
	_, _ = io.Copy(c, c)
	c.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// webHandler is what web documents.
func webHandler(text string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, text) })
	mux.HandleFunc("/echo", webEcho)
	mux.HandleFunc("/status/{n}", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(number(r)) })
	mux.HandleFunc("/slow/{n}", webSlow(text))
	mux.HandleFunc("/bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", number(r)))
	})
	mux.HandleFunc("/drip/{n}", func(w http.ResponseWriter, r *http.Request) {
		drip(w, r, number(r), 50*time.Millisecond, "line %d\n")
	})
	mux.HandleFunc("/sse", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		drip(w, r, 1<<30, 100*time.Millisecond, "data: %d\n\n")
	})
	mux.HandleFunc("/ws", webSocket)
	mux.HandleFunc("/broken", webBroken)
	mux.HandleFunc("/silent", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/cookie", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Set-Cookie", "sid=x; Path=/; Domain=localhost")
	})
	addStreams(mux)
	return mux
}

// number is the number in the path, 0 if it is none.
func number(r *http.Request) int {
	n, _ := strconv.Atoi(r.PathValue("n"))
	return n
}

func webEcho(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s %s\nHost: %s\n", r.Method, r.URL, r.Proto, r.Host)
	_ = r.Header.Write(w)
	fmt.Fprintln(w)
	_, _ = io.Copy(w, r.Body)
}

func webSlow(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if rest(r, time.Duration(number(r))*time.Millisecond) {
			fmt.Fprintln(w, text)
		}
	}
}

// rest waits; it reports false if the visitor left meanwhile.
func rest(r *http.Request, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
		return false
	}
}

// drip sends n lines, each at once, with rests between.
func drip(w http.ResponseWriter, r *http.Request, n int, pause time.Duration, format string) {
	for i := range n {
		fmt.Fprintf(w, format, i)
		_ = http.NewResponseController(w).Flush()
		if !rest(r, pause) {
			return
		}
	}
}

func webSocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}

func webBroken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "100")
	_, _ = io.WriteString(w, "five\n")
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
