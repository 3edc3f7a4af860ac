package main

import (
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
		b.note = func(to io.Writer, left int) { fmt.Fprintf(to, "left %d\n", left) }
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
		wants(strings.Repeat(line, 16) + "left 5\n")
		wants("again\n")
		if !b.close() {
			t.Error("not all is written")
		}
	})
}

// TestLogNote: the line for those left out has the log's form, at every level.
func TestLogNote(t *testing.T) {
	for form, want := range map[logFormat]string{"text": `level=ERROR msg="log: lines were left out.*" lines=5`, "json": `"level":"ERROR","msg":"log: lines were left out.*","lines":5}`} {
		s := &server{call: &call{}}
		s.Log, s.LogLevel = form, "error"
		s.setLevel()
		var out strings.Builder
		s.noteLeftOut(&out, 5)
		if !regexp.MustCompile(want + "\n$").MatchString(out.String()) {
			t.Errorf("%s: %q", form, out.String())
		}
	}
}
