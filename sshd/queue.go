package sshd

import "sync"

const (
	// maxQueued and maxQueuedBytes are what may wait to be served: no stock
	// client comes near.
	maxQueued      = maxOpensPerTick
	maxQueuedBytes = 1 << 20
)

// queue hands what has arrived from the connection's reader, which must not
// wait, to the goroutine that serves it, in order.
type queue[T any] struct {
	mu     sync.Mutex
	more   sync.Cond
	list   []queued[T]
	bytes  int
	closed bool
}

type queued[T any] struct {
	v    T
	size int
}

func newQueue[T any]() *queue[T] {
	q := &queue[T]{}
	q.more.L = &q.mu
	return q
}

// push adds v, which holds on to size bytes; 0 is for one of our own making, for
// which there is always room. It reports false where there is none.
func (q *queue[T]) push(v T, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if size > 0 && (len(q.list) >= maxQueued || q.bytes+size > maxQueuedBytes) {
		return false
	}
	q.list = append(q.list, queued[T]{v, size})
	q.bytes += size
	q.more.Signal()
	return true
}

// pop waits for the next value; ok is false when the queue was closed and is
// empty.
func (q *queue[T]) pop() (v T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) == 0 && !q.closed {
		q.more.Wait()
	}
	if len(q.list) == 0 {
		return v, false
	}
	next := q.list[0]
	q.list[0] = queued[T]{}
	if q.list = q.list[1:]; len(q.list) == 0 {
		q.list = nil
	}
	q.bytes -= next.size
	return next.v, true
}

// close ends the queue once what it holds was taken.
func (q *queue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Broadcast()
}
