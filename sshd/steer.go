package sshd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"
)

// The cipher is chosen by the client's order (RFC 4253, section 7.1), and
// stock clients put chacha20-poly1305 first, which costs the gateway two to
// three times the CPU of AES-GCM. Offering GCM alone would shut out clients
// that have none. So the offer is made for each client: our version line goes
// out, the client's version line and KEXINIT are read, and where its list has
// GCM, GCM is all it is offered; what a user forced with -c has no GCM in it
// or nothing else, and is honoured. What was read is played to the library
// again, which knows nothing of it.
const (
	// peekLimit is how long a client may take to send its KEXINIT; one that
	// waits for ours first gets it then.
	peekLimit = 700 * time.Millisecond
	// maxPeek bounds what is read ahead: OpenSSH sends about 2 KiB.
	maxPeek = 16 << 10
	// maxVersion is a version line's length with its end (RFC 4253, 4.2).
	maxVersion = 255
)

const msgKexInit = 20

var gcmCiphers = []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}

// fastAES reports whether the processor does AES-GCM in hardware; without
// that, chacha20-poly1305 is the faster one.
var fastAES = cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL || cpu.S390X.HasAESGCM

// steer sends our version line, looks at what the client offers, and returns
// the ciphers to offer it. On any doubt it offers all.
func steer(s *socket, version string, all []string) ([]string, error) {
	line := []byte(version + "\r\n")
	if _, err := s.Write(line); err != nil {
		return nil, err
	}
	s.greeting = line // the library's own is dropped
	if err := s.SetReadDeadline(time.Now().Add(peekLimit)); err != nil {
		return nil, err
	}
	peeked, kexinit, err := peek(s)
	s.replay = peeked
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, err
	}
	return offer(kexinit, all), s.SetReadDeadline(time.Time{})
}

// peek reads until the client's KEXINIT is complete, or cannot become so.
// It returns all that was read, and the KEXINIT's payload if there is one.
func peek(s *socket) (read, kexinit []byte, err error) {
	buf := make([]byte, 0, 4<<10)
	for {
		payload, more := findKexInit(buf)
		if !more {
			return buf, payload, nil
		}
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, cap(buf))
		}
		n, err := s.Read(buf[len(buf):min(cap(buf), maxPeek)])
		buf = buf[:len(buf)+n]
		if err != nil {
			return buf, nil, err
		}
	}
}

// findKexInit finds the payload of the first packet behind the version line
// (RFC 4253, sections 4.2 and 6). more is set while it is incomplete and may
// still become a KEXINIT within bounds.
func findKexInit(b []byte) (payload []byte, more bool) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return nil, len(b) < maxVersion
	}
	if end >= maxVersion || !bytes.HasPrefix(b, []byte("SSH-2.0-")) {
		return nil, false
	}
	p := b[end+1:]
	if len(p) < 6 {
		return nil, true
	}
	length, padding := binary.BigEndian.Uint32(p), uint32(p[4])
	if p[5] != msgKexInit || length < padding+2 || length > maxPeek-maxVersion-4 {
		return nil, false
	}
	if uint32(len(p)-4) < length {
		return nil, true
	}
	return p[5 : 4+length-padding], false
}

// offer narrows the ciphers to AES-GCM where the client has it in both
// directions and this machine does it well.
func offer(kexinit []byte, all []string) []string {
	var m struct {
		Cookie                  [16]byte `sshtype:"20"`
		KexAlgos                []string
		HostKeyAlgos            []string
		CiphersClientServer     []string
		CiphersServerClient     []string
		MACsClientServer        []string
		MACsServerClient        []string
		CompressionClientServer []string
		CompressionServerClient []string
		LanguagesClientServer   []string
		LanguagesServerClient   []string
		FirstKexFollows         bool
		Reserved                uint32
	}
	if !fastAES || ssh.Unmarshal(kexinit, &m) != nil {
		return all
	}
	var both []string
	for _, c := range gcmCiphers {
		if slices.Contains(m.CiphersClientServer, c) && slices.Contains(m.CiphersServerClient, c) && slices.Contains(all, c) {
			both = append(both, c)
		}
	}
	if len(both) == 0 {
		return all
	}
	return both
}
