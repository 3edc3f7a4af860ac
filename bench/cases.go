//go:build linux

package main

import (
	"fmt"
	"slices"
	"time"
)

// The figures, named with their unit. CPU is user and system time together;
// "each" is each request, connection, login or idle visitor of the case.
const (
	perSecond  = "req/s"
	p50        = "p50 µs"
	p99        = "p99 µs"
	rate       = "MB/s"
	gatewayCPU = "gateway CPU µs each"
	clientCPU  = "client CPU µs each"
	originCPU  = "origin CPU µs each"
	gatewayGB  = "gateway CPU s/GB"
	clientGB   = "client CPU s/GB"
	originGB   = "origin CPU s/GB"
	perCPU     = "each gateway CPU second"
	memory     = "memory KiB each"
	files      = "descriptors each"
)

var figureOrder = []string{perSecond, p50, p99, rate, gatewayCPU, clientCPU, originCPU, gatewayGB, clientGB, originGB, perCPU, memory, files}

// benchCase is one thing that is measured.
type benchCase struct {
	name  string
	peers []string
	// open makes a peer for one run, which is closed after it. nil: the
	// peer that stands through all cases.
	open    func(b *bench, name string) (*peer, error)
	run     func(b *bench, p *peer) (figures, error)
	targets map[string]bound // by figure
}

// bound is what adit's figure is to keep: at most or at least limit, or limit
// times another figure of the same go.
type bound struct {
	least bool
	limit float64
	peer  string // "": limit stands for itself
	of    string // the other figure's case; "": this one
}

func atMost(limit float64) bound  { return bound{limit: limit} }
func atLeast(limit float64) bound { return bound{limit: limit, least: true} }

// times makes the bound one in terms of peer's figure in the same case.
func (t bound) times(peer string) bound { t.peer = peer; return t }

// in takes the other figure from another case.
func (t bound) in(name string) bound { t.of = name; return t }

// Peers by what they can do, and by what is worth the time. adit-tcp is HTTP
// through one of adit's TCP tunnels: what adit costs when it does not look at
// the requests.
var (
	webPeers   = []string{"direct", "adit", "adit-tcp", "sshd", "sshd-tt", "nginx+sshd", "chisel", "frp", "sish"}
	tcpPeers   = []string{"direct", "adit", "sshd", "sshd-tt", "chisel", "frp", "sish"}
	sshPeers   = []string{"adit", "sshd"}
	crowdPeers = []string{"direct", "adit", "sshd", "sshd-tt", "nginx+sshd", "chisel", "frp", "sish"}
	filePeers  = []string{"direct", "adit", "adit-tcp", "sshd", "nginx+sshd", "chisel", "frp", "sish"}
	tlsPeers   = []string{"adit", "nginx+sshd"}
	widePeers  = []string{"adit", "sshd", "chisel", "frp", "sish"}
)

const plainHTTP = "HTTP keep-alive, 64 connections"

const tcpDown, tcpUp = "TCP down, 1 stream", "TCP up, 1 stream"

var cases = slices.Concat(webCases(), secureCases(), tcpCases(), cipherCases(), bulkCases(), delayCases(), restCases())

func webCases() []*benchCase {
	return []*benchCase{
		{name: "HTTP keep-alive, 1 connection", peers: webPeers, run: keepAlive(1),
			targets: map[string]bound{p50: atMost(1.15).times("adit-tcp"), p99: atMost(500)}},
		{name: "HTTP keep-alive, 16 connections", peers: crowdPeers, run: keepAlive(16),
			targets: map[string]bound{gatewayCPU: atMost(28)}},
		{name: plainHTTP, peers: crowdPeers, run: keepAlive(64),
			targets: map[string]bound{gatewayCPU: atMost(28), perSecond: atLeast(25000)}},
		{name: "HTTP, new connection each, 16", peers: crowdPeers, run: newConnections(3000, 16),
			targets: map[string]bound{gatewayCPU: atMost(110)}},
	}
}

