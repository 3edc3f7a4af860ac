package vhost

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// shortage is how one accept loop meets errors that pass. It keeps a descriptor
// for the visitor who comes when there is no other left, so that they are told
// to come back instead of waiting.
type shortage struct {
	spare *os.File
	pause time.Duration // the last one
	told  time.Time     // when the log was
}

// refill takes a descriptor to keep, and reports whether there is one.
func (s *shortage) refill() bool {
	if s.spare == nil {
		s.spare, _ = os.Open(os.DevNull)
	}
	return s.spare != nil
}

// release gives the descriptor back.
func (s *shortage) release() {
	if s.spare != nil {
		s.spare.Close()
		s.spare = nil
	}
}

// meet is called with each error. It waits, unless somebody could be turned away.
func (s *shortage) meet(r *Router, ln net.Listener, err error) {
	if time.Since(s.told) >= time.Second {
		r.logger().Warn("accept failed", "err", err)
		s.told = time.Now()
	}
	full := errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
	if full && s.refill() && s.admit(r, ln) { // refill: another loop may have had the last one
		s.pause = 0
		return
	}
	s.pause = min(max(2*s.pause, 5*time.Millisecond), time.Second)
	time.Sleep(s.pause)
}

// admit accepts the visitor for whom there was no descriptor: they are let in if
// there are more by now, and turned away else. It reports whether somebody came.
func (s *shortage) admit(r *Router, ln net.Listener) bool {
	s.release()
	c, err := ln.Accept()
	switch {
	case err != nil:
	case s.refill():
		r.admit(c)
	default:
		turnAway(c)
	}
	s.refill()
	return err == nil
}
