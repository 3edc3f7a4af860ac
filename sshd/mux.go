package sshd

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

const (
	// maxOutbox is how many answers may wait for a client that takes none, and
	// maxOutboxBytes what they may hold of what it has sent.
	maxOutbox      = 4096
	maxOutboxBytes = maxQueuedBytes
	// maxNumbers is how many channels may be open, opening, or closed on one
	// side only.
	maxNumbers = 4 * maxChannels
)

// keepalive is OpenSSH's name for a request that only wants an answer.
const keepalive = "keepalive@openssh.com"

// mux is the connection protocol (RFC 4254) of one connection: it tells the
// packets that have come apart and keeps the channels by their numbers.
//
// Packets are dispatched by the library's own reader, see socket.Read, so that
// none of them is handed between goroutines before it is with who wants it.
// That reader must never wait: what it has to answer, and cannot leave to
// another goroutine anyhow, goes through the outbox.
type mux struct {
	transport
	conn   *Conn
	events *queue[event]

	taking sync.Mutex  // held while packets are dispatched
	last   atomic.Bool // the rest is finish's to dispatch
	once   sync.Once   // of hungUp

	mu       sync.Mutex // guards what follows; no channel's is taken under it
	channels []*Channel // by our number; nil: free
	free     []uint32   // the numbers that are
	live     int        // forwarded channels not closed on this side
	askers   []chan struct{}
	ended    bool

	asking sync.Mutex // keeps askers in the order of their requests

	outMu    sync.Mutex // guards the rest
	outbox   []queued[func()]
	outBytes int // that those in outbox and in flush's hands hold
	sending  bool
}

// event is what the connection's loop is given to serve, in the order of
// arrival: a global request, a channel that the client opens, a channel to be
// closed when all before it has been served, or the end of the connection.
type event struct {
	request *request
	open    *newChannel
	served  chan struct{}
	hungUp  bool
}

// request is a global request or one on a channel (RFC 4254, sections 4 and
// 5.4).
type request struct {
	Type      string
	WantReply bool
	Payload   []byte
	mux       *mux
	channel   *Channel // nil: global
}

// Reply answers, where an answer is wanted; only a global request's has a
// payload.
func (r *request) Reply(ok bool, payload []byte) {
	switch {
	case !r.WantReply:
	case r.channel != nil && ok:
		r.channel.send(channelMsg(msgChannelSuccess, r.channel.peer))
	case r.channel != nil:
		r.channel.send(channelMsg(msgChannelFailure, r.channel.peer))
	case ok:
		r.mux.write(append([]byte{msgRequestSuccess}, payload...))
	default:
		r.mux.write([]byte{msgRequestFailure})
	}
}

// take dispatches what the library's reader has decrypted, as long as there is
// more.
func (m *mux) take() {
	if len(m.packets) == 0 || m.last.Load() {
		return
	}
	m.taking.Lock()
	defer m.taking.Unlock()
	defer m.conn.recover("packets")
	for !m.last.Load() {
		select {
		case p, ok := <-m.packets:
			if !ok {
				return
			}
			m.dispatch(p)
		default:
			return
		}
	}
}

// hungUp has the connection end when all that has come was served.
func (m *mux) hungUp() {
	m.once.Do(func() { m.events.push(event{hungUp: true}, 0) })
}

// finish dispatches the last packets of a connection whose socket has closed,
// waits for the end of the library's reader, and cuts every channel.
func (m *mux) finish() {
	m.last.Store(true)
	m.taking.Lock()
	m.taking.Unlock() //lint:ignore SA2001 who dispatched has ended
	for p := range m.packets {
		m.dispatchLast(p)
	}
	m.mu.Lock()
	m.ended = true
	for _, a := range m.askers {
		close(a)
	}
	m.askers = nil
	m.mu.Unlock()
	for _, k := range m.all() {
		m.cut(k)
	}
	m.events.close()
}

// cut tells k of the connection's end, whatever its borrower does.
func (m *mux) cut(k *Channel) {
	defer m.conn.recover("packets")
	k.cutOff()
}

func (m *mux) dispatchLast(p []byte) {
	defer m.conn.recover("packets")
	m.dispatch(p)
}

// dispatch gives one packet to whom it is for. Who breaks the protocol loses
// the connection.
func (m *mux) dispatch(p []byte) {
	if err := m.packet(p); err != nil {
		m.conn.Close(err)
	}
}

func (m *mux) packet(p []byte) error {
	switch {
	case p[0] == msgGlobalRequest:
		return m.globalRequest(p)
	case p[0] == msgRequestSuccess || p[0] == msgRequestFailure:
		m.answer()
		return nil
	case p[0] == msgChannelOpen:
		return m.clientOpens(p)
	case p[0] == msgPing:
		return m.pong(p)
	case p[0] >= msgUserAuthFirst && p[0] <= msgUserAuthLast: // to be ignored by now (RFC 4252, section 5.1)
		return nil
	case p[0] < msgChannelConfirm || p[0] > msgChannelFailure:
		return fmt.Errorf("%w: message %d is not expected", errProtocol, p[0])
	case len(p) < 5:
		return malformed(p)
	}
	k := m.channel(binary.BigEndian.Uint32(p[1:]))
	if k == nil {
		return m.unknown(p)
	}
	return k.packet(p)
}

