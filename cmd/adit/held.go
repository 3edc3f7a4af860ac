package main

import (
	"bytes"
	"io"
	"sync"
)

// heldWriter keeps what is written until release, so that the start block
// comes before the log of the start. It never fails: a log that cannot be
// written stops nothing.
type heldWriter struct {
	to io.Writer

	mu       sync.Mutex
	held     bytes.Buffer
	released bool
}

func (h *heldWriter) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released {
		h.to.Write(p)
	} else {
		h.held.Write(p)
	}
	return len(p), nil
}

// release writes what was held, and lets everything through from then on.
func (h *heldWriter) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held.WriteTo(h.to)
	h.released = true
}
