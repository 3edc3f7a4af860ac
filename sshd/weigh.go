package sshd

import (
	"reflect"
	"slices"
	"unsafe"

	"golang.org/x/crypto/ssh"
)

// The library bounds what a channel holds unread by its bytes alone, and each
// packet costs it 48 bytes more: a window full of one-byte packets is a
// hundred times its size. So packets are counted too, each time a connection
// has brought so much that there may be too many.
const (
	// maxUnread is how many packets one channel may hold unread: some 2 MiB
	// beside their bytes, as much as the window that every channel may fill.
	// A window of 16 MiB in the packets of stock clients is 512.
	maxUnread = 32 << 10
	// weighEvery is how many bytes a connection brings between two counts:
	// 29,000 of the smallest packets.
	weighEvery = 1 << 20
)

// scale is a connection's channels as the library holds them: sessions too,
// and those that were closed here and not yet by the client.
type scale struct {
	list *channelList
	at   layout
}

// scaleOf finds the list that a channel stands in; nil where the library's
// channel has another shape, and nothing is counted.
func scaleOf(ch ssh.Channel) *scale {
	list := internalsOf(ch).list
	if list == nil {
		return nil
	}
	return &scale{list, layoutOf(reflect.TypeOf(ch).Elem())}
}

// weighWith has the connection's packets counted from now on. ch is any
// channel of it.
func (c *Conn) weighWith(ch ssh.Channel) {
	if c.sock.weigh.Load() != nil {
		return
	}
	if s := scaleOf(ch); s != nil {
		f := func() { c.weigh(s) }
		c.sock.weigh.Store(&f)
	}
}

// weigh ends the forwarded channels that hold too many packets. A session's
// input is a person's typing: where that is too much the connection ends. It is
// called by the connection's reader.
func (c *Conn) weigh(s *scale) {
	for _, ch := range s.heavy() {
		k, session := c.owner(ch)
		switch {
		case session:
			c.Close(ErrTooMany)
			return
		case k == nil: // it is closed, and nobody reads it
			for _, b := range s.buffers(ch) {
				b.drop()
			}
		case !k.closed.Load(): // which writes to the client, whose reader this is
			c.goRun("close", func() { k.Close() })
		}
	}
}

// heavy are the channels that hold too many packets.
func (s *scale) heavy() (heavy []unsafe.Pointer) {
	s.list.Lock()
	defer s.list.Unlock()
	for _, ch := range s.list.chans {
		if ch != nil && slices.ContainsFunc(s.buffers(ch), tooMany) {
			heavy = append(heavy, ch)
		}
	}
	return heavy
}

// owner is the open forwarded channel of which ch is the library's part, or
// whether it is a session's.
func (c *Conn) owner(ch unsafe.Pointer) (k *Channel, session bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.channels {
		if k.inside.channel == ch {
			return k, false
		}
	}
	for s := range c.sessions {
		if own := s.channel.Load(); own != nil && internalsOf(*own).channel == ch {
			return nil, true
		}
	}
	return nil, false
}

// buffers are what a channel holds unread: its data, and its extended data,
// which no client has reason to send and nobody reads.
func (s *scale) buffers(ch unsafe.Pointer) []*receiveBuffer {
	return []*receiveBuffer{bufferAt(ch, s.at.pending), bufferAt(ch, s.at.extra)}
}

// tooMany reports whether more than maxUnread packets are unread.
func tooMany(b *receiveBuffer) bool {
	b.L.Lock()
	defer b.L.Unlock()
	e := b.head
	for n := 0; e != nil && n <= maxUnread; n++ {
		e = e.next
	}
	return e != nil
}

// drop forgets what is unread.
func (b *receiveBuffer) drop() {
	b.L.Lock()
	defer b.L.Unlock()
	b.head = b.tail
	b.head.buf = nil
}
