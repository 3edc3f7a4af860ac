package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
)

// reader is a file whose reader takes one write at a time.
type reader chan string

func (r reader) Write(p []byte) (int, error) {
	r <- string(p)
	return len(p), nil
}

// noteInWords is a note as short as can be.
func noteInWords(to io.Writer, left int, why error) {
	fmt.Fprintf(to, "left %d %v\n", left, why)
}

// disk is a file that has room for so many bytes more.
type disk struct {
	room, writes int
	file         strings.Builder
}

var errFull = errors.New("full")

func (d *disk) Write(p []byte) (int, error) {
	d.writes++
	n, _ := d.file.Write(p[:min(len(p), d.room)])
	d.room -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// TestLogOrder: what is logged during the start comes behind the head, and
// close has everything written.
func TestLogOrder(t *testing.T) {
	for _, started := range []bool{true, false} {
		var out strings.Builder
		b := newLogBuffer(&out)
		io.WriteString(b, "early\n")
		want := "early\nlate\n"
		if started {
			b.start("head\n")
			want = "head\n" + want
		}
		io.WriteString(b, "late\n")
		if !b.close() || out.String() != want {
			t.Errorf("started %v: %q, want %q", started, out.String(), want)
		}
	}
}

// TestLogStuck: while nobody reads, whoever logs goes on, and what there is no
// room for is counted in its place.
func TestLogStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := make(reader)
		b := newLogBuffer(r)
		b.note = noteInWords
		b.start("head\n")
		synctest.Wait() // the head waits for the reader
		line := strings.Repeat("x", logRoom/16-1) + "\n"
		for range 20 {
			io.WriteString(b, line)
		}
		io.WriteString(b, "short\n")
		wants := func(want string) {
			t.Helper()
			if got := <-r; got != want {
				t.Errorf("%d bytes that end in %q, want %d in %q", len(got), got[max(0, len(got)-20):], len(want), want[max(0, len(want)-20):])
			}
			synctest.Wait()
		}
		wants("head\n")
		io.WriteString(b, "again\n")
		if b.close() {
			t.Error("all is written, though nobody reads")
		}
		wants(strings.Repeat(line, 16) + "left 5 <nil>\n")
		wants("again\n")
		if !b.close() {
			t.Error("not all is written")
		}
	})
}

// TestLogDiskFull: what the disk does not take is counted, and told when there is
// room again; the line that it took half of is ended first.
func TestLogDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{room: 13}
		b := newLogBuffer(d)
		b.note = noteInWords
		b.start("")
		logs := func(room int, lines string) {
			d.room = room
			for line := range strings.Lines(lines) {
				io.WriteString(b, line)
			}
			synctest.Wait()
		}
		logs(13, "one of two\ntwo of two\nthree\n")
		logs(0, "four\n")
		logs(8, "five\n") // the end of the torn line, and a torn note
		logs(1000, "six\n")
		logs(1000, "seven\n")
		want := "one of two\ntw\nleft 3 \nleft 4 full\nsix\nseven\n"
		if got := d.file.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		logs(0, "eight\n")
		d.room = 1000
		if b.close(); d.file.String() != want+"left 1 full\n" {
			t.Errorf("%q after the end", d.file.String())
		}
	})
}

// TestLogGone: a log that nobody will read again is tried once a line, and no more.
func TestLogGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		b := newLogBuffer(d)
		b.note = noteInWords
		b.start("head\n")
		synctest.Wait()
		for range 3 {
			io.WriteString(b, "line\n")
			synctest.Wait()
		}
		if !b.close() || d.writes != 5 {
			t.Errorf("%d writes for a head, three lines and an end", d.writes)
		}
	})
}

// TestLogNote: the line for those left out has the log's form, at every level.
func TestLogNote(t *testing.T) {
	for form, want := range map[logFormat]string{"text": `level=ERROR msg="log: lines were left out, it is.*" lines=5\n.*msg="log: .* not be written" lines=6 err=full`, "json": `"level":"ERROR","msg":"log: lines were left out.*","lines":5}\n.*"lines":6,"err":"full"}`} {
		s := &server{call: &call{}}
		s.Log, s.LogLevel = form, "error"
		s.setLevel()
		var out strings.Builder
		s.noteLeftOut(&out, 5, nil)
		s.noteLeftOut(&out, 6, errFull)
		if !regexp.MustCompile(want + "\n$").MatchString(out.String()) {
			t.Errorf("%s: %q", form, out.String())
		}
	}
}
