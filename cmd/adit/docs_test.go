package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// logged is where a message is logged that operators may see.
var logged = regexp.MustCompile(`\.(?:Info|Warn|Error)\("([^"]+)"`)

// TestMessagesAreDocumented: each message at info and above has a row in
// docs/operators.md, where "..." stands for any end.
func TestMessagesAreDocumented(t *testing.T) {
	rows := messageRows(t)
	for _, file := range sources(t) {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range logged.FindAllStringSubmatch(string(code), -1) {
			if !inRows(rows, m[1]) {
				t.Errorf("%s logs %q, which docs/operators.md does not have", file, m[1])
			}
		}
	}
}

// messageRows are the messages in the first column of the table.
func messageRows(t *testing.T) (rows []string) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "operators.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "\n## Logs\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for line := range strings.Lines(table) {
		if first, ok := strings.CutPrefix(line, "| `"); ok {
			first, _, _ = strings.Cut(first, "` | ")
			rows = append(rows, strings.Split(first, "`, `")...)
		}
	}
	return append(rows, "log: lines were left out...") // which is told below the table
}

func inRows(rows []string, message string) bool {
	for _, row := range rows {
		if begin, any := strings.CutSuffix(row, "..."); row == message || any && strings.HasPrefix(message, begin) {
			return true
		}
	}
	return false
}

// sources are the files of the program.
func sources(t *testing.T) (files []string) {
	for _, dir := range []string{"cmd/adit", "gateway", "sshd", "vhost", "acme", "keys", "tcp"} {
		all, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
		if err != nil || len(all) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(all), err)
		}
		for _, file := range all {
			if !strings.HasSuffix(file, "_test.go") {
				files = append(files, file)
			}
		}
	}
	return files
}
