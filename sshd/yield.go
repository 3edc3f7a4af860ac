package sshd

import (
	"os"
	"runtime"
	"sync"
	"syscall"
)

// yieldBytes is how much a connection moves in one direction without having
// had to wait until others are let in: a millisecond's worth.
const yieldBytes = 1 << 20

// flow counts what one direction of a connection has moved since it last waited,
// or let others in.
type flow int

// moved counts n bytes. waits says that the next ones will have to be waited
// for.
func (f *flow) moved(n int, waits bool) {
	if *f += flow(n); waits {
		*f = 0
	}
	if *f >= yieldBytes {
		*f = 0
		if runtime.GOMAXPROCS(0) == 1 {
			yield()
		}
	}
}

// yield lets every goroutine run whose connection has become ready. With one
// processor the scheduler looks for such only when there is nothing else to be
// run, and otherwise every 10 ms, after which they stand in a queue that may
// wait for ten times as long: a goroutine that always finds more to move, and
// those that it wakes, have it to themselves. runtime.Gosched does not look.
//
// So a pipe is made ready, and waited for as a connection is.
func yield() {
	if p := yielding(); p == nil || !p.pass() {
		runtime.Gosched()
	}
}

var yielding = sync.OnceValue(func() *ownPipe {
	r, w, err := os.Pipe()
	if err != nil {
		return nil
	}
	raw, err := r.SyscallConn()
	if err != nil {
		return nil
	}
	return &ownPipe{r: r, w: w, raw: raw}
})

// ownPipe has both ends of a pipe(2).
type ownPipe struct {
	r, w *os.File
	raw  syscall.RawConn
	mu   sync.Mutex // held from the write to the read: some kernels do not tell of a byte behind another (Linux 5.5 to 5.13)
}

// pass sends one byte through the pipe, and waits for it before it looks. It
// reports false where that could not be done.
func (p *ownPipe) pass() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b [1]byte
	asked, sent := false, false
	err := p.raw.Read(func(uintptr) bool {
		if asked {
			return true
		}
		asked = true
		n, _ := p.w.Write(b[:])
		sent = n == 1
		return !sent
	})
	if sent {
		p.r.Read(b[:])
	}
	return err == nil && sent
}
