package gateway

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"adit/sshd"
	"adit/vhost"
)

const (
	// maxLines is how many lines of requests wait for a slow terminal; what
	// is more is dropped, and counted aloud.
	maxLines = 256
	// maxOwed is the same for lines that should not be lost: a client may
	// take nothing and ask for one forward after the other.
	maxOwed = 4096
)

// Exit statuses of a session.
const (
	exitOK      = 0
	exitRefused = 1
	exitUsage   = 2
)

// session is one SSH session that shows tunnels: lines, or events as NDJSON.
// Whoever has something to tell appends a line and goes on; the session's own
// goroutine writes them, so that a terminal that takes nothing delays nobody.
type session struct {
	s      *sshd.Session
	client *client
	opt    options
	pty    bool
	live   atomic.Bool // a tunnel was shown

	mu      sync.Mutex
	lines   []line
	dropped int
	waiting []*Tunnel          // to be announced, in the order they were asked for
	shown   map[*Tunnel]string // announced ones, with the URL shown last
	leave   func()             // set once: how to end when the lines are written
	wake    chan struct{}
}

// line is one line of output, without its end.
type line struct {
	text   string
	stderr bool
}

// ServeSession answers one session.
func (cl *client) ServeSession(ctx context.Context, s *sshd.Session) {
	opt, err := readOptions(s)
	if err != nil {
		cl.withdrawPending()
		s.Heard()
		cl.logRefused("word") // not which: it may have a password in it
		for _, text := range append(s.Held(), err.Error()) {
			fmt.Fprintln(s.Stderr(), terminal(s, text))
		}
		s.Detach(exitUsage)
		return
	}
	se := &session{s: s, client: cl, opt: opt, pty: s.PTY(), shown: map[*Tunnel]string{}, wake: make(chan struct{}, 1)}
	tunnels, told := cl.attach(se)
	s.Heard()
	for _, text := range s.Held() {
		se.warn(text)
	}
	if len(tunnels) == 0 && len(told) == 0 {
		se.greet()
		s.Detach(exitOK)
		return
	}
	defer cl.detach(se)
	for _, r := range told {
		se.tunnelRefused(r)
	}
	for _, t := range tunnels {
		t.release()
	}
	se.announce()
	if len(tunnels) == 0 {
		se.end(func() { s.Exit(exitRefused) })
	}
	go se.readKeys() // ends with the channel
	se.run()
}

// attach makes se the session that shows the connection's tunnels that no
// other one shows, and hands over the refusals nobody was told of.
func (cl *client) attach(se *session) (tunnels []*Tunnel, told []refused) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for t := range cl.tunnels {
		if t.session.Load() == nil {
			tunnels = append(tunnels, t)
		}
	}
	slices.SortFunc(tunnels, inOrder)
	se.waiting = slices.Clone(tunnels)
	for _, t := range tunnels {
		t.session.Store(se) // from here on it may announce it
	}
	told, cl.refused = cl.refused, nil
	if len(tunnels)+len(told) > 0 {
		cl.sessions = append(cl.sessions, se)
		cl.spoken = true
	}
	return tunnels, told
}

// detach leaves the session's tunnels to the oldest one that is still there,
// else to whoever comes next.
func (cl *client) detach(se *session) {
	cl.mu.Lock()
	cl.sessions = slices.DeleteFunc(cl.sessions, func(other *session) bool { return other == se })
	var next *session
	if len(cl.sessions) > 0 {
		next = cl.sessions[0]
	}
	var left []*Tunnel
	for t := range cl.tunnels {
		if t.session.CompareAndSwap(se, next) && t.live.Load() {
			left = append(left, t)
		}
	}
	cl.mu.Unlock()
	if next == nil {
		return
	}
	slices.SortFunc(left, inOrder)
	for _, t := range left {
		next.show(t)
	}
}

// inOrder compares tunnels by when their connection asked for them.
func inOrder(a, b *Tunnel) int { return a.order - b.order }

// withdrawPending ends every tunnel that waited for the session to speak.
func (cl *client) withdrawPending() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for t := range cl.tunnels {
		if !t.live.Load() {
			t.cancel(errWithdrawn)
		}
	}
}

// run writes lines until the client leaves or the session is to end.
func (se *session) run() {
	for {
		select {
		case <-se.wake:
		case <-se.s.Done():
			return
		}
		lines, dropped, leave := se.take()
		if dropped > 0 {
			lines = append(lines, line{fmt.Sprintf("adit: %d lines dropped", dropped), true})
		}
		se.writeAll(lines)
		if leave != nil {
			leave()
			return
		}
	}
}

func (se *session) take() (lines []line, dropped int, leave func()) {
	se.mu.Lock()
	defer se.mu.Unlock()
	lines, dropped, leave = se.lines, se.dropped, se.leave
	se.lines, se.dropped = nil, 0
	return lines, dropped, leave
}

