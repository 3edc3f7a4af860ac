package vhost

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"adit/tcp"
)

// chunkRoom is what a chunk's size line and the CRLF after its data may take
// beside a last chunk.
const chunkRoom = 32

// sink is where a message goes: a visitor, or an upstream connection.
type sink interface{ write(p []byte) error }

// sinkError is an error of the receiving side of a pump.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return "write: " + e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// pump moves one message body. What is in out, a head for instance, goes
// before it, in the same write if there is room; nothing is held back once
// the source would have to be waited for.
type pump struct {
	from    *reader
	body    *body
	to      sink
	chunked bool     // frame the copy in chunks
	back    bool     // it is a response's
	service *Backend // its connection's end ends the body, unless it was closed here; may be nil
	out     []byte   // from a pool, and perhaps another one afterwards
	n       int64    // bytes of content moved
	sent    bool     // something has been written
	past    *lean    // of the body's rest; nil until there is one
}

// run moves the body to its end. Errors of the receiving side are *sinkError;
// a source that ends early is io.ErrUnexpectedEOF.
func (p *pump) run() error {
	for {
		switch done, err := p.gather(); {
		case err != nil:
			return err
		case done:
			return p.flush()
		}
		if err := p.flush(); err != nil {
			return err
		}
		if err := p.more(); err != nil {
			return err
		}
	}
}

// more waits for more of the body, and leaves it in the reader's buffer or has
// sent it on already.
func (p *pump) more() error {
	err := error(nil)
	if from := p.direct(); from != nil {
		if l := p.lean(from); l != nil {
			l.pass()
		}
		if p.body.state == stateEnd {
			return nil
		}
		var room [tcp.AtOnce][]byte
		var got [][]byte
		if got, err = from.ReadBuffers(room[:0]); len(got) > 0 {
			if err := p.pass(got); err != nil {
				return err
			}
		}
	} else if to := p.behind(); to != nil {
		err = p.passBehind(to)
	} else {
		err = p.from.fill()
	}
	switch {
	case err == io.EOF && p.body.state == stateClose && (p.service == nil || p.service.cause() == nil):
		return p.body.sourceEnded()
	case err != nil:
		return early(err)
	}
	return nil
}

// early words the end of a source that was not yet at its end.
func early(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read: %w", err)
}

// gather moves what is buffered, and reports whether that was the end.
func (p *pump) gather() (done bool, err error) {
	for {
		data, err := p.body.next(p.from)
		switch {
		case err == io.EOF:
			return true, p.finish()
		case errors.Is(err, errMore):
			return false, nil
		case err != nil:
			return false, err
		}
		p.n += int64(len(data))
		if err := p.put(data); err != nil {
			return false, err
		}
	}
}

// put adds data to what will be written.
func (p *pump) put(data []byte) error {
	for len(data) > 0 {
		room := cap(p.out) - len(p.out) - chunkRoom
		switch {
		case room >= len(data):
			p.append(data)
			return nil
		case len(p.out) == 0 && !p.chunked:
			return p.send(data)
		case cap(p.out) < bigBuffer:
			p.enlarge()
		case len(p.out) == 0:
			p.append(data[:room])
			data = data[room:]
		default:
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// enlarge moves out to a big buffer: one more copy, one write less.
func (p *pump) enlarge() {
	out := append(getBig()[:0], p.out...)
	putBuffer(p.out)
	p.out = out
}

// append adds one piece, as a chunk if so framed.
func (p *pump) append(part []byte) {
	if !p.chunked {
		p.out = append(p.out, part...)
		return
	}
	p.out = strconv.AppendInt(p.out, int64(len(part)), 16)
	p.out = append(p.out, "\r\n"...)
	p.out = append(p.out, part...)
	p.out = append(p.out, "\r\n"...)
}

// finish adds the last chunk and the trailer section (RFC 9112 7.1.2).
func (p *pump) finish() error {
	if !p.chunked {
		return nil
	}
	p.out = append(p.out, "0\r\n"...)
	for f := range p.body.relayedTrailers(p.back) {
		p.out = appendField(p.out, f.name, f.value)
	}
	p.out = append(p.out, "\r\n"...)
	return nil
}

func (p *pump) flush() error {
	if len(p.out) == 0 {
		return nil
	}
	err := p.send(p.out)
	p.out = p.out[:0]
	return err
}

func (p *pump) send(b []byte) error {
	p.sent = true
	if err := p.to.write(b); err != nil {
		return &sinkError{err}
	}
	return nil
}
