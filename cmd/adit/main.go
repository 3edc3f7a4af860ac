// Command adit is an SSH tunnel gateway: ssh -R puts a port of a laptop on
// the internet. This package is flags, environment, file and signals; what a
// tunnel is stands in package gateway.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // could not start, or failed
	exitUsage  = 2 // the command line, the environment or the file is wrong
)

func main() {
	p := &program{os.Args[1:], environment(os.Environ()), os.Stdin, os.Stdout, os.Stderr}
	os.Exit(p.run())
}

// program is one call of the command, with everything that it takes from the
// process around it, so that a test can be that process.
type program struct {
	args           []string
	env            map[string]string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// run carries out the command line and returns the exit status.
func (p *program) run() int {
	call, err := p.parse(p.stdout)
	if err != nil {
		p.complain(err)
		return parseStatus(err)
	}
	if call.helped {
		return exitOK
	}
	if err := call.context.Run(p, call); err != nil {
		p.complain(err)
		return runStatus(err)
	}
	return exitOK
}

// usageError is a mistake in the command line that only the command itself
// could see.
type usageError struct{ error }

// runStatus is the exit status for a command's error.
func runStatus(err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// parseStatus is the exit status for what parse refused. Beside a wrong
// command line, check is asked about file and environment, and answers as it
// does for anything else that would stop serve.
func parseStatus(err error) int {
	var parse *kong.ParseError
	var config *configError
	if errors.As(err, &parse) && errors.As(err, &config) && parse.Context.Command() == "check" {
		return exitFailed
	}
	return exitUsage
}

// errSilent fails a command that has said already what is wrong.
var errSilent = errors.New("")

// complain prints err on stderr, each line of it as a sentence of its own. It is
// the end, and waits for a reader as the log's does.
func (p *program) complain(err error) {
	var text strings.Builder
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(&text, "adit: %s\n", strings.TrimSuffix(line, "\n"))
	}
	out := newLogBuffer(p.stderr)
	out.start(text.String())
	out.close()
}

// environment turns the process's environment into a map.
func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	return env
}
