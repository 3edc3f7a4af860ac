//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// portBlock is how many neighbouring ports a script has: one each for SSH,
// HTTP, HTTPS and admin, the rest for TCP tunnels.
const portBlock = 16

// claimPorts claims a block of free ports, outside the range from which the
// kernel takes the ports of outgoing connections. The claim is a lock on a
// file, so that scripts of several test processes stay apart and the kernel
// gives the claim back if this process dies.
func claimPorts() (first int, release func(), err error) {
	const low, blocks = 20000, 10000 / portBlock
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("adit-test-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, nil, err
	}
	for i := range blocks {
		first = low + (os.Getpid()+i)%blocks*portBlock
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(first)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return 0, nil, err
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil && allFree(first) {
			return first, func() { f.Close() }, nil
		}
		f.Close()
	}
	return 0, nil, errors.New("no block of free ports")
}

// allFree reports whether nothing listens on the block's ports.
func allFree(first int) bool {
	for port := first; port < first+portBlock; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// process is a program in the background, with somebody who waits for it.
type process struct {
	cmd  *exec.Cmd
	out  []*os.File
	done chan struct{} // closed by wait
}

// start runs a program with its output in files of the script's folder, away
// from any terminal. The same file may be named twice.
func start(ts *testscript.TestScript, stdout, stderr, program string, args ...string) *process {
	p := &process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Env = scriptEnv(ts)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p.cmd.Stdout, p.cmd.Stderr = p.open(ts, stdout), p.open(ts, stderr)
	ts.Check(p.cmd.Start())
	go p.wait()
	return p
}

func (p *process) open(ts *testscript.TestScript, name string) *os.File {
	f, err := os.OpenFile(ts.MkAbs(name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	ts.Check(err)
	p.out = append(p.out, f)
	return f
}

// wait is the process's goroutine; it ends with the process.
func (p *process) wait() {
	defer close(p.done)
	_ = p.cmd.Wait() // its status is in ProcessState
	for _, f := range p.out {
		f.Close()
	}
}

// alive reports whether the process has not ended.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ended waits for the end and returns the exit status, -1 for a signal's.
func (p *process) ended() (status int, err error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(patienceLimit):
		return 0, fmt.Errorf("%s still runs after %v", p.cmd, patienceLimit)
	}
}

// signal sends a signal; a process that has ended is left alone.
func (p *process) signal(s os.Signal) {
	if p.alive() {
		_ = p.cmd.Process.Signal(s)
	}
}

// kill ends the process at once and waits for it.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stop sends a signal and wants the process to end with the given status. One
// that does not end is asked for its goroutines before it is killed.
func (p *process) stop(s os.Signal, want int) error {
	p.signal(s)
	status, err := p.ended()
	if err != nil {
		p.signal(syscall.SIGQUIT)
		_, _ = p.ended()
		p.kill()
	} else if status != want {
		err = fmt.Errorf("ended with status %d, want %d", status, want)
	}
	return errors.Join(err, trouble(p.out[0].Name()))
}

// fatal is what no log of the program may hold.
var fatal = regexp.MustCompile(`(?m)^WARNING: DATA RACE|^panic: |^fatal error: |panic.*recovered|^goroutine \d+ \[`)

// trouble looks for races and panics in a log.
func trouble(log string) error {
	data, err := os.ReadFile(log)
	if at := fatal.FindIndex(data); at != nil {
		return fmt.Errorf("%s: %s", log, data[at[0]:min(len(data), at[0]+8000)])
	}
	return err
}

// settingNames are the environment variables of the settings.
var settingNames = sync.OnceValue(func() (names []string) {
	c, err := (&program{args: []string{"serve"}}).parse(io.Discard)
	if err != nil {
		panic(err)
	}
	for name := range settingFlags(c.context) {
		names = append(names, envName(name))
	}
	return names
})

// scriptEnv is the script's environment for a program in the background, as
// far as it is known what to ask for.
func scriptEnv(ts *testscript.TestScript) (env []string) {
	names := []string{"PATH", "HOME", "TMPDIR", "WORK", "GORACE", "GOCOVERDIR", "GOTRACEBACK"}
	for _, name := range append(names, settingNames()...) {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// poll asks until the answer is yes, and gives up at patienceLimit.
func poll(ask func() bool) bool {
	deadline := time.Now().Add(patienceLimit)
	for !ask() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	return true
}
