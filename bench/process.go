//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// readyLimit is how long a program may take until it answers.
const readyLimit = 15 * time.Second

// process is a program in the background, in a process group of its own. Its
// output goes to a file, whose end is shown when something went wrong.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// start runs a program in the background. The caller stops it.
func (b *bench) start(name string, argv ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), log: b.path(name + ".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Dir, p.cmd.Env = b.dir, b.environ()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.reap()
	return p, nil
}

// environ is ours without what would configure adit, and with a home that
// holds no keys and no ssh configuration.
func (b *bench) environ() []string {
	env := []string{"HOME=" + b.dir}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "ADIT_") && !strings.HasPrefix(kv, "HOME=") {
			env = append(env, kv)
		}
	}
	return env
}

func (p *process) reap() {
	p.cmd.Wait()
	close(p.done)
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process, by force after 3 s, and waits for it.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
	}
	syscall.Kill(-p.pid(), syscall.SIGKILL) // what is left of its group
	<-p.done
}

// tail is the end of what the process wrote.
func (p *process) tail() string {
	text, _ := os.ReadFile(p.log)
	text = bytes.TrimSpace(text)
	return string(text[max(0, len(text)-400):])
}

// ready waits until try succeeds. It gives up when the process ends or after
// readyLimit, and then says what the process said.
func (p *process) ready(try func() error) error {
	err := errors.New("not tried")
	for end := time.Now().Add(readyLimit); time.Now().Before(end); {
		if err = try(); err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %s", p.name, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s is not ready: %w: %s", p.name, err, p.tail())
}

// listens gives a test for ready: something accepts at addr.
func listens(addr string) func() error {
	return func() error {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err
	}
}

// output runs a program to its end and gives what it wrote to stdout. A
// program that takes longer than a minute is killed.
func (b *bench) output(argv ...string) (string, error) { return b.outputUntil(b.ctx, argv...) }

func (b *bench) outputUntil(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var errs bytes.Buffer
	cmd.Stderr, cmd.Dir = &errs, b.dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", argv[0], err, bytes.TrimSpace(errs.Bytes()))
	}
	return string(out), nil
}

// freeAddr is a loopback address that nobody listens on at the moment.
func freeAddr() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // the machine has no loopback, or no port left
	}
	defer ln.Close()
	return ln.Addr().String()
}

// program is where a program is, looked for where servers live too.
func program(name string) string {
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/local/sbin/"} {
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return name
	}
	return path
}
