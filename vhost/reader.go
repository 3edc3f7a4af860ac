package vhost

import (
	"errors"
	"io"
	"sync"
)

// A connection starts with a small buffer, which is all that an idle visitor
// holds; a sender that fills it gets a big one (two packets of an SSH
// channel) until its message ends.
const (
	smallBuffer = 4 << 10
	bigBuffer   = 64 << 10
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	bigBuffers   = sync.Pool{New: func() any { return new([bigBuffer]byte) }}
)

func getSmall() []byte { return smallBuffers.Get().(*[smallBuffer]byte)[:] }
func getBig() []byte   { return bigBuffers.Get().(*[bigBuffer]byte)[:] }

// sized returns a buffer of the given length, from a pool where there is one.
func sized(n int) []byte {
	if n == bigBuffer {
		return getBig()
	}
	return make([]byte, n)
}

// putBuffer gives a buffer back to the pool it came from; one that append has
// replaced belongs to no pool and is left to the collector.
func putBuffer(b []byte) {
	switch b = b[:cap(b)]; len(b) {
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(b))
	case bigBuffer:
		bigBuffers.Put((*[bigBuffer]byte)(b))
	}
}

// errFull says that a message element is longer than the buffer may become.
var errFull = errors.New("buffer full")

// reader is a connection's receiving side with its buffer. Slices of the
// buffer stay valid until the next fill.
type reader struct {
	conn   io.Reader
	buf    []byte // nil, or from a pool
	r, w   int    // the unread bytes are buf[r:w]
	max    int    // what the buffer may grow to
	hungry bool   // the last read filled all there was
	large  bool   // a small buffer was not enough before, so start with a big one
	err    error  // arrived together with the last bytes
}

// buffered returns the bytes that were read and not yet discarded.
func (b *reader) buffered() []byte { return b.buf[b.r:b.w] }

// head looks for the end of a head that begins with what is buffered, as
// [headEnd] does. It returns errFull for one that is longer than max.
func (b *reader) head(line int) (end, next int, err error) {
	end, next, err = headEnd(b.buffered(), line)
	if err == nil && end > b.max {
		err = errFull
	}
	return end, next, err
}

// discard passes over n buffered bytes.
func (b *reader) discard(n int) { b.r += n }

// fill reads once, after making room. It returns nil if at least one byte
// came, and errFull if there is no room for one.
func (b *reader) fill() error {
	if b.err != nil {
		return b.err
	}
	if err := b.room(); err != nil {
		return err
	}
	n, err := b.read()
	b.hungry = n == len(b.buf)-b.w
	b.w += n
	if n > 0 {
		b.err = err
		return nil
	}
	return err
}

// read is one read that yields something: a net.Conn may return nothing and
// no error, but not for ever.
func (b *reader) read() (n int, err error) {
	for range 16 {
		if n, err = b.conn.Read(b.buf[b.w:]); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// room sees to it that there is space behind the unread bytes.
func (b *reader) room() error {
	if b.r == b.w {
		b.r, b.w = 0, 0
	}
	switch {
	case b.w-b.r >= b.max:
		return errFull
	case b.buf == nil && b.large:
		b.buf = getBig()
	case b.buf == nil:
		b.buf = getSmall()
	case b.w == 0 && b.hungry && len(b.buf) < bigBuffer:
		b.grow(bigBuffer)
	case b.w == len(b.buf) && b.r > 0:
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
	case b.w == len(b.buf):
		b.grow(min(8*len(b.buf), b.max))
	}
	return nil
}

// grow moves the unread bytes to a buffer of the given size.
func (b *reader) grow(size int) {
	b.large = true
	next := sized(size)
	b.w = copy(next, b.buf[b.r:b.w])
	b.r = 0
	putBuffer(b.buf)
	b.buf = next
}

// spare reports whether one byte can be pushed.
func (b *reader) spare() bool { return b.buf != nil && b.w < len(b.buf) }

// push appends a byte that was read past the buffer; spare was true before.
func (b *reader) push(c byte) {
	b.buf[b.w] = c
	b.w++
}

// shrink returns a larger buffer to its pool once nothing is unread, so that
// an idle connection holds a small one.
func (b *reader) shrink() {
	if b.r == b.w && len(b.buf) > smallBuffer {
		b.release()
		b.large = false
	}
}

// release returns the buffer to its pool. Unread bytes are lost.
func (b *reader) release() {
	if b.buf != nil {
		putBuffer(b.buf)
	}
	b.buf, b.r, b.w, b.hungry = nil, 0, 0, false
}
