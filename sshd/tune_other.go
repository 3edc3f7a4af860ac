//go:build !linux

package sshd

import "net"

// tune has nothing to set here.
func tune(net.Conn) {}

// acknowledged is not known here.
func acknowledged(net.Conn) (acked, sent uint64) { return 0, 0 }
