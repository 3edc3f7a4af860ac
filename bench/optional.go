//go:build linux

package main

import (
	"fmt"
	"os"
)

// programs are the variables that name the programs of the peers which come
// with no distribution. A peer without its program is left out.
var programs = map[string]string{"sish": "SISH_BIN", "frp": "FRPS_BIN", "chisel": "CHISEL_BIN"}

func installed(name string) bool {
	v, optional := programs[name]
	return !optional || os.Getenv(v) != ""
}

func (b *bench) startSish(ssh []string) (*gateway, error) {
	dir := b.path("sish")
	for _, d := range []string{"/keys", "/pub", "/ssl"} {
		if err := os.MkdirAll(dir+d, 0o700); err != nil {
			return nil, err
		}
	}
	if _, err := b.output("cp", b.key+".pub", dir+"/pub/bench"); err != nil {
		return nil, err
	}
	g := &gateway{name: "sish", ssh: ssh, web: freeAddr()}
	p, err := b.start("sish", os.Getenv("SISH_BIN"), "--ssh-address="+ssh[0], "--http-address="+g.web, "--domain=localhost",
		"--bind-random-subdomains=false", "--bind-random-ports=false", "--verify-dns=false", "--force-tcp-address=true", "--tcp-address=127.0.0.1",
		"--authentication-keys-directory="+dir+"/pub", "--private-keys-directory="+dir+"/keys", "--https-certificate-directory="+dir+"/ssl",
		"--load-templates=false", "--idle-connection=false", "--config=/nonexistent.yml")
	if err != nil {
		return nil, err
	}
	g.procs = []*process{p}
	g.forwards = func(c client, p *peer) []string {
		tcp := port(freeAddr())
		p.web, p.upload, p.tcp = site{g.web, c.name + ".localhost"}, site{g.web, c.name + "-up.localhost"}, "127.0.0.1:"+tcp
		return []string{c.name + ":80:" + c.origin.web, c.name + "-up:80:" + c.origin.upload, tcp + ":" + c.origin.tcp}
	}
	return g, g.await(ssh[0])
}

// startFrp starts frp's gateway for ssh clients. It takes one forward a
// connection, chosen by words after the host, so that only TCP is compared.
func (b *bench) startFrp(ssh []string) (*gateway, error) {
	conf := fmt.Sprintf("bindAddr = \"127.0.0.1\"\nbindPort = %s\nproxyBindAddr = \"127.0.0.1\"\nsshTunnelGateway.bindPort = %s\n"+
		"sshTunnelGateway.autoGenPrivateKeyPath = \"%s\"\nauth.token = \"bench\"\nlog.to = \"/dev/null\"\n", port(freeAddr()), port(ssh[0]), b.path("frp-key"))
	if err := os.WriteFile(b.path("frps.toml"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	p, err := b.start("frps", os.Getenv("FRPS_BIN"), "-c", b.path("frps.toml"))
	if err != nil {
		return nil, err
	}
	g := &gateway{name: "frp", ssh: ssh, procs: []*process{p}}
	return g, g.await(ssh[0])
}

// frp connects two clients, one for files and one for TCP.
func (b *bench) frp() (*peer, error) {
	g, err := b.gateway("frp")
	if err != nil {
		return nil, err
	}
	all := &peer{name: "frp", gateway: g.procs, origin: b.origin.procs}
	for _, f := range []struct{ name, target string }{{"web", b.origin.web}, {"up", b.origin.upload}, {"tcp", b.origin.tcp}} {
		if err := b.dialFrp(g, all, f.name, f.target); err != nil {
			all.close()
			return nil, err
		}
	}
	return all, nil
}

func (b *bench) dialFrp(g *gateway, all *peer, name, target string) error {
	addr := freeAddr()
	one := *g
	one.forwards = func(client, *peer) []string { return []string{":80:" + target} }
	args := b.sshArgs(&one, client{via: g.ssh[0]}, all)
	args = append(args[:len(args)-2], "-l", "v0", "127.0.0.1", "tcp", "--proxy_name", name, "--remote_port", port(addr), "--token", "bench")
	p, err := b.start("ssh-frp-"+name, args...)
	if err != nil {
		return err
	}
	all.client, all.closers = append(all.client, p), append(all.closers, p.stop)
	switch name {
	case "web":
		all.web = site{addr, "localhost"}
	case "up":
		all.upload = site{addr, "localhost"}
	case "tcp":
		all.tcp = addr
	}
	return p.ready(listens(addr))
}

// chisel has a client of its own, in the same program.
func (b *bench) chisel() (*peer, error) {
	addr := freeAddr()
	server, err := b.start("chisel", os.Getenv("CHISEL_BIN"), "server", "--host", "127.0.0.1", "-p", port(addr), "--reverse")
	if err != nil {
		return nil, err
	}
	p := &peer{name: "chisel", gateway: []*process{server}, origin: b.origin.procs, closers: []func(){server.stop}}
	if err := server.ready(listens(addr)); err != nil {
		p.close()
		return nil, err
	}
	args := []string{os.Getenv("CHISEL_BIN"), "client", "http://" + addr}
	for _, f := range plainForwards(client{origin: b.origin}, p) {
		args = append(args, "R:"+f)
	}
	own, err := b.start("chisel-client", args...)
	if err != nil {
		p.close()
		return nil, err
	}
	p.client, p.closers = []*process{own}, append(p.closers, own.stop)
	if err := own.ready(p.answers); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}
