//go:build !unix

package vhost

import "net"

// quiet reports whether nothing has arrived on an idle connection, if the
// connection can say so.
func quiet(c net.Conn) bool {
	q, ok := c.(interface{ Quiet() bool })
	return !ok || q.Quiet()
}
