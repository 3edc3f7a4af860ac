package sshd

import (
	"encoding/binary"
	"net"
	"slices"
	"sync"

	"adit/tcp"
)

const (
	// libraryBuffer is the library's write buffer: a larger packet reaches
	// the socket as so many bytes, and then the rest.
	libraryBuffer = 4096
	// gcmOverhead is what AES-GCM adds to a packet's length field and what
	// that counts (RFC 5647, section 7.3): the field itself and the tag.
	gcmOverhead = 4 + 16
)

// joiner puts the two writes of one large packet into one. It must know where
// packets end, or a packet of exactly libraryBuffer bytes would wait for one
// that may never come; the length of an AES-GCM packet stands in the clear.
type joiner struct {
	on   bool
	left int     // bytes of the present packet yet to come
	held *[]byte // the first part, if it is held back
}

var heldParts = sync.Pool{New: func() any { b := make([]byte, libraryBuffer); return &b }}

// write passes p, which is a packet or a part of one, on to nc. A part that
// is held back counts as written.
func (j *joiner) write(nc net.Conn, p []byte) (int, error) {
	if j.left == 0 {
		return j.first(nc, p)
	}
	if j.left -= len(p); j.left < 0 {
		j.on, j.left = false, 0 // not what we know; nothing is held back any more
	}
	if j.held == nil {
		return nc.Write(p)
	}
	n, err := tcp.WriteBuffers(nc, &net.Buffers{*j.held, p})
	heldParts.Put(j.held)
	j.held = nil
	return int(max(n-libraryBuffer, 0)), err
}

// first is the beginning of a packet.
func (j *joiner) first(nc net.Conn, p []byte) (int, error) {
	if len(p) < 4 {
		j.on = false
		return nc.Write(p)
	}
	size := int(binary.BigEndian.Uint32(p)) + gcmOverhead
	if size < len(p) {
		j.on = false
		return nc.Write(p)
	}
	j.left = size - len(p)
	if j.left > 0 && len(p) == libraryBuffer {
		j.held = heldParts.Get().(*[]byte)
		return copy(*j.held, p), nil
	}
	return nc.Write(p)
}

// joinable reports whether every one of the ciphers is AES-GCM, so that
// packets can be told apart whatever is agreed on.
func joinable(ciphers []string) bool {
	return !slices.ContainsFunc(ciphers, func(c string) bool { return !slices.Contains(gcmCiphers, c) })
}
