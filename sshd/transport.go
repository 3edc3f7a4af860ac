package sshd

import (
	"errors"
	"reflect"
	"unsafe"

	"golang.org/x/crypto/ssh"
)

// The transport (RFC 4253) and authentication (RFC 4252) are the library's; the
// connection protocol above them (RFC 4254) is ours, see mux.go. The library
// has no exported way to have the one without the other, so two of its
// unexported parts are reached: the Go channel on which its reader hands over
// decrypted packets, and the method that sends one. No login succeeds, and a
// test fails, where they have another shape.

// transport sends and receives the packets of one authenticated connection.
type transport struct {
	handshake unsafe.Pointer // the library's *handshakeTransport
	packets   <-chan []byte  // as its reader hands them over; closed at its end
}

//go:linkname writePacket golang.org/x/crypto/ssh.(*handshakeTransport).writePacket
func writePacket(t unsafe.Pointer, p []byte) error

// write sends one packet. It may be called from any goroutine but the library's
// reader: during a key exchange it waits for what only that one can read. The
// contents of p are lost.
func (t transport) write(p []byte) error { return writePacket(t.handshake, p) }

var errShape = errors.New("golang.org/x/crypto/ssh has another shape than is relied on: see sshd/transport.go")

// transportOf finds the transport of a connection of the library's, as its
// callbacks are given it.
func transportOf(conn any) (t transport, err error) {
	v := fieldOf(reflect.ValueOf(conn), "transport")
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	in := fieldOf(v, "incoming")
	if !in.IsValid() || v.Type().String() != "*ssh.handshakeTransport" || in.Type() != reflect.TypeFor[chan []byte]() || in.Cap() < aheadPackets {
		return t, errShape
	}
	return transport{v.UnsafePointer(), *(*chan []byte)(unsafe.Pointer(in.UnsafeAddr()))}, nil
}

// fieldOf is the field of a struct that v points to, or the zero Value.
func fieldOf(v reflect.Value, name string) reflect.Value {
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.Elem().FieldByName(name)
}

// loggedIn is the panic by which a connection is taken from the library when
// its login has succeeded: the next thing that NewServerConn would do is to
// start a connection protocol of its own.
type loggedIn struct{}

// authenticate runs the library's key exchange and authentication. It returns
// nil when the client has logged in and is to be told so.
func authenticate(sock *socket, cfg *ssh.ServerConfig) (err error) {
	defer func() {
		if v := recover(); v != nil {
			if _, ok := v.(loggedIn); !ok {
				panic(v)
			}
			err = nil
		}
	}()
	if _, _, _, err = ssh.NewServerConn(sock, cfg); err == nil {
		err = errShape // it has not asked login.log
	}
	return err
}
