//go:build unix

package tcp

import (
	"errors"
	"syscall"
)

// noSuchAddress reports whether the machine lacks the address or its family,
// as it does ::1 where IPv6 is off.
func noSuchAddress(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}
