//go:build !linux

package sshd

import "net"

// tune has nothing to set here.
func tune(net.Conn) {}
