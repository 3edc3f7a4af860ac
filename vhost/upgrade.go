package vhost

import (
	"time"

	"adit/tcp"
)

// checkSwitch refuses a 101 that does not switch to what was asked for
// (RFC 9110 15.2.2).
func (x *exchange) checkSwitch() error {
	if x.upgrade == "" || x.resp.upgrades != 1 || !equalFold(x.resp.upgrade, x.upgrade) {
		return faultSwitch
	}
	return nil
}

// switchOver passes the 101 on and then every byte, both ways, until both
// directions have ended. Silence is no reason to end it.
func (x *exchange) switchOver() error {
	v, up := x.v, x.up
	x.keep = false
	x.seen.Status = 101
	v.watch.stop()
	v.state.CompareAndSwap(visitorBusy, visitorSwitched)
	d := v.delivery()
	d.switching = x.upgrade
	x.out = d.appendResponse(x.out[:0], &x.resp)
	x.out = append(x.out, up.in.buffered()...)
	if err := v.write(x.out); err != nil {
		return &abortError{nil}
	}
	if early := v.in.buffered(); len(early) > 0 {
		if err := up.write(early); err != nil {
			return &abortError{err}
		}
	}
	x.splice()
	return nil
}

// splice joins the two connections. What it was for is known only to them, so
// the buffers go back first.
func (x *exchange) splice() {
	v, up := x.v, x.up
	v.in.release()
	up.in.release()
	putBuffer(x.out)
	x.out = getSmall()[:0]
	v.conn.SetDeadline(time.Time{})
	up.conn.SetDeadline(time.Time{})
	x.seen.BytesIn, x.seen.BytesOut, _ = tcp.Splice(v.conn, up.conn, x.b.o.StallTimeout)
}
