package tcp

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// Protocol is what a client speaks, told by its first bytes.
type Protocol uint8

// The protocols that Peek tells apart.
const (
	Silent Protocol = iota // nothing came: an SSH client may wait for the server's version (RFC 4253 4.2)
	SSH                    // "SSH-"
	TLS                    // a handshake record, whose ClientHello may still turn out to be none
	Plain                  // anything else, such as HTTP
)

func (p Protocol) String() string { return [...]string{"silent", "SSH", "TLS", "plain"}[p] }

// Hello is what a client has said in its first bytes.
type Hello struct {
	Protocol Protocol
	// ServerName is the SNI of a ClientHello (RFC 6066 3) in lower case and
	// without a trailing dot, "" if there was none.
	ServerName string
	// ALPN are the protocols that a ClientHello offers (RFC 7301), in its order.
	ALPN []string
}

const (
	// longestHello bounds a ClientHello with its record headers: those of today
	// have 2 KiB, and those of post-quantum certificates will not need more.
	longestHello = 32 << 10
	onePeek      = 2 << 10 // what is read at a time
	// helloTime is how long the first bytes may take once one of them has come.
	helloTime = 10 * time.Second
)

// errLongHello says that a ClientHello did not end within longestHello.
var errLongHello = errors.New("ClientHello too long")

// Peek waits for the first bytes of c, for limit if nothing comes and then for
// no more than ten seconds, and tells what they are. A ClientHello is read to
// its end, over however many records and segments it comes; one that is
// malformed is TLS without a name, so that whoever opens it answers with the
// alert that is due. Silence is no error.
//
// The connection returned, a *Peeked, yields the bytes again and takes c's
// place: closing it closes c. No deadline for reading is left on it. With an
// error (the client has hung up, was too slow or sent too much) it is nil, and c
// is the caller's to close.
//
// Peek blocks, so it is not for an accept loop.
func Peek(c net.Conn, limit time.Duration) (net.Conn, Hello, error) {
	p := &peeker{Conn: c}
	h, err := p.peek(limit)
	if err != nil {
		return nil, Hello{}, fmt.Errorf("peek: %w", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, Hello{}, fmt.Errorf("peek: %w", err)
	}
	return &Peeked{Conn: c, head: p.got.Bytes()}, h, nil
}

// peeker is a connection as crypto/tls's server sees it while it reads a
// ClientHello: what it reads is kept, and it can say nothing.
type peeker struct {
	net.Conn
	got bytes.Buffer
	off int // what of got has been read again
	err error
}

func (p *peeker) peek(limit time.Duration) (Hello, error) {
	p.SetReadDeadline(time.Now().Add(limit))
	switch err := p.want(1); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Hello{Protocol: Silent}, nil
	case err != nil:
		return Hello{}, err
	}
	p.SetReadDeadline(time.Now().Add(helloTime))
	proto, err := p.protocol()
	if err != nil || proto != TLS {
		return Hello{Protocol: proto}, err
	}
	return p.hello()
}

// want reads until n bytes are there.
func (p *peeker) want(n int) error {
	for p.got.Len() < n {
		p.got.Grow(onePeek)
		m, err := p.Conn.Read(p.got.AvailableBuffer()[:onePeek])
		p.got.Write(p.got.AvailableBuffer()[:m])
		if err != nil && p.got.Len() < n {
			return err
		}
	}
	return nil
}

// protocol looks at the first byte, and at as many more as "SSH-" has in
// common with what came.
func (p *peeker) protocol() (Protocol, error) {
	const ssh = "SSH-"
	for n := 1; ; n++ {
		if err := p.want(n); err != nil {
			return 0, err
		}
		switch first := p.got.Bytes(); {
		case first[0] == 0x16, first[0] >= 0x80: // a handshake record (RFC 8446 5.1), or SSLv2's
			return TLS, nil
		case first[n-1] != ssh[n-1]:
			return Plain, nil
		case n == len(ssh):
			return SSH, nil
		}
	}
}

// errEnough ends the handshake once its first message has been read.
var errEnough = errors.New("enough")

// hello has the standard library read the ClientHello.
func (p *peeker) hello() (Hello, error) {
	h := Hello{Protocol: TLS}
	s := tls.Server(p, &tls.Config{GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		h.ServerName = strings.TrimSuffix(strings.ToLower(i.ServerName), ".")
		h.ALPN = slices.Clone(i.SupportedProtos)
		return nil, errEnough
	}})
	if err := s.Handshake(); !errors.Is(err, errEnough) && p.err != nil {
		return Hello{}, p.err // else it is malformed
	}
	return h, nil
}

// Read is for crypto/tls.
func (p *peeker) Read(b []byte) (n int, err error) {
	if p.off == p.got.Len() {
		if err := p.more(); err != nil {
			p.err = err
			return 0, err
		}
	}
	n = copy(b, p.got.Bytes()[p.off:])
	p.off += n
	return n, nil
}

// more reads something, if that is allowed.
func (p *peeker) more() error {
	if p.got.Len() >= longestHello {
		return errLongHello
	}
	err := p.want(p.got.Len() + 1)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Write drops the alert that crypto/tls has for a handshake that ends here.
func (p *peeker) Write(b []byte) (int, error) { return len(b), nil }

// Peeked is a connection whose first bytes have been looked at. It reads them
// again, and then what follows.
type Peeked struct {
	net.Conn
	head    []byte
	visitor net.Addr // whom a proxy in front speaks for; nil: nobody else
}

// RemoteAddr is the visitor's address, which is not that of the connection below
// where [ReadProxy] was told another.
func (p *Peeked) RemoteAddr() net.Addr {
	if p.visitor != nil {
		return p.visitor
	}
	return p.Conn.RemoteAddr()
}

func (p *Peeked) Read(b []byte) (int, error) {
	if len(p.head) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.head)
	if p.head = p.head[n:]; len(p.head) == 0 {
		p.head = nil
	}
	return n, nil
}

// NetConn returns the connection below, whose first bytes are gone.
func (p *Peeked) NetConn() net.Conn { return p.Conn }

// CloseWrite ends the sending direction, or returns errors.ErrUnsupported if
// the connection below cannot do that.
func (p *Peeked) CloseWrite() error {
	if h, ok := p.Conn.(halfCloser); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}
