package sshd

import "sync"

// group counts the goroutines started for one connection. Unlike a
// sync.WaitGroup it may be entered from outside while somebody waits: after
// wait began, nobody gets in.
type group struct {
	mu     sync.Mutex
	n      int
	closed bool
	empty  chan struct{} // made by wait
}

// enter counts one more, or reports that it is too late.
func (g *group) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.n++
	return true
}

func (g *group) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.empty != nil {
		close(g.empty)
	}
}

// wait closes the group and returns when it is empty. It is called once.
func (g *group) wait() {
	g.mu.Lock()
	g.closed = true
	g.empty = make(chan struct{})
	if g.n == 0 {
		close(g.empty)
	}
	g.mu.Unlock()
	<-g.empty
}
