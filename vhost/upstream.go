package vhost

import (
	"net"
	"net/netip"
	"time"

	"adit/tcp"
)

// upstream is one connection to a service. Between requests it holds no
// buffer and no goroutine; an exchange owns it from get to put or drop. Of a
// service that speaks HTTP/2 it is one call, which ends with its exchange.
type upstream struct {
	conn net.Conn // the call, if it is one
	call *call
	in   reader
	used bool // it has carried a request before
	// of is the visitor's connection that a request with a body came from, nil
	// if there was none: a service that answers without reading the body takes
	// it for the next request, which therefore must be nobody else's.
	of     any
	holder netip.Prefix // the visitor it is counted for, while it is not idle
	since  time.Time    // idle since then
	stall  tcp.Stall
}

// clean reports whether nothing has arrived that belongs to no response.
func (u *upstream) clean() bool { return u.in.r == u.in.w && u.in.err == nil }

// write sends p, as long as the service goes on taking it.
func (u *upstream) write(p []byte) error {
	_, err := u.send(p)
	return err
}

// send is write that says how much was taken.
func (u *upstream) send(p []byte) (int, error) {
	return u.stall.Write(u.conn, p)
}

// behindWriter is a connection that can send what stands behind room bytes of
// p from where it is: see WriteBehind of an SSH channel. All of p is lost.
type behindWriter interface {
	WriteBehind(p []byte, room int) (int, error)
}

// writeBehind is write without a copy, for a connection that can do that.
func (u *upstream) writeBehind(p []byte, room int) error {
	if err := u.stall.Extend(u.conn); err != nil {
		return err
	}
	_, err := u.conn.(behindWriter).WriteBehind(p, room)
	return err
}
