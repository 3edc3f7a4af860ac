//go:build linux

package main

import (
	"fmt"
	"time"
)

// openGCM connects a client that offers one cipher only.
func openGCM(b *bench, name string) (*peer, error) {
	g, err := b.gateway(gatewayOf(name))
	if err != nil {
		return nil, err
	}
	return b.dial(g, name, client{name: "gcm", args: []string{"-c", "aes128-gcm@openssh.com"}})
}

// openDelayed connects a client whose every byte is half of rtt on its way.
func openDelayed(rtt time.Duration) func(*bench, string) (*peer, error) {
	return func(b *bench, name string) (*peer, error) {
		g, err := b.gateway(gatewayOf(name))
		if err != nil {
			return nil, err
		}
		d, err := newDelay(g.ssh[0], rtt/2)
		if err != nil {
			return nil, err
		}
		p, err := b.dial(g, name, client{name: "far", via: d.addr()})
		if err != nil {
			d.close()
			return nil, err
		}
		p.closers = append([]func(){d.close}, p.closers...)
		return p, nil
	}
}

// openGatewayOnly is a gateway of its own, to which nobody has connected.
func openGatewayOnly(b *bench, name string) (*peer, error) {
	g, err := b.newGateway(gatewayOf(name))
	if err != nil {
		return nil, err
	}
	return &peer{name: name, ssh: g.ssh[0], gateway: g.procs, closers: []func(){g.close}}, nil
}

// openFresh is a gateway of its own with one client: what was in its memory
// before would hide what the case puts there.
func openFresh(b *bench, name string) (*peer, error) {
	if name == "nginx+sshd" {
		return b.nginxPeer(func(name string) (*peer, error) { return openFresh(b, name) })
	}
	g, err := b.newGateway(gatewayOf(name))
	if err != nil {
		return nil, err
	}
	return b.dialOwned(g, name, client{name: "fresh"})
}

// dialOwned is dial for a gateway that ends with its peer.
func (b *bench) dialOwned(g *gateway, name string, c client) (*peer, error) {
	p, err := b.dial(g, name, c)
	if err != nil {
		g.close()
		return nil, err
	}
	p.closers = append([]func(){g.close}, p.closers...)
	return p, nil
}

// openLinked is a gateway, and behind a slow link the client and its origin.
func openLinked(b *bench, name string) (*peer, error) {
	l, err := newLink(b)
	if err != nil {
		return nil, err
	}
	p, err := b.dialLinked(l, name)
	if err != nil {
		l.close()
		return nil, err
	}
	p.closers = append([]func(){l.close}, p.closers...)
	return p, nil
}

func (b *bench) dialLinked(l *link, name string) (*peer, error) {
	o, err := b.startHelper(l.enter()...)
	if err != nil {
		return nil, err
	}
	o.web = o.upload // there is no nginx there, and nothing asks for files
	g, err := b.newGateway(gatewayOf(name), nearHost)
	if err != nil {
		o.close()
		return nil, err
	}
	c := client{name: "slow", via: g.ssh[1], prefix: l.enter(), origin: o, pty: name == "sshd-tt"}
	p, err := b.dialOwned(&gateway{name: g.name, ssh: g.ssh, procs: g.procs, forwards: tcpOnly(g.forwards)}, name, c)
	if err != nil {
		o.close()
		return nil, err
	}
	p.closers = append([]func(){o.close}, p.closers...)
	return p, nil
}

// tcpOnly makes the forwards without promising files behind them.
func tcpOnly(forwards func(client, *peer) []string) func(client, *peer) []string {
	return func(c client, p *peer) []string {
		list := forwards(c, p)
		p.web = site{}
		return list
	}
}

// nginxPeer is nginx in front of sshd's ports: names the way it is done by
// hand. under gives the sshd peer; it is the caller's where it stands.
func (b *bench) nginxPeer(under func(string) (*peer, error)) (*peer, error) {
	s, err := under("sshd")
	if err != nil {
		return nil, err
	}
	addr := freeAddr()
	front, err := b.startNginx("front-"+port(addr), proxyConf(addr, "app.localhost", s.web.addr)+proxyConf(addr, "up.localhost", s.upload.addr), addr)
	if err != nil {
		if s != b.standing["sshd"] {
			s.close()
		}
		return nil, err
	}
	p := &peer{name: "nginx+sshd", web: site{addr, "app.localhost"}, upload: site{addr, "up.localhost"},
		gateway: append([]*process{front}, s.gateway...), client: s.client, origin: s.origin}
	if s != b.standing["sshd"] {
		p.closers = append(p.closers, s.close)
	}
	p.closers = append(p.closers, front.stop)
	if err := front.ready(p.answers); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// proxyConf is one virtual host with connections kept to its upstream.
func proxyConf(listen, host, upstream string) string {
	return fmt.Sprintf(`
upstream %[2]s { server %[3]s; keepalive 128; keepalive_requests 100000000; }
server {
	listen %[1]s; server_name %[2]s;
	location / {
		proxy_pass http://%[2]s; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
		proxy_request_buffering off; proxy_max_temp_file_size 0;
	}
}`, listen, host, upstream)
}
