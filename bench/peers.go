//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// peerNames are the ways from a visitor to the origin, in the table's order.
var peerNames = []string{"adit", "adit-tcp", "direct", "sshd", "sshd-tt", "nginx+sshd", bareGo, "chisel", "frp", "sish"}

// peer is one way to the origin and the processes it takes.
type peer struct {
	name   string
	web    site   // nginx's files; no address: none
	upload site   // the helper's sink for uploads
	secure site   // nginx's files over TLS; no address: none
	tcp    string // the helper's TCP services; "": none
	ssh    string // where SSH clients of the bench's own connect; "": nowhere

	gateway, client, origin []*process
	closers                 []func() // run by close, last first
}

// site is an HTTP service: where to connect, and the Host to ask for.
type site struct{ addr, host string }

func (p *peer) close() {
	for _, f := range slices.Backward(p.closers) {
		f()
	}
	p.closers = nil
}

// gateway is a running gateway that a stock ssh makes tunnels at.
type gateway struct {
	name  string
	ssh   []string // addresses it takes SSH at
	web   string   // where its visitors ask for names; "": it has no names
	procs []*process
	// forwards are the -R arguments for a client, and where they then are.
	forwards func(c client, p *peer) []string
}

func (g *gateway) close() {
	for _, p := range g.procs {
		p.stop()
	}
}

// client is a stock ssh -N, and in what it differs from the usual one.
type client struct {
	name   string   // of its tunnels
	via    string   // where to connect; "": the gateway itself
	args   []string // more arguments
	prefix []string // words before ssh, to run it elsewhere
	pty    bool     // a session with a terminal, which turns Nagle off
	origin *origin  // nil: the bench's
}

// stand is the peer that serves all cases; it is started when first asked for.
func (b *bench) stand(name string) (*peer, error) {
	if p := b.standing[name]; p != nil {
		return p, nil
	}
	p, err := b.makePeer(name)
	if err != nil {
		b.missing[name] = true
		return nil, err
	}
	b.standing[name] = p
	return p, nil
}

func (b *bench) makePeer(name string) (*peer, error) {
	switch name {
	case "direct":
		return &peer{name: name, web: site{b.origin.web, "localhost"}, upload: site{b.origin.upload, "localhost"},
			tcp: b.origin.tcp, origin: b.origin.procs}, nil
	case "adit-tcp":
		return b.aditTCP()
	case "nginx+sshd":
		return b.nginxPeer(b.stand)
	case "chisel":
		return b.chisel()
	case "frp":
		return b.frp()
	}
	g, err := b.gateway(gatewayOf(name))
	switch {
	case err != nil:
		return nil, err
	case name == bareGo:
		return &peer{name: name, ssh: g.ssh[0], gateway: g.procs}, nil
	}
	return b.dial(g, name, client{name: "app", pty: name == "sshd-tt"})
}

// gatewayOf is the gateway that a peer goes through.
func gatewayOf(name string) string {
	if strings.Contains(name, "sshd") {
		return "sshd"
	}
	return name
}

// gateway is the standing gateway of that name.
func (b *bench) gateway(name string) (*gateway, error) {
	if g := b.gateways[name]; g != nil {
		return g, nil
	}
	g, err := b.newGateway(name)
	if err != nil {
		return nil, err
	}
	b.gateways[name] = g
	return g, nil
}

// newGateway starts a gateway that takes SSH on loopback, and at more hosts.
func (b *bench) newGateway(name string, hosts ...string) (*gateway, error) {
	ssh := []string{freeAddr()}
	for _, host := range hosts {
		_, port, _ := net.SplitHostPort(ssh[0])
		ssh = append(ssh, net.JoinHostPort(host, port))
	}
	plainAdit := func(ssh []string) (*gateway, error) { return b.startAdit(ssh, "--https", "off") }
	start := map[string]func([]string) (*gateway, error){"adit": plainAdit, "sshd": b.startSshd, bareGo: b.startBare, "sish": b.startSish, "frp": b.startFrp}[name]
	return start(ssh)
}

// startAdit starts adit with those arguments too.
func (b *bench) startAdit(ssh []string, more ...string) (*gateway, error) {
	state, err := os.MkdirTemp(b.dir, "state-")
	if err != nil {
		return nil, err
	}
	if _, err := b.output(b.adit, "keys", "add", "bench", b.key+".pub", "--state", state); err != nil {
		return nil, err
	}
	g := &gateway{name: "adit", ssh: ssh, web: freeAddr()}
	args := []string{b.adit, "serve", "--state", state, "--ssh", strings.Join(ssh, ","), "--http", g.web,
		"--admin", b.admin, "--tcp-host", "127.0.0.1", "--tcp-ports", fmt.Sprintf("%d-%d", firstPort, lastPort),
		"--max-names", "5000", "--max-ports", "100", "--drain", "0s", "--log-level", "warn"}
	p, err := b.start("adit-"+port(ssh[0]), append(args, more...)...)
	if err != nil {
		return nil, err
	}
	g.procs = []*process{p}
	g.forwards = func(c client, p *peer) []string {
		tcp, raw := b.tunnelPort(), b.tunnelPort()
		p.web, p.upload, p.tcp = site{g.web, c.name + ".localhost"}, site{g.web, c.name + "-up.localhost"}, "127.0.0.1:"+tcp
		return []string{c.name + ":80:" + c.origin.web, c.name + "-up:80:" + c.origin.upload, tcp + ":" + c.origin.tcp, raw + ":" + c.origin.web}
	}
	return g, g.await(ssh[0])
}

