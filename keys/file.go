package keys

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxFile is the largest file read: far above 100,000 keys.
const maxFile = 64 << 20

// source is one file that keys come from and what was last read there.
type source struct {
	path, user string
	public     bool // a plain .pub file outside the folder

	sum   [sha256.Size]byte // of the bytes that lines were read from
	lines []*line
	notes []Problem // about single lines
	fault string    // why the file cannot be read now; lines are the last good
}

// errChanging is a file that somebody wrote while it was read.
var errChanging = errors.New("is being written")

// read reads a whole regular file.
func read(path string, check func(fs.FileInfo) error) ([]byte, error) {
	f, err := openRead(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readOpen(f, check)
}

// readOpen reads a whole regular file. check decides on the open file, so that
// what was checked is what is read.
func readOpen(f *os.File, check func(fs.FileInfo) error) ([]byte, error) {
	before, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := check(before); err != nil {
		return nil, err
	}
	if before.Size() > maxFile {
		return nil, fmt.Errorf("is larger than %d MiB", maxFile>>20)
	}
	data, err := io.ReadAll(io.LimitReader(f, before.Size()+1))
	if err != nil {
		return nil, err
	}
	return data, unchanged(f, before, len(data))
}

// unchanged compares what was read with the file before and after.
func unchanged(f *os.File, before fs.FileInfo, n int) error {
	after, err := f.Stat()
	if err != nil {
		return err
	}
	if after.Size() != int64(n) || !after.ModTime().Equal(before.ModTime()) {
		return errChanging
	}
	return nil
}

// regular refuses folders, pipes and devices.
func regular(fi fs.FileInfo) error {
	if !fi.Mode().IsRegular() {
		return errors.New("is not a regular file")
	}
	return nil
}

// take replaces what s holds by data and reports whether that changed it.
func (s *source) take(data []byte) bool {
	sum := sha256.Sum256(data)
	if sum == s.sum {
		return false
	}
	s.sum, s.lines, s.notes = sum, nil, nil
	n := 0
	for text := range bytes.SplitSeq(data, []byte("\n")) {
		n++
		s.takeLine(n, bytes.TrimSuffix(text, []byte("\r")))
	}
	return true
}

// forget drops what was read, and reports whether that was anything.
func (s *source) forget() bool {
	had := s.lines != nil
	s.sum, s.lines, s.notes = [sha256.Size]byte{}, nil, nil
	return had
}

// takeLine reads line n. A line that is too long is not copied.
func (s *source) takeLine(n int, text []byte) {
	l, err := parseLine(string(text[:min(len(text), maxLine+1)]))
	switch {
	case err != nil:
		s.note(n, "this line "+err.Error()+"; it is passed over")
	case l != nil:
		l.user, l.file, l.number = s.user, s.path, n
		s.lines = append(s.lines, l)
		s.judge(l)
	}
}

// judge notes what is odd about a line whose key can be read.
func (s *source) judge(l *line) {
	l.implied = s.public
	if s.public && l.refusal == "" && l.options != plain {
		l.refusal = "stands with options in a public key file"
	}
	if l.refusal != "" {
		s.note(l.number, fmt.Sprintf("key %s %s; it is refused", l.key, l.refusal))
	}
	if len(l.options.names) > 0 {
		names := quote(strings.Join(l.options.names, ","))
		s.note(l.number, "from has "+names+", which matches nobody: only addresses are compared")
	}
}

func (s *source) note(n int, message string) {
	s.notes = append(s.notes, Problem{File: s.path, Line: n, Message: message})
}

// problems is what there is to say about s.
func (s *source) problems() []Problem {
	if s.fault == "" {
		return s.notes
	}
	outcome := "; what was last read there stays in force"
	if s.sum == ([sha256.Size]byte{}) {
		outcome = "; no key in it counts"
	}
	fault := Problem{File: s.path, Message: "the file " + s.fault + outcome, Fatal: !s.public}
	return append([]Problem{fault}, s.notes...)
}
