package sshd

import (
	"net"
	"time"

	"adit/tcp"
)

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
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sendBy.Store(by)
	return k.setTimer(&k.sendTimer, t, k.sendExpired)
}

// sendExpired is called by the timer, perhaps for a deadline that has been
// moved meanwhile. A channel on which nothing is being written lives on.
func (k *Channel) sendExpired() {
	if k.writing.Load() && k.sendLate() && !k.sendHeldUp() { // in this order: who writes has moved it before
		k.expired.Store(true)
		k.Close()
	}
}

// sendHeldUp moves a write deadline that nobody here was awake for.
func (k *Channel) sendHeldUp() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	by := k.opened.Add(time.Duration(k.sendBy.Load()))
	if !tcp.HeldUp(by) {
		return false
	}
	k.sendBy.Store(int64(time.Since(k.opened) + tcp.Grace))
	return k.setTimer(&k.sendTimer, time.Now().Add(tcp.Grace), k.sendExpired) == nil
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
