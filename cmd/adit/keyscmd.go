package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"adit/keys"
)

// keysCmd is adit keys: who may log in, one authorized_keys(5) file a user. A
// running gateway sees a change within a second.
type keysCmd struct {
	Add keysAddCmd `cmd:"" help:"Add a user's public keys, authorized_keys(5) lines, from a file or standard input."`
	Ls  keysLsCmd  `cmd:"" help:"List the keys, of one user or of all."`
	Rm  keysRmCmd  `cmd:"" help:"Remove one of a user's keys, or the user."`
}

// userArg is a user's name on the command line.
type userArg string

var userGrammar = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// UnmarshalText reads a user's name.
func (u *userArg) UnmarshalText(text []byte) error {
	if !userGrammar.Match(text) {
		return fmt.Errorf("%.80q is no user name; wants a-z, 0-9, _ and -, at most 64, with a letter or digit first", text)
	}
	*u = userArg(text)
	return nil
}

// keysDir is the folder of the user files.
func (c *call) keysDir() (string, error) {
	state, err := c.usersState()
	return filepath.Join(state, "authorized_keys"), err
}

// keysAddCmd is adit keys add.
type keysAddCmd struct {
	User userArg `arg:"" help:"User, made by the first key."`
	File string  `arg:"" optional:"" help:"File to read, - for standard input."`
}

// Run adds the keys and lists those that are new.
func (k keysAddCmd) Run(p *program, c *call) error {
	dir, err := c.keysDir()
	if err != nil {
		return err
	}
	input, err := k.open(p)
	if err != nil {
		return err
	}
	defer input.Close()
	// Keys may come before the first start, which makes the rest of the state.
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	added, err := keys.Add(dir, string(k.User), input)
	if err != nil {
		return err
	}
	if len(added) == 0 {
		fmt.Fprintf(p.stderr, "adit: nothing to add, %s has these already\n", k.User)
		return nil
	}
	fmt.Fprintf(p.stderr, "adit: added to %s\n", filepath.Join(dir, string(k.User)))
	return p.list(dir, string(k.User), added)
}

// open is the file with the keys. Standard input is read unasked only if
// somebody has put something there: a prompt that waits in silence would look
// as if the command hung.
func (k keysAddCmd) open(p *program) (io.ReadCloser, error) {
	if k.File == "" && isTerminal(p.stdin) {
		return nil, usageError{fmt.Errorf("no key given; name a file: adit keys add %s ~/.ssh/id_ed25519.pub", k.User)}
	}
	if k.File == "" || k.File == "-" {
		return io.NopCloser(p.stdin), nil
	}
	return os.Open(kong.ExpandPath(k.File))
}

// isTerminal reports whether r is a character device: a terminal, or the null
// device, from which no key will come either.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// keysLsCmd is adit keys ls.
type keysLsCmd struct {
	User userArg `arg:"" optional:"" help:"User; all if none is named."`
}

// Run lists keys.
func (k keysLsCmd) Run(p *program, c *call) error {
	dir, err := c.keysDir()
	if err != nil {
		return err
	}
	return p.list(dir, string(k.User), nil)
}

// keysRmCmd is adit keys rm.
type keysRmCmd struct {
	User        userArg `arg:"" help:"User."`
	Fingerprint string  `arg:"" optional:"" help:"SHA256:... of the key; all of the user's keys if none is given."`
}

// Run removes keys.
func (k keysRmCmd) Run(p *program, c *call) error {
	dir, err := c.keysDir()
	if err != nil {
		return err
	}
	removed, err := keys.Remove(dir, string(k.User), k.Fingerprint)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "adit: removed %d from %s\n", removed, filepath.Join(dir, string(k.User)))
	return nil
}

// list prints the keys of user, or of all users, that are among only, or all.
// A file that cannot be read hides none of the others' keys.
func (p *program) list(dir, user string, only []string) error {
	entries, err := keys.List(dir, user)
	for _, e := range entries {
		if only == nil || slices.Contains(only, e.Fingerprint) {
			err = errors.Join(err, p.printKey(e))
		}
	}
	return err
}

// printKey prints one line, and on stderr why the key is not let in, if it is
// not. Comment and options are somebody else's text.
func (p *program) printKey(e keys.Entry) error {
	words := []string{e.User, e.Fingerprint, e.Type}
	for _, word := range []string{e.Comment, e.Options} {
		if word != "" {
			words = append(words, plain(word))
		}
	}
	if e.Problem != "" {
		fmt.Fprintf(p.stderr, "adit: %s: not let in: %s\n", plain(e.Source), plain(e.Problem))
	}
	_, err := fmt.Fprintln(p.stdout, strings.Join(words, " "))
	return err
}
