//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/crypto/ssh"
)

// How many are held. sshd has a process for each connection, of which fewer
// tell as much.
const (
	manyTunnels  = 500
	manyServers  = 60
	manyVisitors = 1000
)

// idleTunnels holds SSH connections with one forward each.
func idleTunnels(b *bench, p *peer) (figures, error) {
	signer, err := b.signer()
	if err != nil {
		return nil, err
	}
	n := manyTunnels
	if gatewayOf(p.name) == "sshd" {
		n = manyServers
	}
	before := holdings(pids(p.gateway))
	var held []io.Closer
	defer func() { closeAll(held) }()
	for i := range n {
		c, err := b.login(p, signer)
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		held = append(held, c)
		if err := openTunnel(c, p, i); err != nil {
			return nil, fmt.Errorf("tunnel %d: %w", i, err)
		}
	}
	return growth(before, p, n), nil
}

// openTunnel asks for HTTP under a name of its own, or where there are no
// names for any port.
func openTunnel(c *ssh.Client, p *peer, i int) error {
	ask := struct {
		Addr string
		Port uint32
	}{fmt.Sprintf("t%d", i), 80}
	if gatewayOf(p.name) == "sshd" {
		ask.Addr, ask.Port = "127.0.0.1", 0
	}
	ok, _, err := c.SendRequest("tcpip-forward", true, ssh.Marshal(&ask))
	if err == nil && !ok {
		err = fmt.Errorf("refused")
	}
	return err
}

// growth is what each of n holds of the gateway since before.
func growth(before holding, p *peer, n int) figures {
	now := steady(pids(p.gateway))
	return figures{memory: float64(now.kib-before.kib) / float64(n), files: float64(now.files-before.files) / float64(n)}
}

func closeAll(list []io.Closer) {
	for _, c := range list {
		c.Close()
	}
}

// idleVisitors holds visitors who have been answered once and are silent.
func idleVisitors(visit func(p *peer, keep func(net.Conn)) error) func(*bench, *peer) (figures, error) {
	return func(b *bench, p *peer) (figures, error) {
		if err := visit(p, nil); err != nil {
			return nil, err
		}
		before := holdings(pids(p.gateway))
		var held []io.Closer
		defer func() { closeAll(held) }()
		for i := range manyVisitors {
			if err := visit(p, func(c net.Conn) { held = append(held, c) }); err != nil {
				return nil, fmt.Errorf("visitor %d: %w", i, err)
			}
		}
		return growth(before, p, manyVisitors), nil
	}
}

// askPage fetches a page over a connection that stays open. It goes to keep,
// or is closed if that is nil.
func askPage(p *peer, keep func(net.Conn)) error {
	c, err := net.Dial("tcp", p.web.addr)
	if err != nil {
		return err
	}
	if err := fetch(c, p.web.host); err != nil || keep == nil {
		c.Close()
		return err
	}
	keep(c)
	return nil
}

func fetch(c net.Conn, host string) error {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "GET /1k HTTP/1.1\r\nHost: %s\r\n\r\n", host)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != smallFile || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s, %d bytes: %w", resp.Status, n, err)
	}
	return c.SetDeadline(time.Time{})
}
