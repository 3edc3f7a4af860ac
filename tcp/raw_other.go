//go:build !unix

package tcp

import "syscall"

// rawReader has nothing to offer here.
func rawReader(syscall.RawConn) reader { return nil }
