package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Entry is one line that holds a key.
type Entry struct {
	User        string
	Fingerprint string // "SHA256:..."
	Type        string // as the line has it, "ssh-ed25519"
	Comment     string // as the line has it: may hold control characters
	Options     string // as the line has them
	Authority   bool   // the key signs certificates
	Source      string // "file:line"
	Problem     string // why the key is not let in; empty: it is
}

// Add appends the authorized_keys lines of r to user's file in dir, which is
// made if need be, and returns the fingerprints of those that were not there
// yet. Nothing is written unless every line is fit: no private key, no
// unknown option, no key that another user has, none that is there already
// with other options.
func Add(dir, user string, r io.Reader) (added []string, err error) {
	lines, err := readLines(r)
	if err != nil {
		return nil, fmt.Errorf("add: %w", err)
	}
	e, err := newEditor(dir, user, true)
	if err != nil {
		return nil, fmt.Errorf("add: %w", err)
	}
	defer e.close()
	if added, err = e.add(lines); err != nil {
		return nil, fmt.Errorf("add: %w", err)
	}
	return added, nil
}

// List is the keys in user's file in dir, or for an empty user in all. A user
// without a file is an error; so is a file that cannot be read or is not safe
// from others, beside the entries of the rest.
func List(dir, user string) ([]Entry, error) {
	if user != "" && !validUser(user) {
		return nil, errUser(user)
	}
	f := newFiles(Config{Dir: dir})
	f.readAll(time.Now())
	if errors.Is(f.folder, fs.ErrNotExist) && user == "" {
		return nil, nil
	}
	if user != "" && f.folder == nil && f.sources[filepath.Join(dir, user)] == nil {
		return nil, errNoUser(user)
	}
	var list []Entry
	set := build(f.ordered(), nil, nil)
	for _, src := range f.ordered() {
		if user == "" || src.user == user {
			list = append(list, set.entries(src)...)
		}
	}
	return list, f.faults(user)
}

// Remove takes the key with fingerprint out of user's file in dir, or without
// a fingerprint removes the file, and returns how many keys went. A user or a
// key that is not there is an error (fs.ErrNotExist).
func Remove(dir, user, fingerprint string) (removed int, err error) {
	e, err := newEditor(dir, user, false)
	if err != nil {
		return 0, fmt.Errorf("remove: %w", err)
	}
	defer e.close()
	if fingerprint == "" {
		removed, err = e.removeAll()
	} else {
		removed, err = e.remove(fingerprint)
	}
	if err != nil {
		return 0, fmt.Errorf("remove: %w", err)
	}
	return removed, nil
}

func errUser(name string) error {
	return fmt.Errorf("%s is no user name: [a-z0-9][a-z0-9_-]{0,63}", quote(name))
}

func errNoUser(name string) error {
	return fmt.Errorf("user %s has no keys here: %w", quote(name), fs.ErrNotExist)
}

// entries describes the lines of src.
func (s *set) entries(src *source) (list []Entry) {
	for _, l := range src.lines {
		list = append(list, Entry{User: l.user, Fingerprint: l.key.String(), Type: l.keyType,
			Comment: l.comment, Options: l.options.String(), Authority: l.options.CertAuthority,
			Source: l.source(), Problem: s.trouble(l, time.Now())})
	}
	return list
}

// trouble is why l lets nobody in at now.
func (s *set) trouble(l *line, now time.Time) string {
	h := s.keys[l.key]
	switch {
	case l.refusal != "":
		return l.refusal
	case l.expired(now):
		return expiredOn(l.options.lastSecond()).Error()
	case !l.options.CertAuthority && h.user != l.user:
		return "stands under " + strings.Join(h.rivals, " and ")
	}
	return ""
}

// newLine is one line to be added.
type newLine struct {
	*line
	text string
}

// readLines reads lines to be added, every one of which must be fit.
func readLines(r io.Reader) (lines []newLine, err error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxFile:
		return nil, fmt.Errorf("input is larger than %d MiB", maxFile>>20)
	case bytes.Contains(data, []byte("PRIVATE KEY")):
		return nil, errors.New("input is a private key; give the public one, the file that ends in .pub")
	}
	n := 0
	for text := range strings.Lines(string(data)) {
		n++
		text = strings.Trim(text, " \t\r\n")
		l, err := fitLine(text)
		if err != nil {
			return nil, fmt.Errorf("line %d %w", n, err)
		}
		if l != nil {
			lines = append(lines, newLine{line: l, text: text})
		}
	}
	if lines == nil {
		err = errors.New("input holds no key")
	}
	return lines, err
}

// fitLine reads one line; nil for a blank one and a comment.
func fitLine(text string) (*line, error) {
	l, err := parseLine(text)
	switch {
	case err != nil || l == nil:
		return nil, err
	case l.refusal != "":
		return nil, errors.New(l.refusal)
	case strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }):
		return nil, errors.New("has control characters")
	}
	return l, nil
}

// add writes those of lines that are not there yet.
func (e *editor) add(lines []newLine) (added []string, err error) {
	data, have, err := e.load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	others, err := e.others()
	if err != nil {
		return nil, err
	}
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
		data = append(data, '\n')
	}
	for _, l := range lines {
		if user := others[l.key]; user != "" && !l.options.CertAuthority {
			return nil, fmt.Errorf("key %s belongs to user %s", l.key, user)
		}
		there, err := contains(have, l.line)
		if err != nil {
			return nil, err
		}
		if there {
			continue
		}
		have = append(have, l.line)
		data = append(append(data, l.text...), '\n')
		added = append(added, l.key.String())
	}
	if added == nil {
		return nil, nil
	}
	return added, e.write(data)
}

// contains reports whether l is among have. The same key with other options
// is an error: which of them should count is not for us to say.
func contains(have []*line, l *line) (bool, error) {
	i := slices.IndexFunc(have, func(h *line) bool {
		return h.key == l.key && h.options.CertAuthority == l.options.CertAuthority
	})
	if i < 0 {
		return false, nil
	}
	if have[i].options.String() != l.options.String() {
		return false, fmt.Errorf("key %s is there already with other options; remove it first", l.key)
	}
	return true, nil
}

// removeAll removes the whole file.
func (e *editor) removeAll() (int, error) {
	_, have, err := e.load()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errNoUser(e.user)
	}
	// A file that is unsafe or a link may always go: that takes rights away.
	if err := e.root.Remove(e.user); err != nil {
		return 0, err
	}
	return len(have), syncFolder(e.folder)
}

// remove rewrites the file without the lines of one key.
func (e *editor) remove(fingerprint string) (removed int, err error) {
	data, _, err := e.load()
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errNoUser(e.user)
	}
	if err != nil {
		return 0, err
	}
	var kept []byte
	for text := range bytes.Lines(data) {
		l, _ := parseLine(string(bytes.TrimRight(text, "\r\n")))
		if l != nil && l.key.String() == fingerprint {
			removed++
			continue
		}
		kept = append(kept, text...)
	}
	if removed == 0 {
		return 0, fmt.Errorf("user %s has no key %s: %w", e.user, quote(fingerprint), fs.ErrNotExist)
	}
	return removed, e.write(kept)
}
