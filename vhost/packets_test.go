package vhost

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
)

// packetConn hands out its bytes as packets, and then err.
type packetConn struct {
	net.Conn
	packets [][]byte
	err     error
	direct  int // calls of ReadBuffers
}

func (c *packetConn) ReadBuffers(dst [][]byte) ([][]byte, error) {
	c.direct++
	n := min(cap(dst)-len(dst), len(c.packets))
	dst = append(dst, c.packets[:n]...)
	if c.packets = c.packets[n:]; n == 0 {
		return dst, c.err
	}
	return dst, nil
}

func (c *packetConn) Read(p []byte) (int, error) {
	if len(c.packets) == 0 {
		return 0, c.err
	}
	n := copy(p, c.packets[0])
	if c.packets[0] = c.packets[0][n:]; len(c.packets[0]) == 0 {
		c.packets = c.packets[1:]
	}
	return n, nil
}

// packetMemory is a sink that takes packets.
type packetMemory struct{ memory }

func (m *packetMemory) writePackets(p net.Buffers) error { _, err := p.WriteTo(m); return err }

// inPackets cuts data into packets of odd sizes.
func inPackets(data []byte) (packets [][]byte) {
	for len(data) > 0 {
		n := min(1+rand.IntN(40000), len(data))
		packets, data = append(packets, bytes.Clone(data[:n])), data[n:]
	}
	return packets
}

func random(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	return p
}

// TestPacketsAsTheyAre: a long body that comes in packets is sent on whole,
// and no more of it, into any kind of sink.
func TestPacketsAsTheyAre(t *testing.T) {
	data := random(1 << 20)
	for _, c := range []struct {
		name  string
		state bodyState
		left  int64 // of the length
		end   error // after the data
		want  int   // bytes that go out
		err   error
		clean bool // the connection may be used again
	}{
		{"whole", stateLength, 1 << 20, io.EOF, 1 << 20, nil, true},
		{"surplus", stateLength, 1<<20 - 40000, io.EOF, 1<<20 - 40000, nil, false},
		{"early end", stateLength, 1<<20 + 1, io.EOF, 1 << 20, io.ErrUnexpectedEOF, false},
		{"until the end", stateClose, 0, io.EOF, 1 << 20, nil, true},
		{"cut", stateClose, 0, io.ErrUnexpectedEOF, 1 << 20, io.ErrUnexpectedEOF, false},
	} {
		for _, whole := range []bool{true, false} {
			t.Run(c.name, func(t *testing.T) {
				conn := &packetConn{packets: inPackets(data), err: c.end}
				u := &upstream{in: reader{conn: conn, max: longestHead}}
				b := &body{}
				b.reset(c.state, c.left)
				to := &packetMemory{}
				p := pump{from: &u.in, body: b, to: &to.memory, out: getSmall()[:0]}
				if whole {
					p.to = to
				}
				err := p.run()
				if !errors.Is(err, c.err) {
					t.Error("error:", err)
				}
				if !bytes.Equal(to.Bytes(), data[:c.want]) || p.n != int64(c.want) {
					t.Errorf("%d bytes went out, %d were counted, want %d", to.Len(), p.n, c.want)
				}
				if clean := err == nil && u.clean(); clean != c.clean {
					t.Error("may be used again:", clean)
				}
				if conn.direct == 0 {
					t.Error("no packet went out as it was")
				}
			})
		}
	}
}

// refuser is a sink that takes nothing.
type refuser struct{ error }

func (r refuser) write([]byte) error               { return r.error }
func (r refuser) writePackets(_ net.Buffers) error { return r.error }

// TestPacketsRefused: a sink's error is told from the source's.
func TestPacketsRefused(t *testing.T) {
	full := errors.New("full")
	b := &body{}
	b.reset(stateLength, 1<<20)
	p := pump{from: &reader{conn: &packetConn{packets: inPackets(make([]byte, 1<<20))}}, body: b, to: refuser{full}}
	err := p.run()
	if _, ok := errors.AsType[*sinkError](err); !ok || !errors.Is(err, full) {
		t.Error(err)
	}
}

// TestPacketsKeepChunks: a body that is framed in chunks on either side is
// read by the reader.
func TestPacketsKeepChunks(t *testing.T) {
	b := &body{}
	b.reset(stateLength, 1<<20)
	conn := &packetConn{packets: inPackets(make([]byte, 1<<20)), err: io.EOF}
	p := pump{from: &reader{conn: conn, max: longestHead}, body: b, to: &packetMemory{}, chunked: true, out: getSmall()[:0]}
	if err := p.run(); err != nil || conn.direct > 0 {
		t.Error(err, conn.direct)
	}
}
