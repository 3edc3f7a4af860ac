package vhost

import (
	"net/http"
	"time"
)

// write sends one message, or a part of it: its head as fields, and content.
// What has been written is on its way when write returns, unless it was the
// last of the message: then the rest goes together with the end of the stream,
// once ServeHTTP has returned.
func (s *stream) write(p []byte) error {
	if !s.begun {
		if p = s.writeHead(p); !s.begun {
			return nil
		}
	}
	s.watchStall(true)
	defer s.watchStall(false)
	if len(p) > 0 {
		if _, err := s.w.Write(p); err != nil {
			return err
		}
	}
	if s.x.back.state == stateEnd {
		return nil
	}
	return s.ctl.Flush()
}

// writeHead sends the head that p begins with, and returns what is behind it.
// The server must add nothing of its own to a final one, which is what the
// empty entries are for. Trailer goes in its own spelling, or the server would
// move the fields that it names.
func (s *stream) writeHead(p []byte) []byte {
	head, status, rest := cutHead(p)
	h := s.w.Header()
	if s.begun = status >= 200; s.begun {
		h["Content-Type"], h["Content-Length"] = nil, nil
	}
	values := make([]string, 0, 16)
	for name, value := range fieldsOf(head) {
		if name = http.CanonicalHeaderKey(name); name == "Trailer" {
			name = "trailer"
		}
		if had := h[name]; len(had) > 0 {
			h[name] = append(had, value)
			continue
		}
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	s.w.WriteHeader(status)
	if !s.begun {
		clear(h) // of a 1xx
	}
	return rest
}

// end adds the trailer fields, and bounds what the server still has to write.
func (s *stream) end(b *body) {
	if b != nil {
		h := s.w.Header()
		for f := range b.relayedTrailers(true) {
			name := http.TrailerPrefix + http.CanonicalHeaderKey(string(f.name))
			h[name] = append(h[name], string(f.value))
		}
	}
	if s.q.Context().Err() == nil { // the timer of a stream that has ended would keep it for that long
		s.ctl.SetWriteDeadline(time.Now().Add(s.stall.Limit))
	}
	s.whole = true
}

// abort leaves the response unfinished: ServeHTTP resets the stream.
func (s *stream) abort() {}

// linger is not needed: a stream that is not read stops nothing else.
func (s *stream) linger() {}

// watchStall says that a write begins or ends. One that lasts for as long as
// the visitor may take nothing is cut, and the stream with it.
func (s *stream) watchStall(writing bool) {
	s.mu.Lock()
	if s.writing = writing; writing {
		s.since = time.Now()
	}
	s.mu.Unlock()
	switch {
	case !writing:
		s.stalled.Stop()
	case s.stalled == nil:
		s.stalled = time.AfterFunc(s.stall.Limit, s.cut)
	default:
		s.stalled.Reset(s.stall.Limit)
	}
}

// cut runs on a timer's goroutine, perhaps when the write that it was set for is
// over.
func (s *stream) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing && time.Since(s.since) >= s.stall.Limit {
		s.ctl.SetWriteDeadline(longAgo)
	}
}
