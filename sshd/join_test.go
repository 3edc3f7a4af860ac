package sshd

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
)

// recorder is a connection that notes each write.
type recorder struct {
	net.Conn
	writes [][]byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.writes = append(r.writes, bytes.Clone(p))
	return len(p), nil
}

// packet is an AES-GCM packet of so many bytes on the wire.
func packet(size int) []byte {
	p := bytes.Repeat([]byte{byte(size)}, size)
	binary.BigEndian.PutUint32(p, uint32(size-gcmOverhead))
	return p
}

// parts are the writes that the library's buffer makes of a packet.
func parts(p []byte) [][]byte {
	if len(p) <= libraryBuffer {
		return [][]byte{p}
	}
	return [][]byte{p[:libraryBuffer], p[libraryBuffer:]}
}

// Every byte goes out in order, and nothing is held back at a packet's end.
func TestJoiner(t *testing.T) {
	for _, sizes := range [][]int{{36}, {4095}, {4096}, {4097}, {36, 4096, 36}, {33000, 36, 33000}, {4096, 4097, 8192}} {
		j, r := &joiner{on: true}, &recorder{}
		var sent []byte
		for _, size := range sizes {
			p := packet(size)
			sent = append(sent, p...)
			for _, part := range parts(p) {
				if n, err := j.write(r, part); n != len(part) || err != nil {
					t.Fatalf("%v: wrote %d of %d, %v", sizes, n, len(part), err)
				}
			}
			if got := bytes.Join(r.writes, nil); !bytes.Equal(got, sent) {
				t.Fatalf("%v: %d bytes out after a packet, want %d", sizes, len(got), len(sent))
			}
		}
		if !j.on {
			t.Errorf("%v: not taken for packets", sizes)
		}
	}
}

// What is no packet passes through, and ends the joining.
func TestJoinerGivesUp(t *testing.T) {
	for name, p := range map[string][]byte{"short": {1, 2}, "two packets in one": append(packet(40), packet(40)...)} {
		j, r := &joiner{on: true}, &recorder{}
		if n, err := j.write(r, p); n != len(p) || err != nil || j.on || !bytes.Equal(bytes.Join(r.writes, nil), p) {
			t.Errorf("%s: %d, %v, on %v", name, n, err, j.on)
		}
	}
}
