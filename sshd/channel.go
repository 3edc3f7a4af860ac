package sshd

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// maxUnread is how many packets one channel may hold unread. The window bounds
// their bytes alone, and each costs some 40 bytes more: a window full of
// one-byte packets would be a hundred times its size. A window of 16 MiB in
// the packets of stock clients is 512.
const maxUnread = 32 << 10

// Channel is an SSH channel (RFC 4254, section 5) as a net.Conn. Read and
// Write may each be called from one goroutine at a time; the other methods
// from any. A write deadline that passes during a Write ends the channel: half
// a packet cannot be taken back.
type Channel struct {
	conn     *Conn
	visitor  net.Addr
	opened   time.Time
	id, peer uint32           // our number and the client's
	maxData  int              // bytes of data in one packet to the client
	requests *queue[*request] // a session's; nil for a stream, which serves none
	answer   chan error       // gets the client's answer to our open; nil: it was the client's open
	expired  atomic.Bool
	writing  atomic.Bool
	sendBy   atomic.Int64 // the write deadline, in nanoseconds since opened; 0: none

	mu   sync.Mutex // guards the rest; nothing is sent under it
	came sync.Cond  // there may be something to be read, or an end
	room sync.Cond  // there may be room in the client's window, or an end

	arrived  [][]byte  // not read yet
	unread   int       // its bytes
	took     time.Time // when some of them were read, or more came than a little
	credit   int64     // what the client may still send
	consumed int64     // read, and not given back to the client's credit
	growth   growth
	lent     Borrower  // nil: nobody
	loans    int       // how often it was lent
	lending  bool      // lent is being called
	told     bool      // lent was told of the end
	waiting  bool      // the reader waits
	late     bool      // the read deadline has passed
	readBy   time.Time // zero: no deadline

	window  int64 // what we may still send
	sending int   // messages that are being sent

	opening   bool // the client has not answered our open
	alone     bool // nobody waits for that answer any more
	gotEOF    bool
	gotClose  bool
	cut       bool // the connection has ended
	spoilt    bool // packets were thrown away
	sentEOF   bool
	closed    bool // by us
	closeDue  bool // our close is to be sent as soon as nothing else is
	sentClose bool

	readTimer *time.Timer
	sendTimer *time.Timer
}

func newChannelOf(c *Conn) *Channel {
	k := &Channel{conn: c, opened: time.Now(), credit: firstWindow}
	k.came.L, k.room.L = &k.mu, &k.mu
	return k
}

// confirmed takes what one side told the other when the channel opened. k.mu
// is held, or k is not known to anybody yet.
func (k *Channel) confirmed(peer, window, maxPacket uint32) {
	k.peer, k.window = peer, int64(window)
	k.maxData = int(min(maxPacket, maxData))
}

// packet takes one message from the client. It is called by the connection's
// reader and does not wait.
func (k *Channel) packet(p []byte) error {
	switch p[0] {
	case msgChannelData:
		data, err := dataOf(p, dataHead)
		if err != nil {
			return err
		}
		return k.receive(data)
	case msgChannelStderr:
		data, err := dataOf(p, stderrHead)
		if err != nil {
			return err
		}
		return k.discard(len(data))
	case msgChannelAdjust:
		return k.widen(p)
	case msgChannelEOF:
		k.peerEnded()
	case msgChannelClose:
		k.peerClosed()
	case msgChannelRequest:
		return k.request(p)
	case msgChannelConfirm, msgChannelRefused:
		return k.answered(p)
	}
	return nil // answers to requests of ours, which want none
}

// receive takes data.
func (k *Channel) receive(p []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.credit -= int64(len(p)); k.credit < 0 || k.opening {
		return malformed([]byte{msgChannelData})
	}
	if len(p) == 0 || k.closed || k.spoilt || k.gotEOF || k.gotClose {
		return nil
	}
	if k.lent != nil {
		n := k.lend(p, nil)
		k.announceLater(k.consume(n))
		p = p[n:]
	}
	if len(p) == 0 || k.closed {
		return nil
	}
	k.arrived = append(k.arrived, p)
	k.hold(len(p))
	if len(k.arrived) > maxUnread {
		k.tooMany()
	}
	k.shortage()
	k.came.Signal()
	return nil
}

