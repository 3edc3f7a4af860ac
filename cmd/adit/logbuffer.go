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
// who logs ever waits for whoever reads it. Lines for which there is no room are
// left out, and counted. It never fails: a log that cannot be written stops
// nothing.
type logBuffer struct {
	to   io.Writer
	note func(to io.Writer, left int) // writes how many lines were left out

	once sync.Once
	done chan struct{} // closed by run
	wake *sync.Cond    // when there is something to do; its lock guards the rest
	text []byte        // whole lines
	left int           // lines left out since run took text
	over bool
}

func newLogBuffer(to io.Writer) *logBuffer {
	return &logBuffer{to: to, done: make(chan struct{}), wake: sync.NewCond(new(sync.Mutex))}
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
		if left > 0 {
			var note bytes.Buffer
			b.note(&note, left)
			text = append(text, note.Bytes()...)
		}
		if over && len(text) == 0 {
			return
		}
		b.to.Write(text)
	}
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
