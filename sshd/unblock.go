package sshd

import (
	"reflect"
	"sync"
	"unsafe"

	"golang.org/x/crypto/ssh"
)

// The library has no way to interrupt a Read or Write on a channel whose
// client answers nothing (closing only sends a message), and none to ask
// whether something has arrived. Both are had here from its unexported
// receive buffer and send window. A test holds the library to the shape that
// is relied on; where it changes, a blocked call ends with the client's answer
// or with the connection, and every idle channel counts as quiet.

//go:linkname bufferEOF golang.org/x/crypto/ssh.(*buffer).eof
func bufferEOF(b unsafe.Pointer)

//go:linkname windowClose golang.org/x/crypto/ssh.(*window).close
func windowClose(w unsafe.Pointer)

// receiveBuffer mirrors the library's buffer: what has arrived on a channel
// and was not read yet.
type receiveBuffer struct {
	*sync.Cond
	head, tail *receiveElement
	closed     bool
}

type receiveElement struct {
	buf  []byte
	next *receiveElement
}

// bufferAt is the buffer to which a channel of the library's points at offset.
func bufferAt(ch unsafe.Pointer, offset uintptr) *receiveBuffer {
	return *(**receiveBuffer)(unsafe.Add(ch, offset))
}

// channelList mirrors the library's list of a connection's channels. It has
// its slice from the first channel on, and loses it when the connection ends,
// before any channel is told.
type channelList struct {
	sync.Mutex
	chans  []unsafe.Pointer
	offset uint32
}

// internals are a channel's receive buffers and send window, and the list it
// stands in; nil where the library's channel has another shape.
type internals struct {
	buffer     *receiveBuffer
	extra      *receiveBuffer // extended data
	list       *channelList
	window     unsafe.Pointer
	channel    unsafe.Pointer // for channelAdjustWindow
	adjustable bool           // whether that can be called
}

func internalsOf(ch ssh.Channel) internals {
	v := reflect.ValueOf(ch)
	if v.Kind() != reflect.Pointer {
		return internals{}
	}
	at := layoutOf(v.Type().Elem())
	if !at.known {
		return internals{}
	}
	p := v.UnsafePointer()
	in := internals{
		buffer:  bufferAt(p, at.pending),
		extra:   bufferAt(p, at.extra),
		window:  unsafe.Add(p, at.window),
		channel: p, adjustable: at.adjustable,
	}
	if at.listed {
		in.list = (*channelList)(unsafe.Add(*(*unsafe.Pointer)(unsafe.Add(p, at.mux)), at.list))
	}
	return in
}

// layout is where a channel type has what is needed, in bytes from its
// beginning; list is counted from the mux's.
type layout struct {
	known, listed, adjustable         bool
	pending, extra, window, mux, list uintptr
}

var layouts sync.Map // reflect.Type to layout; there is one

func layoutOf(t reflect.Type) layout {
	if at, ok := layouts.Load(t); ok {
		return at.(layout)
	}
	at := findLayout(t)
	layouts.Store(t, at)
	return at
}

func findLayout(t reflect.Type) (at layout) {
	if t.Kind() != reflect.Struct {
		return at
	}
	pending, ok1 := t.FieldByName("pending")
	extra, ok2 := t.FieldByName("extPending")
	window, ok3 := t.FieldByName("remoteWin")
	at.known = ok1 && ok2 && ok3 && window.Type.String() == "ssh.window" && sameShape(pending.Type) && sameShape(extra.Type)
	at.pending, at.extra, at.window = pending.Offset, extra.Offset, window.Offset
	at.adjustable = adjustable(t)
	mux, ok := t.FieldByName("mux")
	if !ok || mux.Type.String() != "*ssh.mux" {
		return at
	}
	list, ok := mux.Type.Elem().FieldByName("chanList")
	at.listed = ok && sameFields(list.Type, reflect.TypeFor[channelList]())
	at.mux, at.list = mux.Offset, list.Offset
	return at
}

// sameShape reports whether t is a pointer to what receiveBuffer mirrors.
func sameShape(t reflect.Type) bool {
	return t.String() == "*ssh.buffer" && sameFields(t.Elem(), reflect.TypeFor[receiveBuffer]()) &&
		sameFields(t.Elem().Field(1).Type.Elem(), reflect.TypeFor[receiveElement]())
}

func sameFields(a, b reflect.Type) bool {
	if a.Kind() != reflect.Struct || a.NumField() != b.NumField() || a.Size() != b.Size() {
		return false
	}
	for i := range a.NumField() {
		x, y := a.Field(i), b.Field(i)
		if x.Name != y.Name || x.Offset != y.Offset || x.Type.Kind() != y.Type.Kind() {
			return false
		}
	}
	return true
}

// cut reports whether the connection has ended by now. A channel that has
// come to its end while the connection lives was ended by the client. known
// is false where it cannot be told.
func (in internals) cut() (cut, known bool) {
	if in.list == nil {
		return false, false
	}
	in.list.Lock()
	defer in.list.Unlock()
	return in.list.chans == nil, true
}

// unblock makes blocked Reads return io.EOF once what has arrived was read,
// and blocked Writes fail.
func (in internals) unblock() {
	if in.buffer != nil {
		bufferEOF(unsafe.Pointer(in.buffer))
		windowClose(in.window)
	}
}

// await returns when bytes or an end are there to be read, or when *late is
// set, which the buffer's lock guards; it reports whether there is something.
func (in internals) await(late *bool) bool {
	b := in.buffer
	if b == nil {
		return true
	}
	b.L.Lock()
	defer b.L.Unlock()
	for b.empty() && !*late {
		b.Wait()
	}
	return !b.empty()
}

// with runs f under the buffer's lock, and wakes the reader.
func (in internals) with(f func()) {
	in.buffer.L.Lock()
	defer in.buffer.L.Unlock()
	f()
	in.buffer.Signal()
}

// take moves packets that have arrived from the buffer to dst, as many as dst
// has room for. They are the caller's; nobody else refers to them.
func (in internals) take(dst [][]byte) (taken [][]byte, n int) {
	b := in.buffer
	b.L.Lock()
	defer b.L.Unlock()
	for len(dst) < cap(dst) {
		if p := b.head.buf; len(p) > 0 {
			dst, n = append(dst, p), n+len(p)
			b.head.buf = nil
		}
		if b.head == b.tail {
			break
		}
		b.head = b.head.next
	}
	return dst, n
}

// empty reports whether a Read would block. b.L is held.
func (b *receiveBuffer) empty() bool {
	if b.closed || len(b.head.buf) > 0 {
		return false
	}
	for e := b.head.next; e != nil; e = e.next {
		if len(e.buf) > 0 {
			return false
		}
	}
	return true
}

// extended reports whether extended data has arrived unread.
func (in internals) extended() bool {
	b := in.extra
	if b == nil {
		return false
	}
	b.L.Lock()
	defer b.L.Unlock()
	for e := b.head; e != nil; e = e.next {
		if len(e.buf) > 0 {
			return true
		}
	}
	return false
}

// quiet reports whether neither bytes nor an end have arrived unread.
func (in internals) quiet() bool {
	b := in.buffer
	if b == nil {
		return true
	}
	b.L.Lock()
	defer b.L.Unlock()
	return b.empty()
}
