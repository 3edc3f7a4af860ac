package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// lineReader gives a line at a time, so that it is known how far the YAML parser
// had to read.
type lineReader struct{ rest []byte }

// Read gives the next line, or what of it there is room for.
func (r *lineReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	line, _, _ := bytes.Cut(r.rest, newline)
	n := copy(p, r.rest[:min(len(line)+1, len(r.rest))])
	r.rest = r.rest[n:]
	return n, nil
}

// given is what of data has been read.
func (r *lineReader) given(data []byte) []byte { return data[:len(data)-len(r.rest)] }

// yamlPrefix is the parser's name, and the line that it names.
var yamlPrefix = regexp.MustCompile(`^yaml: (line \d+: )?`)

// syntaxError is the parser's error on what it had read, with the line where an
// editor looks for it.
func syntaxError(name string, read []byte, err error) error {
	return fmt.Errorf("%s:%d: not YAML: %s", name, badLine(read), yamlPrefix.ReplaceAllString(err.Error(), ""))
}

// badLine is the line with which data is no longer YAML: the one behind the
// longest beginning that is. The parser names the last line that it has begun
// with, or counts from 0, or names none; and of what is never closed the begin
// is the place to look at.
func badLine(data []byte) int {
	const most = 100 // lines of one value: each costs a reading of all before it
	head := data
	for range most {
		head = head[:bytes.LastIndexByte(head, '\n')+1]
		if isYAML(head) {
			return bytes.Count(head, newline) + 1
		}
		head = bytes.TrimSuffix(head, newline)
	}
	return bytes.Count(bytes.TrimSuffix(data, newline), newline) + 1
}

// isYAML reports whether data is whole documents, or nothing.
func isYAML(data []byte) bool {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := decoder.Decode(&doc); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}