// await waits until the gateway listens, and stops it if it does not.
func (g *gateway) await(addr string) error {
	err := g.procs[0].ready(listens(addr))
	if err != nil {
		g.close()
	}
	return err
}

// The TCP ports that adit's tunnels are on. They lie below those that the
// kernel gives to outgoing connections.
const firstPort, lastPort = 20000, 20099

// tunnelPort is the next of them that is free.
func (b *bench) tunnelPort() string {
	for range lastPort - firstPort {
		port := strconv.Itoa(firstPort + b.nextPort%(lastPort-firstPort+1))
		b.nextPort++
		if ln, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			ln.Close()
			return port
		}
	}
	return "0" // all are taken: the forward fails, and says so
}

func port(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }

// aditTCP is HTTP through the TCP tunnel that adit's client has to the files.
func (b *bench) aditTCP() (*peer, error) {
	g, err := b.gateway("adit")
	if err != nil {
		return nil, err
	}
	raw := *g
	raw.forwards = func(c client, p *peer) []string {
		web, upload := b.tunnelPort(), b.tunnelPort()
		p.web, p.upload = site{"127.0.0.1:" + web, "localhost"}, site{"127.0.0.1:" + upload, "localhost"}
		return []string{web + ":" + c.origin.web, upload + ":" + c.origin.upload}
	}
	return b.dial(&raw, "adit-tcp", client{name: "raw"})
}

// startSshd starts OpenSSH's server as a gateway: forwards are TCP ports.
func (b *bench) startSshd(ssh []string) (*gateway, error) {
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, err
		}
	}
	name := "sshd-" + port(ssh[0])
	host, err := b.makeKey(name + "-host")
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("HostKey %s\nPidFile none\nAuthorizedKeysFile %s.pub\nStrictModes no\nPermitRootLogin yes\n"+
		"PasswordAuthentication no\nUsePAM no\nUseDNS no\nMaxStartups 2000\nListenAddress %s\n",
		host, b.key, strings.Join(ssh, "\nListenAddress "))
	if err := os.WriteFile(b.path(name+".conf"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	p, err := b.start(name, program("sshd"), "-D", "-e", "-f", b.path(name+".conf"))
	if err != nil {
		return nil, err
	}
	g := &gateway{name: "sshd", ssh: ssh, procs: []*process{p}, forwards: plainForwards}
	return g, g.await(ssh[0])
}

// plainForwards are three TCP ports on loopback.
func plainForwards(c client, p *peer) (list []string) {
	web, upload, tcp := freeAddr(), freeAddr(), freeAddr()
	p.web, p.upload, p.tcp = site{web, "localhost"}, site{upload, "localhost"}, tcp
	return []string{web + ":" + c.origin.web, upload + ":" + c.origin.upload, tcp + ":" + c.origin.tcp}
}

// dial connects a stock ssh to g and waits until its tunnels answer.
func (b *bench) dial(g *gateway, name string, c client) (*peer, error) {
	if c.origin == nil {
		c.origin = b.origin
	}
	if c.via == "" {
		c.via = g.ssh[0]
	}
	p := &peer{name: name, ssh: g.ssh[0], gateway: g.procs, origin: c.origin.procs}
	proc, err := b.start("ssh-"+name, b.sshArgs(g, c, p)...)
	if err != nil {
		return nil, err
	}
	p.client, p.closers = []*process{proc}, []func(){proc.stop}
	if err := proc.ready(p.answers); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (b *bench) sshArgs(g *gateway, c client, p *peer) []string {
	host, port, _ := net.SplitHostPort(c.via)
	args := append(slices.Clone(c.prefix), "ssh", "-F", "none", "-i", b.key, "-p", port, "-l", b.user)
	for _, o := range []string{"IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ExitOnForwardFailure=yes"} {
		args = append(args, "-o", o)
	}
	for _, f := range g.forwards(c, p) {
		args = append(args, "-R", f)
	}
	args = append(args, c.args...)
	if c.pty {
		return append(args, "-tt", host, "cat")
	}
	return append(args, "-N", host)
}

// answers reports what is still missing at the peer's addresses.
func (p *peer) answers() error {
	if p.tcp != "" {
		if err := askEcho(p, nil); err != nil {
			return fmt.Errorf("tcp: %w", err)
		}
	}
	if p.web.addr == "" {
		return nil
	}
	return p.web.get("/1k", smallFile)
}

// get asks for a page once, and wants size bytes.
func (s site) get(path string, size int64) error {
	req, err := http.NewRequest("GET", "http://"+s.addr+path, nil)
	if err != nil {
		return err
	}
	req.Host, req.Close = s.host, true
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || n != size) {
		err = errors.New(resp.Status)
	}
	return err
}
