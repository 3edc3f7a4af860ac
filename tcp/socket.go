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

// sockets is a listener whose connections are Sockets.
type sockets struct{ net.Listener }

func (l sockets) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if s, ok := SocketOf(c); ok {
		return s, nil
	}
	return c, err
}
