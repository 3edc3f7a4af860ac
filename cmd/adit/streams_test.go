//go:build unix

package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// addStreams adds the paths of web that are about how a body comes and ends.
func addStreams(mux *http.ServeMux) {
	mux.HandleFunc("/broken/{n}", webHalf)
	mux.HandleFunc("/cut", webCut)
	mux.Handle("/store", new(store))
	mux.HandleFunc("/trailers", webTrailers)
	mux.HandleFunc("/early", webEarly)
	mux.HandleFunc("/full", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		fmt.Fprintln(w, "no more room")
	})
}

func webHalf(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", r.PathValue("n"))
	_, _ = io.WriteString(w, strings.Repeat("x", number(r)/2))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func webCut(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, "half a story")
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// store is what was PUT last.
type store struct {
	mu   sync.Mutex
	data []byte
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method != http.MethodPut {
		_, _ = w.Write(s.data)
		return
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	s.data = data
	fmt.Fprintln(w, "stored", len(data))
}

func webTrailers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	fmt.Fprintln(w, "a body")
	w.Header().Set("X-Sum", "42")
}

func webEarly(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Del("Link")
	fmt.Fprintln(w, "the answer")
}