// unknown is a message on a channel that is not there. A request on it may
// have crossed our close.
func (m *mux) unknown(p []byte) error {
	var r channelRequestMsg
	if p[0] != msgChannelRequest {
		return fmt.Errorf("%w: no such channel", errProtocol)
	}
	m.conn.flood()
	return unmarshal(p, &r)
}

func (m *mux) globalRequest(p []byte) error {
	var r globalRequestMsg
	if err := unmarshal(p, &r); err != nil {
		return err
	}
	m.post(event{request: &request{Type: r.Type, WantReply: r.WantReply, Payload: r.Payload, mux: m}}, len(p))
	return nil
}

func (m *mux) clientOpens(p []byte) error {
	var o channelOpenMsg
	if err := unmarshal(p, &o); err != nil {
		return err
	}
	if o.MaxData < dataHead || o.MaxData > 1<<31 {
		n := &newChannel{m, channelOpenMsg{Sender: o.Sender}}
		m.later(0, func() { n.Reject(ssh.ConnectionFailed, "adit: invalid packet size") })
		return nil
	}
	m.post(event{open: &newChannel{m, o}}, len(p))
	return nil
}

// post hands e to the connection's loop. A client for which there is too much
// to serve loses the connection.
func (m *mux) post(e event, size int) {
	if m.conn.flood() {
		return
	}
	if !m.events.push(e, size) {
		m.conn.Close(ErrTooMany)
	}
}

// pong answers a ping@openssh.com.
func (m *mux) pong(p []byte) error {
	var ping struct {
		Data string `sshtype:"192"`
	}
	if err := unmarshal(p, &ping); err != nil {
		return err
	}
	p[0] = msgPong
	m.later(len(p), func() { m.write(p) })
	return nil
}

// later has f, which holds on to size bytes, send something that the caller
// cannot wait for. A client for which there is too much of that loses the
// connection.
func (m *mux) later(size int, f func()) {
	m.outMu.Lock()
	defer m.outMu.Unlock()
	if m.outBytes += size; len(m.outbox) >= maxOutbox || m.outBytes > maxOutboxBytes {
		m.conn.Close(ErrTooMany)
		return
	}
	m.outbox = append(m.outbox, queued[func()]{f, size})
	if !m.sending {
		m.sending = m.conn.goRun("outbox", m.flush)
	}
}

// flush sends what is to be sent later until there is nothing left.
func (m *mux) flush() {
	for batch := m.outgoing(0); len(batch) > 0; {
		sent := 0
		for _, q := range batch {
			q.v()
			sent += q.size
		}
		batch = m.outgoing(sent)
	}
}

// outgoing takes what is in the outbox, after so many bytes have been sent.
func (m *mux) outgoing(sent int) (batch []queued[func()]) {
	m.outMu.Lock()
	defer m.outMu.Unlock()
	batch, m.outbox = m.outbox, nil
	m.outBytes -= sent
	m.sending = len(batch) > 0
	return batch
}

// ping sends keepalive@openssh.com. That an answer came, any, is told by the
// channel, which is closed where none will.
func (m *mux) ping() (<-chan struct{}, error) {
	a := make(chan struct{}, 1)
	m.asking.Lock()
	defer m.asking.Unlock()
	m.mu.Lock()
	if m.ended {
		m.mu.Unlock()
		return nil, io.EOF
	}
	m.askers = append(m.askers, a)
	m.mu.Unlock()
	return a, m.write(ssh.Marshal(globalRequestMsg{keepalive, true, nil}))
}

// tell sends a global request that wants no answer.
func (m *mux) tell(kind string, payload []byte) error {
	return m.write(ssh.Marshal(globalRequestMsg{kind, false, payload}))
}

// answer is one to the oldest request of ours: answers carry no id. One that
// nobody asked for is thrown away.
func (m *mux) answer() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.askers) > 0 {
		m.askers[0] <- struct{}{}
		m.askers = m.askers[1:]
	}
}

// channel is the one of that number, or nil.
func (m *mux) channel(id uint32) *Channel {
	m.mu.Lock()
	defer m.mu.Unlock()
	if int64(id) >= int64(len(m.channels)) {
		return nil
	}
	return m.channels[id]
}

// add gives k a number. It fails where there are too many already, or the
// connection has ended.
func (m *mux) add(k *Channel) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended || len(m.channels)-len(m.free) >= maxNumbers || k.requests == nil && m.live >= maxChannels {
		return false
	}
	if k.requests == nil {
		m.live++
	}
	if n := len(m.free); n > 0 {
		k.id, m.free = m.free[n-1], m.free[:n-1]
		m.channels[k.id] = k
		return true
	}
	k.id = uint32(len(m.channels))
	m.channels = append(m.channels, k)
	return true
}

// remove frees k's number.
func (m *mux) remove(k *Channel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.channels[k.id] == k {
		m.channels[k.id] = nil
		m.free = append(m.free, k.id)
	}
}

// forget no longer counts k, a forwarded channel, which is closed on this side.
func (m *mux) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live--
}

// liveCount is how many forwarded channels there are, opening or open.
func (m *mux) liveCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live
}

// all are the channels that have a number.
func (m *mux) all() []*Channel {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*Channel, 0, len(m.channels)-len(m.free))
	for _, k := range m.channels {
		if k != nil {
			all = append(all, k)
		}
	}
	return all
}