// writeAll puts lines out.
func (se *session) writeAll(lines []line) {
	for len(lines) > 0 {
		lines = lines[se.write(lines):]
	}
}

// write puts lines out as far as they go to the same place, all in one packet
// if they fit, and returns how many. With a terminal, ssh shows stdout and stderr
// in the same place, and lines end with a carriage return too.
func (se *session) write(lines []line) (n int) {
	var w io.Writer = se.s
	if lines[0].stderr {
		w = se.s.Stderr()
	}
	var text strings.Builder
	for n < len(lines) && lines[n].stderr == lines[0].stderr {
		text.WriteString(terminal(se.s, lines[n].text) + "\n")
		n++
	}
	io.WriteString(w, text.String())
	return n
}

// terminal ends each line of text but the last as the session's kind wants.
// gliderlabs does it for stdout, but not for stderr.
func terminal(s *sshd.Session, text string) string {
	if !s.PTY() {
		return text
	}
	return strings.ReplaceAll(text, "\n", "\r\n") + "\r"
}

// say appends a line that should not be lost.
func (se *session) say(stderr bool, text string) {
	se.mu.Lock()
	defer se.mu.Unlock()
	se.add(line{text, stderr})
}

// add appends a line. se.mu is held.
func (se *session) add(l line) {
	if len(se.lines) >= maxOwed {
		se.dropped++
		return
	}
	se.lines = append(se.lines, l)
	se.ring()
}

func (se *session) ring() {
	select {
	case se.wake <- struct{}{}:
	default:
	}
}

// end makes the session end by leave once its lines are written.
func (se *session) end(leave func()) {
	se.mu.Lock()
	if se.leave == nil {
		se.leave = leave
	}
	se.mu.Unlock()
	se.ring()
}

// close ends the session and its tunnels without an exit status, and says why.
func (se *session) close(cause error) {
	tunnels := se.client.live()
	slices.SortFunc(tunnels, inOrder)
	for _, t := range tunnels {
		if t.session.Load() == se {
			se.tunnelClosed(t, cause)
		}
	}
	if se.opt.json {
		se.event(event{Event: "closing", Reason: cause.Error()})
	}
	se.say(true, "adit: closing: "+cause.Error())
	se.end(func() { se.s.Abandon(cause) })
}

// readKeys drains what the user types. On a terminal Ctrl-C and Ctrl-D end
// the session; elsewhere the end of stdin means nothing (systemd closes it at
// once), and a signal ends ssh itself.
func (se *session) readKeys() {
	var buf [256]byte
	for {
		n, err := se.s.Read(buf[:])
		if se.pty && strings.ContainsAny(string(buf[:n]), "\x03\x04") {
			se.end(se.quit)
		}
		if err != nil {
			return
		}
	}
}

// quit is the user's own end: status 0, and nothing for visitors to wait for.
func (se *session) quit() {
	se.client.mu.Lock()
	if len(se.client.sessions) <= 1 {
		for t := range se.client.tunnels {
			t.cancel(errQuit)
		}
	}
	se.client.mu.Unlock()
	se.s.Exit(exitOK)
}

// warn is a sentence for the user.
func (se *session) warn(text string) { se.say(true, text) }

// announce shows the tunnels that have gone live, in the order they were
// asked for: one that is still on its way holds up those behind it.
func (se *session) announce() {
	for t := se.next(); t != nil; t = se.next() {
		se.tunnelLive(t)
	}
}

// show announces a tunnel that went live: in its turn if the session waits
// for it, at once if it came later.
func (se *session) show(t *Tunnel) {
	se.mu.Lock()
	if _, announced := se.shown[t]; !announced && !slices.Contains(se.waiting, t) {
		se.waiting = append(se.waiting, t)
	}
	se.mu.Unlock()
	se.announce()
}

// forget is for a tunnel that has ended.
func (se *session) forget(t *Tunnel) {
	t.over.Store(true)
	se.announce() // those that it held up
	se.mu.Lock()
	defer se.mu.Unlock()
	delete(se.shown, t)
}

// next takes the next tunnel to be shown.
func (se *session) next() *Tunnel {
	se.mu.Lock()
	defer se.mu.Unlock()
	for len(se.waiting) > 0 {
		t := se.waiting[0]
		if !t.live.Load() && !t.over.Load() {
			return nil
		}
		se.waiting = se.waiting[1:]
		if !t.over.Load() {
			return t
		}
	}
	return nil
}

// request shows one finished request. It is called on the visitor's path, so
// it never waits.
func (se *session) request(t *Tunnel, x *vhost.Exchange) {
	if se.opt.quiet {
		return
	}
	se.mu.Lock()
	full := len(se.lines) >= maxLines
	if full {
		se.dropped++
	}
	se.mu.Unlock()
	if !full {
		se.sayRequest(t, x)
	}
}
