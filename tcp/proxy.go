package tcp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// The parts of a PROXY protocol header (HAProxy's proxy-protocol.txt, section
// 2). Version 2's address block and what follows it are bounded by the
// library's MaxV2HeaderSize.
const (
	longestV1 = 107
	fixedV2   = 16 // signature, command, family, length
)

// ErrNoHeader says that a connection does not begin with a PROXY protocol
// header.
var ErrNoHeader = errors.New("no PROXY protocol header")

func init() {
	// nginx's stream module writes an IPv4 address into a TCP6 line where its
	// two sides differ.
	proxyproto.V1AcceptIPv4InTCP6 = true
}

// ReadProxy reads the PROXY protocol header, of version 1 or 2, that c must
// begin with, for no more than ten seconds. The connection returned yields what
// follows, and takes c's place; its RemoteAddr is the address in the header, or
// c's own where the header has none of TCP (LOCAL, UNKNOWN, Unix sockets). No
// deadline for reading is left on it.
//
// With an error it is nil, and c is the caller's to close. The error is io.EOF
// alone where c was closed before its first byte, as a health check does it.
func ReadProxy(c net.Conn) (net.Conn, error) {
	p := &peeker{Conn: c}
	c.SetReadDeadline(time.Now().Add(helloTime))
	n, err := p.proxyHeader()
	switch {
	case err == io.EOF && p.got.Len() == 0:
		return nil, err
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	var visitor net.Addr
	if err == nil {
		visitor, err = source(p.got.Next(n))
	}
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return nil, fmt.Errorf("PROXY protocol: %w", err)
	}
	return &Peeked{Conn: c, head: slices.Clip(p.got.Bytes()), visitor: visitor}, nil
}

// proxyHeader reads until a whole header is there, and returns its length. The
// library would not wait for the rest of one that comes in pieces.
func (p *peeker) proxyHeader() (n int, err error) {
	v1 := append(slices.Clone(proxyproto.SIGV1), ' ')
	for n = 1; ; n++ {
		if err := p.want(n); err != nil {
			return 0, err
		}
		switch got := p.got.Bytes()[:n]; {
		case bytes.Equal(got, v1):
			return p.lineV1()
		case bytes.Equal(got, proxyproto.SIGV2):
			return p.blockV2()
		case !bytes.HasPrefix(v1, got) && !bytes.HasPrefix(proxyproto.SIGV2, got):
			return 0, ErrNoHeader
		}
	}
}

// lineV1 ends with a line feed.
func (p *peeker) lineV1() (n int, err error) {
	for n := 1; n <= longestV1; n++ {
		if err := p.want(n); err != nil {
			return 0, err
		}
		if p.got.Bytes()[n-1] == '\n' {
			return n, nil
		}
	}
	return 0, proxyproto.ErrVersion1HeaderTooLong
}

// blockV2 says its length.
func (p *peeker) blockV2() (n int, err error) {
	if err := p.want(fixedV2); err != nil {
		return 0, err
	}
	length := binary.BigEndian.Uint16(p.got.Bytes()[fixedV2-2:])
	if length > proxyproto.MaxV2HeaderSize {
		return 0, proxyproto.ErrInvalidLength
	}
	n = fixedV2 + int(length)
	return n, p.want(n)
}

// source is the address in a header, nil if it has none of TCP.
func source(header []byte) (net.Addr, error) {
	const proxyV2, unspec = 0x21, 0x00
	if header[0] == proxyproto.SIGV2[0] && header[12] == proxyV2 && header[13] == unspec {
		return nil, nil // section 2.2 lets a receiver take it, as HAProxy sends it
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(header)))
	if err != nil {
		return nil, err
	}
	if from, _, ok := h.TCPAddrs(); ok && h.Command.IsProxy() {
		a, _ := netip.AddrFromSlice(from.IP)
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Unmap(), uint16(from.Port))), nil
	}
	return nil, nil
}