// secureCases are those of the HTTPS port. Both gateways have the same key.
func secureCases() []*benchCase {
	return []*benchCase{
		{name: "TLS handshakes", peers: tlsPeers, open: openSecure, run: handshakes,
			targets: map[string]bound{perCPU: atLeast(0.5).times("nginx+sshd")}},
		{name: "HTTPS keep-alive, 64 connections", peers: tlsPeers, open: openSecure, run: secureKeepAlive(64),
			targets: map[string]bound{gatewayCPU: atMost(1.35).times("adit").in(plainHTTP)}},
		{name: "HTTP/2, 16 streams", peers: tlsPeers, open: openSecure, run: http2(16),
			targets: map[string]bound{gatewayCPU: atMost(60)}},
	}
}

func tcpCases() []*benchCase {
	down := map[string]bound{rate: atLeast(1).times("sshd"), gatewayGB: atMost(1.1)}
	up := map[string]bound{rate: atLeast(1).times("sshd"), gatewayGB: atMost(0.8)}
	return []*benchCase{
		{name: tcpDown, peers: tcpPeers, run: bulk(source, 1), targets: down},
		{name: "TCP down, 8 streams", peers: widePeers, run: bulk(source, 8), targets: down},
		{name: tcpUp, peers: tcpPeers, run: bulk(sink, 1), targets: up},
		{name: "TCP up, 8 streams", peers: widePeers, run: bulk(sink, 8), targets: up},
		{name: "TCP connect to first byte", peers: tcpPeers, run: firstByte,
			targets: map[string]bound{p50: atMost(400), gatewayCPU: atMost(110)}},
	}
}

// cipherCases force the cipher, so that the gateways do the same work.
func cipherCases() []*benchCase {
	return []*benchCase{
		{name: "TCP down, client's aes128-gcm", peers: sshPeers, open: openGCM, run: bulk(source, 1),
			targets: map[string]bound{gatewayGB: atMost(2).times("sshd")}},
		{name: "TCP up, client's aes128-gcm", peers: sshPeers, open: openGCM, run: bulk(sink, 1),
			targets: map[string]bound{gatewayGB: atMost(0.9).times("sshd")}},
	}
}

func bulkCases() []*benchCase {
	return []*benchCase{
		{name: "HTTP download 1 GiB", peers: filePeers, run: download,
			targets: map[string]bound{rate: atLeast(0.9).times("adit").in(tcpDown)}},
		{name: "HTTP upload 512 MiB", peers: filePeers, run: upload,
			targets: map[string]bound{rate: atLeast(0.9).times("adit").in(tcpUp)}},
	}
}

func delayCases() (list []*benchCase) {
	for _, ms := range []time.Duration{50, 100, 150} {
		list = append(list, &benchCase{
			name: fmt.Sprintf("TCP down, RTT %d ms", ms), peers: sshPeers,
			open: openDelayed(ms * time.Millisecond), run: distantBulk,
			targets: map[string]bound{rate: atLeast(4).times("sshd")},
		})
	}
	return list
}

func restCases() []*benchCase {
	each := map[string]bound{memory: atMost(20), files: atMost(1)}
	return []*benchCase{
		{name: "ping beside upload, 100 Mbit/s", peers: []string{"adit", "sshd", "sshd-tt"}, open: openLinked, run: pingBesideUpload,
			targets: map[string]bound{p99: atMost(25000), rate: atLeast(0.95).times("sshd")}},
		{name: "idle tunnel", peers: sshPeers, open: openGatewayOnly, run: idleTunnels,
			targets: map[string]bound{memory: atMost(55)}},
		{name: "idle HTTP visitor", peers: []string{"adit", "nginx+sshd"}, open: openFresh, run: idleVisitors(askPage), targets: each},
		{name: "idle TCP visitor", peers: sshPeers, open: openFresh, run: idleVisitors(askEcho), targets: each},
		{name: "SSH login and one channel", peers: []string{"adit", "sshd", bareGo}, run: logins,
			targets: map[string]bound{perCPU: atLeast(1600)}},
	}
}
