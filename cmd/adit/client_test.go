//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/coder/websocket"
	"github.com/rogpeppe/go-internal/testscript"
)

// argv is the program behind a command of the scripts, with its arguments.
func argv(ts *testscript.TestScript, args []string) []string {
	if len(args) == 0 {
		ts.Fatalf("no command")
	}
	switch args[0] {
	case "get":
		return getArgs(ts, args[1:])
	case "gets":
		return getsArgs(ts, args[1:])
	case "h3":
		return append([]string{"h3", ts.Getenv("HTTPS_PORT"), ts.Getenv("CACERT")}, args[1:]...)
	case "ssh":
		return append(limited(), sshArgs(ts, args[1:])...)
	case "ws":
		return append([]string{"ws", ts.Getenv("HTTP_PORT")}, args[1:]...)
	}
	return args
}

// limited ends a program in the foreground that hangs, where the machine has
// a way to.
func limited() []string {
	if _, err := exec.LookPath("timeout"); err != nil {
		return nil
	}
	return []string{"timeout", "-k", "5", "90"}
}

// foreground runs a command of the scripts; stdout and stderr then look at
// what it printed. A line's carriage return, as heads have, stays: "\r?$".
func foreground(ts *testscript.TestScript, args []string) (status int) {
	args = argv(ts, args)
	err := ts.Exec(args[0], args[1:]...)
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	ts.Check(err)
	return 0
}

// succeed is foreground that must (or, negated, must not) succeed.
func succeed(ts *testscript.TestScript, neg bool, args []string) {
	if status := foreground(ts, args); (status != 0) != neg {
		ts.Fatalf("%s ended with status %d", args[0], status)
	}
}

func get(ts *testscript.TestScript, neg bool, args []string) {
	succeed(ts, neg, append([]string{"get"}, args...))
}

func sshCmd(ts *testscript.TestScript, neg bool, args []string) {
	succeed(ts, neg, append([]string{"ssh"}, args...))
}

// exits runs a command that must end with a given status.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND [args]")
	}
	got := strconv.Itoa(foreground(ts, args[1:]))
	if (got == args[0]) == neg {
		ts.Fatalf("%s ended with status %s", args[1], got)
	}
}

// until repeats a command until its output matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: until REGEXP COMMAND [args]")
	}
	want := pattern(ts, args[0])
	ok := poll(func() bool {
		foreground(ts, args[1:])
		return want.MatchString(ts.ReadFile("stdout")+ts.ReadFile("stderr")) != neg
	})
	if !ok {
		ts.Fatalf("%q is still not so after %v", args[0], patienceLimit)
	}
}

// waitLine waits until a file matches, and makes variables of named groups.
func waitLine(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: wait-line FILE REGEXP")
	}
	want, file := pattern(ts, args[1]), ts.MkAbs(args[0])
	var found []string
	var data []byte
	if !poll(func() bool {
		data, _ = os.ReadFile(file) // not there yet: does not match yet
		found = want.FindStringSubmatch(string(data))
		return found != nil
	}) {
		ts.Fatalf("%s has no %q after %v:\n%s%s", args[0], args[1], patienceLimit, data, rigOf(ts).gatewayLog())
	}
	for i, name := range want.SubexpNames() {
		if name != "" {
			ts.Setenv(name, found[i])
		}
	}
}

// pattern compiles a regular expression in which ^ and $ are a line's ends.
func pattern(ts *testscript.TestScript, text string) *regexp.Regexp {
	re, err := regexp.Compile("(?m)" + text)
	ts.Check(err)
	return re
}

// getArgs is curl for a host name that the gateway's HTTP port shall answer
// for; the Host header has no port.
func getArgs(ts *testscript.TestScript, args []string) []string {
	if len(args) < 2 {
		ts.Fatalf("usage: get HOST PATH [curl args]")
	}
	curl := []string{"curl", "-q", "-sS", "-i", "--max-time", "60", "--noproxy", "*",
		"--connect-to", "::127.0.0.1:" + ts.Getenv("HTTP_PORT")}
	curl = append(curl, args[2:]...)
	return append(curl, "http://"+args[0]+args[1])
}

