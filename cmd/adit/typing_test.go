//go:build unix

package main

import (
	"os"
	"strconv"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// typed starts a tunnel that reads what type writes. Its stdin is a named
// pipe that it holds open itself, so that it has no end.
func typed(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: typed NAME [-key KEY] ARGS...")
	}
	name := args[0]
	pipe := ts.MkAbs(name + ".in")
	_ = os.Remove(pipe)
	ts.Check(syscall.Mkfifo(pipe, 0o600))
	sh := []string{"-c", `exec "$@" <>"$0"`, pipe}
	rigOf(ts).tunnels[name] = start(ts, name+".out", name+".err", "sh", append(sh, sshArgs(ts, args[1:])...)...)
}

// typeText is the user's hand on the keyboard.
func typeText(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: type NAME TEXT")
	}
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]+".in"), os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	_, err = f.WriteString(text)
	ts.Check(err)
}

// signalCmd sends a tunnel a signal and does not wait.
func signalCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: signal NAME SIGNAL")
	}
	tunnelOf(ts, args[0]).signal(signalOf(ts, args[1]))
}
