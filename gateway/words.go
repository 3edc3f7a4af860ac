package gateway

import (
	"fmt"
	"strings"

	"adit/sshd"
)

// options are the words a client sent after the host, or as keywords behind
// its login name.
type options struct {
	json  bool // events as NDJSON on stdout
	quiet bool // URLs and errors only
}

// readOptions reads a session's words; an empty one in quotes is none. An
// unknown one is an error whose text is for the user.
func readOptions(s *sshd.Session) (o options, err error) {
	words := s.Words()
	if words == nil {
		return o, fmt.Errorf("adit: \"%s\" cannot be read: a quote is not closed", printable(s.Command(), 80))
	}
	return o, o.read(append(keywords(s.Conn().User()), words...))
}

// keywords are the words behind a login name.
func keywords(login string) []string {
	_, list, _ := strings.Cut(login, "+")
	if list == "" {
		return nil
	}
	return strings.Split(list, "+")
}

func (o *options) read(words []string) error {
	for _, w := range words {
		switch strings.TrimPrefix(w, "--") {
		case "json":
			o.json = true
		case "quiet":
			o.quiet = true
		default:
			return fmt.Errorf("adit: \"%s\" is not an option here. Options: json, quiet", printable(w, 80))
		}
	}
	return nil
}