// sshArgs is ssh with the script's configuration and key.
func sshArgs(ts *testscript.TestScript, args []string) []string {
	key := rigOf(ts).key
	if len(args) > 1 && args[0] == "-key" {
		key, args = ts.MkAbs(args[1]), args[2:]
	}
	if key == "" {
		ts.Fatalf("no key yet: key NAME makes one")
	}
	return append([]string{"ssh", "-F", ts.MkAbs("ssh_config"), "-i", key}, args...)
}

// tunnel starts ssh in the background.
func tunnel(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: tunnel NAME [-key KEY] ARGS...")
	}
	r, name := rigOf(ts), args[0]
	if old := r.tunnels[name]; old != nil && old.alive() {
		ts.Fatalf("tunnel %s runs already", name)
	}
	for _, file := range []string{name + ".out", name + ".err"} {
		_ = os.Remove(ts.MkAbs(file)) // a tunnel of that name before
	}
	ssh := sshArgs(ts, args[1:])
	r.tunnels[name] = start(ts, name+".out", name+".err", ssh[0], ssh[1:]...)
}

// tunnelOf is a tunnel that the script has started.
func tunnelOf(ts *testscript.TestScript, name string) *process {
	p := rigOf(ts).tunnels[name]
	if p == nil {
		ts.Fatalf("no tunnel %s", name)
	}
	return p
}

// ends waits for a tunnel's end and checks its status.
func ends(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: ends NAME N")
	}
	got, err := tunnelOf(ts, args[0]).ended()
	ts.Check(err)
	if strconv.Itoa(got) != args[1] {
		ts.Fatalf("%s ended with status %d:\n%s", args[0], got, ts.ReadFile(args[0]+".err"))
	}
}

// hangup ends a tunnel from the user's side.
func hangup(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || len(args) > 2 || neg {
		ts.Fatalf("usage: hangup NAME [SIGNAL]")
	}
	p := tunnelOf(ts, args[0])
	p.signal(signalOf(ts, append(args[1:], "SIGINT")[0]))
	_, err := p.ended()
	ts.Check(err)
}

// signalOf is a signal by name.
func signalOf(ts *testscript.TestScript, name string) os.Signal {
	signals := map[string]os.Signal{"SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "SIGHUP": syscall.SIGHUP,
		"SIGKILL": syscall.SIGKILL, "SIGSTOP": syscall.SIGSTOP, "SIGCONT": syscall.SIGCONT, "SIGQUIT": syscall.SIGQUIT}
	if signals[name] == nil {
		ts.Fatalf("%s is no signal that is known here", name)
	}
	return signals[name]
}

// sendMain is the program send: PORT TEXT.
func sendMain() {
	if len(os.Args) != 3 {
		fail("usage: send PORT TEXT")
	}
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+os.Args[1], patienceLimit)
	fail(err)
	defer c.Close()
	_, err = io.WriteString(c, os.Args[2])
	fail(err)
	fail(c.(*net.TCPConn).CloseWrite())
	_, err = io.Copy(os.Stdout, c)
	fail(err)
}

// wsMain is the program ws: HTTP-PORT HOST PATH TEXT.
func wsMain() {
	if len(os.Args) != 5 {
		fail("usage: ws HTTP-PORT HOST PATH TEXT")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patienceLimit)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://127.0.0.1:"+os.Args[1]+os.Args[3], &websocket.DialOptions{Host: os.Args[2]})
	fail(err)
	fail(c.Write(ctx, websocket.MessageText, []byte(os.Args[4])))
	_, answer, err := c.Read(ctx)
	fail(err)
	fmt.Println(strings.TrimSpace(string(answer)))
	fail(c.Close(websocket.StatusNormalClosure, ""))
}

// fail ends a program of the scripts if err is an error or a usage line.
func fail(err any) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
