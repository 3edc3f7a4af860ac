package sshd

import (
	"io"
	"net"
	"os"
)

// consume counts n bytes as read, and gives by how much the client is to be
// told that its window widens, 0 for not yet. k.mu is held.
func (k *Channel) consume(n int) (more int64) {
	if k.ended() {
		return 0
	}
	more = k.grown(n)
	k.credit += more
	return more + k.restore(n)
}

// restore gives back to the client's credit what n bytes have taken of it, once
// that is worth telling: it returns by how much. k.mu is held.
func (k *Channel) restore(n int) (more int64) {
	if k.consumed += int64(n); k.ended() || k.consumed < k.growth.size()/8 {
		return 0
	}
	more, k.consumed = k.consumed, 0
	k.credit += more
	return more
}

// announce tells the client that its window is wider.
func (k *Channel) announce(more int64) {
	if more > 0 {
		k.send(channelMsg(msgChannelAdjust, k.peer, uint32(more)))
	}
}

// announceLater is announce for the connection's reader.
func (k *Channel) announceLater(more int64) {
	if more > 0 {
		k.conn.mux.later(0, func() { k.announce(more) })
	}
}

// await returns when there is something to be read, or an end, or the read
// deadline has passed. k.mu is held.
func (k *Channel) await() {
	k.waiting = true
	for k.unread == 0 && !k.ended() && !k.late {
		k.came.Wait()
	}
	k.waiting = false
}

// end is why nothing is left to be read. An end that the client sent is
// io.EOF; a channel that ended because its connection did was cut, or packets
// of it were thrown away, and half a stream must not pass for a whole one. k.mu
// is held.
func (k *Channel) end() error {
	switch {
	case k.expired.Load():
		return os.ErrDeadlineExceeded
	case k.closed:
		return net.ErrClosed
	case k.spoilt:
		return io.ErrUnexpectedEOF
	case k.gotEOF || k.gotClose:
		return io.EOF
	case k.cut:
		return io.ErrUnexpectedEOF
	}
	return os.ErrDeadlineExceeded
}

// Read returns io.EOF only where the client has ended its data, and
// io.ErrUnexpectedEOF where the connection has ended before it, or the channel
// for having held too many packets.
func (k *Channel) Read(p []byte) (n int, err error) {
	k.mu.Lock()
	k.await()
	if k.unread == 0 {
		defer k.mu.Unlock()
		return 0, k.end()
	}
	for n < len(p) && len(k.arrived) > 0 {
		c := copy(p[n:], k.arrived[0])
		n += c
		if k.arrived[0] = k.arrived[0][c:]; len(k.arrived[0]) == 0 {
			k.dropFirst(1)
		}
	}
	k.hold(-n)
	more := k.consume(n)
	k.mu.Unlock()
	k.announce(more)
	return n, nil
}

// dropFirst forgets packets that were read. k.mu is held.
func (k *Channel) dropFirst(n int) {
	clear(k.arrived[:n])
	if k.arrived = k.arrived[n:]; len(k.arrived) == 0 {
		k.arrived = nil
	}
}

// ReadBuffers is Read without a copy: it waits until something has arrived,
// and appends the packets to dst, as many as dst has room for, which must be
// one at least. They are the caller's.
func (k *Channel) ReadBuffers(dst [][]byte) ([][]byte, error) {
	k.mu.Lock()
	k.await()
	if k.unread == 0 {
		defer k.mu.Unlock()
		return dst, k.end()
	}
	n, bytes := min(len(k.arrived), cap(dst)-len(dst)), 0
	for _, p := range k.arrived[:n] {
		dst, bytes = append(dst, p), bytes+len(p)
	}
	k.dropFirst(n)
	k.hold(-bytes)
	more := k.consume(bytes)
	k.mu.Unlock()
	k.announce(more)
	return dst, nil
}

// WaitRead returns when a Read would not block, so that a reader needs no
// buffer while nothing comes.
func (k *Channel) WaitRead() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.await()
}

// Quiet reports whether neither bytes nor an end have arrived that were not
// read: whether an idle channel can be used again.
func (k *Channel) Quiet() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.unread == 0 && !k.ended() && !k.conn.sock.dead.Load()
}
