//go:build !unix

package tcp

import "net"

// Socket is not to be had here: SocketOf gives none.
type Socket struct{ *net.TCPConn }

func newSocket(*net.TCPConn) *Socket { return nil }

// TryWrite has nothing to write to.
func (*Socket) TryWrite([]byte) int { return 0 }

// WriteBuffers has nothing to write to.
func (*Socket) WriteBuffers(*net.Buffers) (int64, error) { return 0, net.ErrClosed }

// writeSome has nothing to write to.
func (*Socket) writeSome([]byte) (int, error) { return 0, net.ErrClosed }

// writeSomeBuffers has nothing to write to.
func (*Socket) writeSomeBuffers(*net.Buffers) (int64, error) { return 0, net.ErrClosed }

// Wait has nothing to wait for.
func (*Socket) Wait() error { return net.ErrClosed }

// Quiet has nothing to look at.
func (*Socket) Quiet() bool { return true }

func (*Socket) reader() reader { return nil }
