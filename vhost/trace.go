package vhost

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// validID reports whether an X-Request-Id may be passed on: 1 to 128
// characters that need no quoting anywhere.
func validID(b []byte) bool {
	for _, c := range b {
		l := lowerToken[c]
		if (l < 'a' || l > 'z') && (l < '0' || l > '9') && c != '-' && c != '_' && c != '.' &&
			c != '+' && c != '/' && c != '=' && c != ':' && c != '@' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 128
}

// validTrace reports whether a traceparent is well-formed (W3C Trace Context
// 3.2.2): version-traceid-parentid-flags in lower-case hex, ids not all zero.
// A later version may be longer.
func validTrace(b []byte) bool {
	if len(b) < 55 || b[2] != '-' || b[35] != '-' || b[52] != '-' {
		return false
	}
	if len(b) > 55 && (string(b[:2]) == "00" || b[55] != '-') || string(b[:2]) == "ff" {
		return false
	}
	return lowerHex(b[:2], true) && lowerHex(b[3:35], false) && lowerHex(b[36:52], false) && lowerHex(b[53:55], true)
}

// lowerHex reports whether b is lower-case hex, and not all zeros unless zero
// is allowed.
func lowerHex(b []byte, zero bool) bool {
	for _, c := range b {
		if !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
		zero = zero || c != '0'
	}
	return zero
}

// appendRandom appends n random bytes in hex, n at most 16. The generator is
// the runtime's own, one for each thread: no lock, and not to be guessed.
func appendRandom(dst []byte, n int) []byte {
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], rand.Uint64())
	raw[0] |= 1 // never all zero
	return hex.AppendEncode(dst, raw[:n])
}

// appendTrace appends a new traceparent, sampled: a service that follows its
// parent's choice must not lose its own traces because we are before it.
func appendTrace(dst []byte) []byte {
	dst = append(dst, "00-"...)
	dst = appendRandom(dst, 16)
	dst = append(dst, '-')
	dst = appendRandom(dst, 8)
	return append(dst, "-01"...)
}
