package vhost

import (
	"bytes"
	"errors"
	"io"
	"math"
)

// errMore says that the next part of a body has not arrived.
var errMore = errors.New("more input needed")

const (
	longestChunkLine = 1 << 10 // size and extensions
	longestTrailer   = 8 << 10
	mostTrailers     = 50
)

// bodyState is where in a body its reader stands.
type bodyState uint8

const (
	stateEnd bodyState = iota
	stateLength
	stateClose
	stateChunkSize
	stateChunkData
	stateChunkEnd
	stateTrailer
)

// body takes a message body out of a reader (RFC 9112 6 and 7). It never reads
// by itself: next returns what is buffered, or errMore.
type body struct {
	state    bodyState
	left     int64 // of the length, or of the chunk
	line     int   // where headEnd goes on in the trailer section
	trailers head  // valid at the end, until the reader is filled again
	tail     trailerSource
}

// trailerSource is a message that a library reads from frames: its body ends
// with io.EOF, and then there may be trailer fields.
type trailerSource interface {
	// appendTrailer adds the trailer section in HTTP/1.1's form, with its empty
	// line.
	appendTrailer(dst []byte) ([]byte, error)
}

func (b *body) reset(s bodyState, left int64) {
	b.state, b.left, b.line, b.tail = s, left, 0, nil
	b.trailers.fields = b.trailers.fields[:0]
}

// resetFramed is reset for a body that a library reads from frames, and whose
// length it checks if one was announced.
func (b *body) resetFramed(tail trailerSource) {
	b.reset(stateClose, 0)
	b.tail = tail
}

// sourceEnded says that there is no more to read of a body that ends with its
// source, and takes the trailer section of a framed one.
func (b *body) sourceEnded() error {
	b.state = stateEnd
	if b.tail == nil {
		return nil
	}
	text, err := b.tail.appendTrailer(nil)
	if err != nil || len(text) > longestTrailer || b.trailers.scan(text, mostTrailers) != nil {
		return faultTrailer
	}
	return nil
}

// requestBody is how a request is framed (RFC 9112 6.3).
func (b *body) requestBody(h *head) {
	switch {
	case h.chunked:
		b.reset(stateChunkSize, 0)
	case h.length > 0:
		b.reset(stateLength, h.length)
	default:
		b.reset(stateEnd, 0)
	}
}

// next returns the next part of the body, out of the reader's buffer: it is
// valid until the reader is filled again. At the end it returns io.EOF.
func (b *body) next(in *reader) ([]byte, error) {
	for {
		switch b.state {
		case stateEnd:
			return nil, io.EOF
		case stateClose:
			return b.take(in, math.MaxInt64)
		case stateLength, stateChunkData:
			return b.take(in, b.left)
		}
		if err := b.frame(in); err != nil {
			return nil, err
		}
	}
}

// take returns at most limit buffered bytes, and steps on after the last.
func (b *body) take(in *reader, limit int64) ([]byte, error) {
	p := in.buffered()
	if len(p) == 0 {
		return nil, errMore
	}
	p = p[:min(int64(len(p)), limit)]
	in.discard(len(p))
	if b.state == stateClose {
		return p, nil
	}
	if b.left -= int64(len(p)); b.left > 0 {
		return p, nil
	}
	if b.state == stateLength {
		b.state = stateEnd
	} else {
		b.state = stateChunkEnd
	}
	return p, nil
}

// frame takes what stands between the data of a chunked body.
func (b *body) frame(in *reader) error {
	switch b.state {
	case stateChunkSize:
		return b.chunkSize(in)
	case stateChunkEnd:
		return b.chunkEnd(in)
	}
	return b.trailer(in)
}

// chunkSize takes one chunk's line. Its extensions are checked and dropped
// (RFC 9112 7.1.1).
func (b *body) chunkSize(in *reader) error {
	p := in.buffered()
	i := bytes.IndexByte(p, '\n')
	switch {
	case i > longestChunkLine || i < 0 && len(p) > longestChunkLine:
		return faultChunk
	case i < 0:
		return errMore
	case i == 0 || p[i-1] != '\r':
		return faultChunk
	}
	n, ok := parseChunkLine(p[:i-1])
	if !ok {
		return faultChunk
	}
	in.discard(i + 1)
	if b.left, b.state = n, stateChunkData; n == 0 {
		b.state = stateTrailer
	}
	return nil
}

// parseChunkLine reads hexadecimal digits, at most 15, and then nothing or a
// semicolon and text. The white space that RFC 9112 7.1.1 knows before the
// semicolon is refused, as net/http refuses it: readers differ over it.
func parseChunkLine(line []byte) (n int64, ok bool) {
	digits := 0
	for digits < len(line) && hexDigit(line[digits]) >= 0 {
		n = n<<4 | int64(hexDigit(line[digits]))
		if digits++; digits > 15 {
			return 0, false
		}
	}
	rest := line[digits:]
	if digits == 0 || len(rest) > 0 && rest[0] != ';' {
		return 0, false
	}
	for _, c := range rest {
		if !isText[c] {
			return 0, false
		}
	}
	return n, true
}

// chunkEnd takes the CRLF after a chunk's data.
func (b *body) chunkEnd(in *reader) error {
	p := in.buffered()
	switch {
	case len(p) > 0 && p[0] != '\r' || len(p) > 1 && p[1] != '\n':
		return faultChunk
	case len(p) < 2:
		return errMore
	}
	in.discard(2)
	b.state = stateChunkSize
	return nil
}

// trailer takes the trailer section. The fields are left for the caller.
func (b *body) trailer(in *reader) error {
	p := in.buffered()
	end, line, err := headEnd(p, b.line)
	switch {
	case err != nil || end > longestTrailer || end == 0 && len(p) > longestTrailer:
		return faultTrailer
	case end == 0:
		b.line = line
		return errMore
	}
	if b.trailers.scan(p[:end], mostTrailers) != nil {
		return faultTrailer
	}
	in.discard(end)
	b.state = stateEnd
	return nil
}
