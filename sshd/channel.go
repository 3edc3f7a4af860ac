package sshd

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
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
	took     time.Time // when some of them were read, or the first came
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
	if k.unread == 0 {
		k.took = time.Now()
	}
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
	k.took = time.Now()
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
	k.took = time.Now()
	more := k.consume(bytes)
	k.mu.Unlock()
	k.announce(more)
	return dst, nil
}

// Borrower is who gets what arrives on a channel in place of a reader. It is
// called by the goroutine that has read it from the connection: it must not
// wait, and must send nothing on the connection. It returns how much of p it
// has taken, and whether it wants more. Where that is not all of p, or more is
// false, the loan is over, and the rest and what comes after it is for a reader.
// The last call is with end, which is what a Read would return.
type Borrower = func(p []byte, end error) (n int, more bool)

// Lend lends the channel, so that nobody has to be woken for what arrives. It
// reports false, and lends nothing, where something has arrived that was not
// read, or there is an end.
func (k *Channel) Lend(f Borrower) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.unread > 0 || k.ended() {
		return false
	}
	k.lent = f
	k.loans++
	return true
}

// Recall ends the loan; the borrower is not called any more. It reports false,
// and does nothing, where the loan is over or the borrower is being called.
func (k *Channel) Recall() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lent == nil || k.lending {
		return false
	}
	k.lent = nil
	return true
}

// lend calls the borrower. k.mu is held, but not meanwhile, when the channel
// may be closed, or lent to somebody else.
func (k *Channel) lend(p []byte, end error) (n int) {
	f, loan := k.lent, k.loans
	n, more := k.unlocked(f, p, end)
	if k.loans == loan && (!more || n < len(p) || end != nil) {
		k.lent = nil
	}
	k.endLoan()
	return n
}

// unlocked calls f without k.mu, which is held again afterwards, come what may: a
// borrower that has panicked is still told of the end.
func (k *Channel) unlocked(f Borrower, p []byte, end error) (n int, more bool) {
	k.lending = true
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.lending = false
	}()
	return f(p, end)
}

// endLoan tells the borrower of an end, unless it is being called. k.mu is
// held.
func (k *Channel) endLoan() {
	if k.lent != nil && !k.lending && k.ended() {
		k.told = true
		k.lend(nil, k.end())
	}
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

// over reports whether nothing can be sent any more. k.mu is held.
func (k *Channel) over() bool { return k.closed || k.gotClose || k.cut }

// ended reports whether nothing more will arrive. k.mu is held.
func (k *Channel) ended() bool { return k.gotEOF || k.spoilt || k.over() }

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

// LocalAddr is the gateway's side of the SSH connection.
func (k *Channel) LocalAddr() net.Addr { return k.conn.sock.LocalAddr() }

// RemoteAddr is the visitor for whom the channel was opened.
func (k *Channel) RemoteAddr() net.Addr { return k.visitor }

// SetDeadline sets both deadlines; the zero time means none.
func (k *Channel) SetDeadline(t time.Time) error {
	k.SetReadDeadline(t)
	return k.SetWriteDeadline(t)
}

// SetReadDeadline bounds a blocked Read, which may be tried again after it.
func (k *Channel) SetReadDeadline(t time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.readBy = t
	k.lookLate()
	return k.setTimer(&k.readTimer, t, k.readExpired)
}

// lookLate wakes a reader whose deadline has passed. k.mu is held.
func (k *Channel) lookLate() {
	if k.late = !k.readBy.IsZero() && !k.readBy.After(time.Now()); k.late {
		k.came.Broadcast()
	}
}

// readExpired is called by the timer, perhaps for a deadline that has been
// moved meanwhile.
func (k *Channel) readExpired() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lookLate()
}

// SetWriteDeadline bounds a blocked Write; the channel ends with it.
func (k *Channel) SetWriteDeadline(t time.Time) error {
	by := int64(0)
	if !t.IsZero() {
		by = max(int64(t.Sub(k.opened)), 1)
	}
	k.sendBy.Store(by)
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.setTimer(&k.sendTimer, t, k.sendExpired)
}

// sendExpired is called by the timer, perhaps for a deadline that has been
// moved meanwhile. A channel on which nothing is being written lives on.
func (k *Channel) sendExpired() {
	if k.writing.Load() && k.sendLate() { // in this order: who writes has moved it before
		k.expired.Store(true)
		k.Close()
	}
}

// setTimer arms or stops a timer. k.mu is held.
func (k *Channel) setTimer(timer **time.Timer, t time.Time, f func()) error {
	switch {
	case k.closed:
		return net.ErrClosed
	case t.IsZero():
		if *timer != nil {
			(*timer).Stop()
		}
	case *timer == nil:
		*timer = time.AfterFunc(time.Until(t), f)
	default:
		(*timer).Reset(time.Until(t))
	}
	return nil
}

// stopTimers is for the end of the channel. k.mu is held.
func (k *Channel) stopTimers() {
	for _, t := range []*time.Timer{k.readTimer, k.sendTimer} {
		if t != nil {
			t.Stop()
		}
	}
}
