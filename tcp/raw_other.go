//go:build !unix

package tcp

import (
	"net"
	"syscall"
)

// rawReader has nothing to offer here.
func rawReader(syscall.RawConn) reader { return nil }

// Trial is a socket that is written to only as far as it takes the bytes at once.
type Trial struct{ total int64 }

// NewTrial returns nil: it cannot be done here.
func NewTrial(*net.TCPConn) *Trial { return nil }

// Write has nothing to write to.
func (t *Trial) Write([]byte) int { return 0 }

// Wait has nothing to wait for.
func (t *Trial) Wait() error { return net.ErrClosed }
