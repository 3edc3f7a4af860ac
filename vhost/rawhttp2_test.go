package vhost

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawHTTP2 is a visitor that writes its own frames.
type rawHTTP2 struct {
	*http2.Framer
	conn *tls.Conn
	text bytes.Buffer
	enc  *hpack.Encoder
	t    testing.TB
}

// dialHTTP2 opens a connection, with both prefaces done.
func (g *secureGate) dialHTTP2(settings ...http2.Setting) *rawHTTP2 {
	g.t.Helper()
	_, conf := testTLS()
	conf = conf.Clone()
	conf.NextProtos = []string{"h2"}
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}} // 127.0.0.1 has no share, see holderOf
	conn, err := tls.DialWithDialer(from, "tcp", g.addr, conf)
	if err != nil {
		g.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	g.t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, http2.ClientPreface)
	c := &rawHTTP2{Framer: http2.NewFramer(conn, conn), conn: conn, t: g.t}
	c.enc = hpack.NewEncoder(&c.text)
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.AllowIllegalWrites = true
	c.WriteSettings(settings...)
	return c
}

// block encodes name, value pairs.
func (c *rawHTTP2) block(fields ...string) []byte {
	c.text.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		c.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.text.Bytes())
}

// pseudo are the pseudo-fields of an ordinary request.
func pseudo(method, path string) []string {
	return []string{":method", method, ":scheme", "https", ":authority", "a", ":path", path}
}

// open sends a request's head, in as many frames as it takes.
func (c *rawHTTP2) open(id uint32, end bool, fields ...string) error {
	block := c.block(fields...)
	part := block[:min(len(block), longestFrame)]
	block = block[len(part):]
	err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: part, EndStream: end, EndHeaders: len(block) == 0})
	for len(block) > 0 && err == nil {
		part, block = block[:min(len(block), longestFrame)], block[min(len(block), longestFrame):]
		err = c.WriteContinuation(id, len(block) == 0, part)
	}
	return err
}

// outcome is what became of a stream: a status, with the body if it ended
// well, or the code of the reset or of GOAWAY.
func (c *rawHTTP2) outcome(id uint32) (status, body string) {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return "closed", ""
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.WriteSettingsAck()
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return f.ErrCode.String(), ""
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id && (status == "" || f.ErrCode != http2.ErrCodeNo) {
				return f.ErrCode.String(), ""
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == id && f.PseudoValue("status") >= "200" {
				status = f.PseudoValue("status")
			}
			if f.StreamID == id && f.StreamEnded() {
				return status, body
			}
		case *http2.DataFrame:
			c.WriteWindowUpdate(0, max(1, f.Length))
			if f.StreamID == id {
				body += string(f.Data())
			}
			if f.StreamID == id && f.StreamEnded() {
				return status, body
			}
		}
	}
}
