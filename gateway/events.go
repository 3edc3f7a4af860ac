package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"adit/keys"
	"adit/sshd"
	"adit/vhost"
)

// event is one line of NDJSON. Fields are only ever added. A pointer is a
// field that an event has even when it is empty or 0.
type event struct {
	V       int     `json:"v"`
	Event   string  `json:"event"`
	Kind    string  `json:"kind,omitempty"`
	Name    *string `json:"name,omitempty"`
	Port    *int    `json:"port,omitempty"`
	URL     string  `json:"url,omitempty"`
	Bind    *string `json:"bind,omitempty"`
	Code    string  `json:"code,omitempty"`
	Message string  `json:"message,omitempty"`
	ID      string  `json:"id,omitempty"`
	Method  string  `json:"method,omitempty"`
	Path    string  `json:"path,omitempty"`
	Status  int     `json:"status,omitempty"`
	MS      *int64  `json:"ms,omitempty"`
	Visitor string  `json:"visitor,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	User    string  `json:"user,omitempty"`
	Key     string  `json:"key,omitempty"`
}

func (se *session) event(e event) { se.say(false, e.line()) }

// line is the event as it is sent.
func (e *event) line() string {
	e.V = 1
	b, _ := json.Marshal(e) // text and numbers never fail
	return string(b)
}

// sayRequest is one request's line: no query, nothing unprintable.
func (se *session) sayRequest(t *Tunnel, x *vhost.Exchange) {
	path, _, _ := strings.Cut(x.Target, "?")
	path = printable(path, 200)
	host, _, err := net.SplitHostPort(x.Visitor.String())
	if err != nil {
		host = x.Visitor.String()
	}
	ms := x.Duration.Milliseconds()
	if se.opt.json {
		se.event(event{Event: "request", Name: &t.name, ID: printable(x.ID, 64), Method: printable(x.Method, 32), Path: path, Status: x.Status, MS: &ms, Visitor: host})
		return
	}
	se.say(true, fmt.Sprintf("%s %s %s %d %d ms %s", t.name, printable(x.Method, 32), path, x.Status, ms, host))
}

// complaint says why visitors of t get no answer, and what to do.
func complaint(t *Tunnel, err error) string {
	where := t.url()
	switch {
	case errors.Is(err, errNotTLS):
		return fmt.Sprintf("adit: %s: your local service does not speak TLS, which visitors of port 443 expect of it. Is the port in -R right? For http use -R %s:80:...", where, t.name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("adit: %s: nothing answers at your end of the tunnel. Is the local service running, and is the port in -R right?", where)
	case errors.Is(err, sshd.ErrBusy), errors.Is(err, vhost.ErrBusy):
		return fmt.Sprintf("adit: %s: more visitors at once than a tunnel, or a connection with its tunnels, may have. Those beyond are turned away", where)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("adit: %s: your local service took too long to answer", where)
	}
	return fmt.Sprintf("adit: %s: your local service broke off: %s. Look at its own log", where, brokenOff(err))
}

// brokenOff words how a local service left a visitor without a whole answer.
func brokenOff(err error) string {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it closed the connection in the middle of an answer"
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return "it closed the connection without an answer"
	}
	return printable(err.Error(), 120)
}

// anotherPort says that a -R 0 has not got the port that it had before.
func anotherPort(busy, port int) string {
	return fmt.Sprintf("adit: TCP port %d, which was yours, is in use on the gateway's machine; this time it is %d", busy, port)
}

// greet answers `ssh gw` alone: who you are, your tunnels, one example.
func (se *session) greet() {
	defer se.flush()
	k := se.client.key()
	tunnels := se.client.g.tunnelsOf(k.User)
	switch {
	case se.opt.json:
		se.event(event{Event: "whoami", User: k.User, Key: k.Fingerprint})
		for _, t := range tunnels {
			se.event(event{Event: "tunnel", Kind: t.kind, Name: &t.name, Port: &t.port, URL: t.url()})
		}
	case se.opt.quiet:
		for _, t := range tunnels {
			se.say(false, t.url())
		}
	default:
		se.greetInWords(k, tunnels)
	}
}

func (se *session) greetInWords(k *keys.Key, tunnels []*Tunnel) {
	se.say(false, fmt.Sprintf("You are %s, with key %s.", k.User, k.Fingerprint))
	if len(tunnels) == 0 {
		se.say(false, "You have no tunnels open.")
	} else {
		se.say(false, "Your tunnels:")
	}
	for _, t := range tunnels {
		se.say(false, "  "+t.url())
	}
	se.say(false, "To share your local port 8080:")
	se.say(false, "  "+se.client.g.example())
}

// flush writes what was said by a session that does not run.
func (se *session) flush() {
	lines, _, _ := se.take()
	se.writeAll(lines)
}

// tunnelLive shows a tunnel's URL, once.
func (se *session) tunnelLive(t *Tunnel) {
	se.live.Store(true)
	se.sayURL("tunnel.live", t)
	if t.note != "" {
		se.warn(t.note)
	}
}

// moved shows a tunnel's URL again if it is another one by now.
func (se *session) moved(t *Tunnel) { se.sayURL("tunnel.moved", t) }

// sayURL shows a tunnel's URL, the first time as tunnel.live and later only
// if it is not what was shown last. The lock is held throughout, so that the
// last one shown is the last one found.
func (se *session) sayURL(name string, t *Tunnel) {
	se.mu.Lock()
	defer se.mu.Unlock()
	url := t.url()
	last, announced := se.shown[t]
	if announced != (name == "tunnel.moved") || last == url {
		return
	}
	se.shown[t] = url
	text := url
	if se.opt.json {
		text = (&event{Event: name, Kind: t.kind, Name: &t.name, Port: &t.port, URL: url, Message: t.note}).line()
	}
	se.add(line{text, false})
}

// progress is news that is no error: those who asked for quiet do without.
func (se *session) progress(text string) {
	if !se.opt.quiet {
		se.say(true, text)
	}
}

// tunnelClosed tells of a tunnel's end, once; in words where the user did not
// ask for it.
func (se *session) tunnelClosed(t *Tunnel, cause error) {
	if t.told.Swap(true) {
		return
	}
	if se.opt.json {
		se.event(event{Event: "tunnel.closed", Kind: t.kind, Name: &t.name, Port: &t.port, URL: t.url(), Reason: printable(cause.Error(), 200)})
	}
	if errors.Is(cause, errTakenOver) || errors.Is(cause, errNarrowed) {
		se.warn(fmt.Sprintf("adit: %s is closed: %s", t.url(), cause))
	}
}

// tunnelRefused says why.
func (se *session) tunnelRefused(r refused) {
	if se.opt.json {
		bind, port := printable(r.bind, 255), int(r.port)
		se.event(event{Event: "tunnel.refused", Bind: &bind, Port: &port, Code: r.ref.Code, Message: r.ref.Message})
	}
	se.say(true, r.ref.Message)
}
