//go:build linux

package main

import (
	"io"
	"net"
	"sync"
	"time"
)

// delay is a way to target on which every byte takes a while, and as many as
// are sent can be on it at once: a long path without a bottleneck.
type delay struct {
	ln     net.Listener
	target string
	by     time.Duration
	wait   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  []net.Conn
}

// newDelay listens on loopback. The caller closes it.
func newDelay(target string, by time.Duration) (*delay, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &delay{ln: ln, target: target, by: by}
	d.wait.Add(1)
	go d.serve()
	return d, nil
}

func (d *delay) addr() string { return d.ln.Addr().String() }

// close cuts every connection and waits for what served them.
func (d *delay) close() {
	d.ln.Close()
	d.mu.Lock()
	d.closed = true
	for _, c := range d.conns {
		c.Close()
	}
	d.mu.Unlock()
	d.wait.Wait()
}

func (d *delay) serve() {
	defer d.wait.Done()
	for {
		c, err := d.ln.Accept()
		if err != nil {
			return
		}
		t, err := net.Dial("tcp", d.target)
		if err != nil {
			c.Close()
			continue
		}
		if d.keep(c, t) {
			d.join(c, t)
			d.join(t, c)
		}
	}
}

func (d *delay) keep(cs ...net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns = append(d.conns, cs...)
	if d.closed {
		for _, c := range cs {
			c.Close()
		}
	}
	return !d.closed
}

// chunk is bytes on their way, and when they arrive.
type chunk struct {
	data []byte
	due  time.Time
}

// onTheWay bounds the chunks between two ends: more than any window here.
const onTheWay = 8192

// join starts one direction.
func (d *delay) join(dst, src net.Conn) {
	way := make(chan chunk, onTheWay)
	d.wait.Add(2)
	go d.enter(way, src)
	go d.leave(dst, way)
}

// enter puts what src sends on the way.
func (d *delay) enter(way chan<- chunk, src io.Reader) {
	defer d.wait.Done()
	defer close(way)
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			way <- chunk{append([]byte(nil), buf[:n]...), time.Now().Add(d.by)}
		}
		if err != nil {
			return
		}
	}
}

// leave hands over what is due, and then the end. After an error it still
// takes, so that enter is never stuck.
func (d *delay) leave(dst net.Conn, way <-chan chunk) {
	defer d.wait.Done()
	var err error
	for c := range way {
		if err == nil {
			time.Sleep(time.Until(c.due))
			_, err = dst.Write(c.data)
		}
	}
	if t, ok := dst.(*net.TCPConn); ok {
		t.CloseWrite()
	}
}