// tooMany ends a channel that holds too many packets. A session's input is a
// person's typing: where that is too much the connection ends. k.mu is held.
func (k *Channel) tooMany() {
	k.drop()
	k.spoilt = true
	if k.requests != nil {
		k.conn.Close(ErrTooMany)
		return
	}
	k.conn.mux.later(0, func() { k.Close() })
}

// drop forgets what was not read. k.mu is held.
func (k *Channel) drop() {
	k.arrived = nil
	k.hold(-k.unread)
}

// discard counts extended data, which no client has reason to send (RFC 4254,
// section 5.2, has stderr alone), as read.
func (k *Channel) discard(n int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.credit -= int64(n); k.credit < 0 {
		return malformed([]byte{msgChannelStderr})
	}
	k.announceLater(k.restore(n))
	return nil
}

// widen takes a window adjust.
func (k *Channel) widen(p []byte) error {
	if len(p) != 9 {
		return malformed(p)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.window += int64(binary.BigEndian.Uint32(p[5:]))
	if k.window > 1<<32-1 || k.opening {
		return malformed(p)
	}
	k.room.Broadcast()
	return nil
}

// peerEnded takes the end of the client's data.
func (k *Channel) peerEnded() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gotEOF = true
	k.wake()
}

// wake tells everybody who waits of an end. k.mu is held.
func (k *Channel) wake() {
	k.came.Broadcast()
	k.room.Broadcast()
	k.endLoan()
}

// peerClosed takes the client's close, which is to be answered by ours. Where
// a reader waits to see the end of a stream whose other direction has ended,
// it is about to close the channel anyhow.
func (k *Channel) peerClosed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gotClose = true
	k.wake()
	if k.requests != nil {
		k.requests.close()
	}
	about := k.sentEOF && (k.waiting || k.told) && k.unread == 0
	if !about && k.dueClose() {
		k.conn.mux.later(0, k.sendClose)
	}
	if k.sentClose {
		k.conn.mux.remove(k)
	}
}

// cutOff is the end of the connection.
func (k *Channel) cutOff() {
	k.mu.Lock()
	k.cut = true
	if k.requests != nil { // nobody may ever close it
		k.drop()
	}
	k.wake()
	if k.opening {
		k.opening = false
		k.answer <- errEnded
	}
	k.mu.Unlock()
	if k.requests != nil {
		k.requests.close()
	}
}

// request takes a channel request; only a session has any to serve.
func (k *Channel) request(p []byte) error {
	var r channelRequestMsg
	if err := unmarshal(p, &r); err != nil {
		return err
	}
	switch {
	case k.requests == nil && r.WantReply:
		k.conn.mux.later(0, func() { k.send(channelMsg(msgChannelFailure, k.peer)) })
	case k.requests != nil && !k.requests.push(&request{Type: r.Type, WantReply: r.WantReply, Payload: r.Payload, channel: k}, len(p)):
		k.conn.Close(ErrTooMany)
	}
	return nil
}

// over reports whether nothing can be sent any more. k.mu is held.
func (k *Channel) over() bool { return k.closed || k.gotClose || k.cut }

// ended reports whether nothing more will arrive. k.mu is held.
func (k *Channel) ended() bool { return k.gotEOF || k.spoilt || k.over() }

// LocalAddr is the gateway's side of the SSH connection.
func (k *Channel) LocalAddr() net.Addr { return k.conn.sock.LocalAddr() }

// RemoteAddr is the visitor for whom the channel was opened.
func (k *Channel) RemoteAddr() net.Addr { return k.visitor }
