package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// logRoom bounds what waits to be written, some thousands of lines.
	logRoom = 1 << 20
	// lastWords is how long the end waits for who reads the log.
	lastWords = time.Second
)

// logBuffer stands between the log and the file that it goes to, so that nobody
// who logs ever waits for whoever reads it. Lines for which there is no room, here
// or on the disk, are left out, and counted. It never fails: a log that cannot be
// written stops nothing.
type logBuffer struct {
	to io.Writer
	// note writes how many lines were left out, and why, if not for want of a reader.
	note func(to io.Writer, left int, why error)

	once sync.Once
	done chan struct{} // closed by run

	// These are run's own.
	lost int   // lines that the file did not take, and that it lacks the note of
	why  error // what it said to the last of them
	torn bool  // what it took ends within a line

	wake *sync.Cond // when there is something to do; its lock guards the rest
	text []byte     // whole lines
	left int        // lines left out since run took text
	over bool
}

func newLogBuffer(to io.Writer) *logBuffer {
	return &logBuffer{to: to, note: func(io.Writer, int, error) {}, done: make(chan struct{}), wake: sync.NewCond(new(sync.Mutex))}
}

// Write takes one line. Once one was left out the next are too, until the count
// has its place in the log.
func (b *logBuffer) Write(line []byte) (int, error) {
	b.wake.L.Lock()
	defer b.wake.L.Unlock()
	if b.left > 0 || len(b.text)+len(line) > logRoom {
		b.left++
	} else {
		b.text = append(b.text, line...)
	}
	b.wake.Signal()
	return len(line), nil
}

// start begins to write: first the head, then what was logged before. Only the
// first call has an effect.
func (b *logBuffer) start(head string) {
	b.once.Do(func() {
		b.wake.L.Lock()
		defer b.wake.L.Unlock()
		b.text = append([]byte(head), b.text...)
		go b.run()
	})
}

// run is the goroutine that writes, all that there is at a time: a write that has
// to wait holds up a processor until the scheduler sees it, and so it does once.
// It ends when all is written after close, which waits for it; where that is
// too long it ends with the process.
func (b *logBuffer) run() {
	defer close(b.done)
	for {
		text, left, over := b.take()
		b.put(text, left)
		if over && len(text) == 0 {
			return
		}
	}
}

// put writes text, behind the note of what was lost before it and with the note
// of what was left out after it. What the file does not take is tried again only
// as a number, and only when the next line comes, or the end.
func (b *logBuffer) put(text []byte, left int) {
	if b.lost > 0 && b.write(b.noted(nil, b.lost, b.why)) == 0 {
		b.lost = 0
	}
	if left > 0 {
		text = b.noted(text, left, nil)
	}
	if b.lost > 0 {
		b.lost += bytes.Count(text, newline)
	} else {
		b.lost = b.write(text)
	}
	if b.lost > 0 && left > 0 {
		b.lost += left - 1 // what the note stood for, instead of the note
	}
}

// noted is text with the note behind it.
func (b *logBuffer) noted(text []byte, left int, why error) []byte {
	note := bytes.NewBuffer(text)
	b.note(note, left, why)
	return note.Bytes()
}

var newline = []byte("\n")

// write returns how many of the lines were not taken whole. One that was taken
// in part is ended before the next, so that no other stands on its line.
func (b *logBuffer) write(lines []byte) (lost int) {
	if len(lines) == 0 {
		return 0
	}
	n := 0
	if !b.torn || b.some(newline) == 1 {
		n = b.some(lines)
	}
	return bytes.Count(lines[n:], newline)
}

// some writes p, or how much of it the file takes.
func (b *logBuffer) some(p []byte) int {
	n, err := b.to.Write(p)
	if err != nil {
		b.why = err
	}
	if n > 0 {
		b.torn = p[n-1] != '\n'
	}
	return n
}

// take waits for something to write, or for the end.
func (b *logBuffer) take() (text []byte, left int, over bool) {
	b.wake.L.Lock()
	defer b.wake.L.Unlock()
	for len(b.text) == 0 && b.left == 0 && !b.over {
		b.wake.Wait()
	}
	text, left = b.text, b.left
	b.text, b.left = nil, 0
	return text, left, b.over
}

// close has all that was taken written, and reports whether it was within lastWords.
func (b *logBuffer) close() bool {
	b.start("")
	b.wake.L.Lock()
	b.over = true
	b.wake.Signal()
	b.wake.L.Unlock()
	select {
	case <-b.done:
		return true
	case <-time.After(lastWords):
		return false
	}
}
