package sshd

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// send sends one message of the channel, unless its close was sent before.
func (k *Channel) send(p []byte) error {
	k.mu.Lock()
	if k.over() {
		k.mu.Unlock()
		return net.ErrClosed
	}
	k.sending++
	k.mu.Unlock()
	defer k.sent()
	return k.conn.mux.write(p)
}

// sent ends what raised k.sending, and sends a close that has waited for it.
func (k *Channel) sent() {
	k.mu.Lock()
	k.sending--
	due := k.closeDue && k.dueClose()
	k.mu.Unlock()
	if due {
		k.sendClose()
	}
}

// dueClose says that our close is due, and reports whether the caller is to
// send it now. Nothing of the channel follows its close. k.mu is held.
func (k *Channel) dueClose() bool {
	k.closeDue = true
	if k.sending > 0 || k.sentClose || k.opening || k.cut {
		return false
	}
	k.sentClose = true
	return true
}

func (k *Channel) sendClose() {
	k.conn.mux.write(channelMsg(msgChannelClose, k.peer))
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gotClose {
		k.conn.mux.remove(k)
	}
}

// sendBuffers are what packets of data are made in.
var sendBuffers = sync.Pool{New: func() any { b := make([]byte, stderrHead+maxData); return &b }}

func (k *Channel) Write(p []byte) (n int, err error) {
	buf := sendBuffers.Get().(*[]byte)
	defer sendBuffers.Put(buf)
	for len(p) > 0 && err == nil {
		var sent int
		c := copy((*buf)[dataHead:dataHead+maxData], p)
		sent, err = k.WriteBehind((*buf)[:dataHead+c], dataHead)
		n, p = n+sent, p[sent:]
	}
	return n, err
}

// WriteBehind is Write without a copy: p begins with room bytes that are
// nothing yet, dataHead at least, behind which is what is to be sent. All of p
// is lost.
func (k *Channel) WriteBehind(p []byte, room int) (n int, err error) {
	k.writing.Store(true)
	defer k.writing.Store(false)
	if k.sendLate() {
		return 0, os.ErrDeadlineExceeded
	}
	for p = p[room-dataHead:]; len(p) > dataHead; {
		some, err := k.sendSome(p, dataHead)
		n += some
		if err != nil {
			return n, err
		}
		p = p[some:] // the next head goes where sent bytes were
	}
	return n, nil
}

// sendSome sends as much of p, from head on, as the client's window and one
// packet have room for.
func (k *Channel) sendSome(p []byte, head int) (int, error) {
	n, err := k.reserve(len(p) - head)
	if err != nil {
		return 0, err
	}
	defer k.sent()
	kind := byte(msgChannelData)
	if head == stderrHead {
		kind = msgChannelStderr
		binary.BigEndian.PutUint32(p[5:], extendedStderr)
	}
	p[0] = kind
	binary.BigEndian.PutUint32(p[1:], k.peer)
	binary.BigEndian.PutUint32(p[head-4:], uint32(n))
	if err := k.conn.mux.write(p[:head+n]); err != nil {
		return 0, net.ErrClosed
	}
	return n, nil
}

// reserve waits for room in the client's window, and takes up to n bytes of
// it; the caller sends them and calls sent.
func (k *Channel) reserve(n int) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.window == 0 && !k.over() {
		k.room.Wait()
	}
	switch {
	case k.expired.Load():
		return 0, os.ErrDeadlineExceeded
	case k.over() || k.sentEOF:
		return 0, net.ErrClosed
	}
	n = min(n, k.maxData, int(min(k.window, maxData)))
	k.window -= int64(n)
	k.sending++
	return n, nil
}

// sendLate reports whether the write deadline is over.
func (k *Channel) sendLate() bool {
	by := k.sendBy.Load()
	return by != 0 && int64(time.Since(k.opened)) >= by
}

// CloseWrite ends the data that is sent; more may still come.
func (k *Channel) CloseWrite() error {
	k.mu.Lock()
	if k.sentEOF {
		k.mu.Unlock()
		return nil
	}
	k.sentEOF = true
	k.mu.Unlock()
	return k.send(channelMsg(msgChannelEOF, k.peer))
}

// Close ends the channel in both directions; a Read or Write that is blocked
// returns. What has not been read is dropped. Close does not wait, as sending
// would do for a client that takes nothing.
func (k *Channel) Close() error {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil
	}
	k.closed = true
	k.drop()
	send := k.dueClose()
	k.stopTimers()
	k.wake()
	k.mu.Unlock()
	k.growth.giveBack()
	if k.requests == nil {
		k.conn.mux.forget()
	}
	if send {
		k.conn.mux.later(0, k.sendClose)
	}
	return nil
}

// Stderr writes to the client's stderr; there is nothing to be read from it.
func (k *Channel) Stderr() io.ReadWriter { return stderr{k} }

type stderr struct{ *Channel }

func (stderr) Read([]byte) (int, error) { return 0, io.EOF }

func (s stderr) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		buf := make([]byte, stderrHead+min(len(p), maxData))
		copy(buf[stderrHead:], p)
		var sent int
		sent, err = s.sendSome(buf, stderrHead)
		n, p = n+sent, p[sent:]
	}
	return n, err
}

// SendRequest sends a channel request. Answers are not waited for, so none may
// be wanted.
func (k *Channel) SendRequest(kind string, wantReply bool, payload []byte) (bool, error) {
	if wantReply {
		return false, errors.ErrUnsupported
	}
	return false, k.send(ssh.Marshal(channelRequestMsg{k.peer, kind, false, payload}))
}
