package tcp

import "net"

// SocketOf returns the TCP connection that c is, or that it looks at the first
// bytes of: what is written to c goes there as it is. ok is false if there is
// none. Reading is for c alone.
func SocketOf(c net.Conn) (s *Socket, ok bool) {
	for {
		p, peeked := c.(*Peeked)
		if !peeked {
			break
		}
		c = p.Conn
	}
	switch c := c.(type) {
	case *Socket:
		return c, true
	case *net.TCPConn:
		s = newSocket(c)
	}
	return s, s != nil
}

// WriteBuffers writes all of b, in as few system calls as it takes where c is a
// socket, and takes from b what was written.
func WriteBuffers(c net.Conn, b *net.Buffers) (int64, error) {
	if s, ok := SocketOf(c); ok {
		return s.WriteBuffers(b)
	}
	return b.WriteTo(c)
}

// writeSome writes as much of p, which must not be empty, as c takes at a time,
// once it takes any: for who wants to know whether it still does. A connection
// that is no socket is to take all of it.
func writeSome(c net.Conn, p []byte) (int, error) {
	if s, ok := SocketOf(c); ok {
		return s.writeSome(p)
	}
	return c.Write(p)
}

// writeSomeBuffers is writeSome for several pieces, of which the first must not be
// empty, and takes from b what was written. A connection that is no socket is to
// take that first one.
func writeSomeBuffers(c net.Conn, b *net.Buffers) (int64, error) {
	if s, ok := SocketOf(c); ok {
		return s.writeSomeBuffers(b)
	}
	n, err := c.Write((*b)[0])
	drop(b, n)
	return int64(n), err
}

// drop takes the first n bytes from b, and what is empty before the next.
func drop(b *net.Buffers, n int) {
	for len(*b) > 0 && n >= len((*b)[0]) {
		n -= len((*b)[0])
		(*b)[0], *b = nil, (*b)[1:]
	}
	if n > 0 {
		(*b)[0] = (*b)[0][n:]
	}
}

// sockets is a listener whose connections are Sockets.
type sockets struct{ net.Listener }

func (l sockets) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if s, ok := SocketOf(c); ok {
		return s, nil
	}
	return c, err
}
