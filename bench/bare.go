//go:build linux

package main

import (
	"bytes"
	"errors"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
)

// bareGo is an SSH server of no more than the library's own parts: what a login
// costs in Go before anybody has decided anything.
const bareGo = "bare-go"

// startBare starts this program once more, as that server. It has no tunnels.
func (b *bench) startBare(addrs []string) (*gateway, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	host, err := b.makeKey("bare-host")
	if err != nil {
		return nil, err
	}
	p, err := b.start(bareGo, self, "bare", addrs[0], host, b.key+".pub")
	if err != nil {
		return nil, err
	}
	g := &gateway{name: bareGo, ssh: addrs, procs: []*process{p}}
	return g, g.await(addrs[0])
}

// serveBare is the server: its address, its host key, and the key that it lets
// in.
func serveBare(addr, host, user string) error {
	pem, err := os.ReadFile(host)
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return err
	}
	line, err := os.ReadFile(user)
	if err != nil {
		return err
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go serveLogin(c, bareConfig(signer, key))
	}
}

func bareConfig(host ssh.Signer, user ssh.PublicKey) *ssh.ServerConfig {
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(key.Marshal(), user.Marshal()) {
			return nil, errors.New("another key")
		}
		return &ssh.Permissions{}, nil
	}}
	cfg.AddHostKey(host)
	return cfg
}

// serveLogin lets a client in and greets its sessions.
func serveLogin(c net.Conn, cfg *ssh.ServerConfig) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, cfg)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for n := range channels {
		if ch, requests, err := n.Accept(); err == nil {
			go serveGreeting(ch, requests)
		}
	}
}

func serveGreeting(ch ssh.Channel, requests <-chan *ssh.Request) {
	for r := range requests {
		r.Reply(true, nil)
		if r.Type == "shell" {
			ch.Write([]byte("hello\n"))
			ch.SendRequest("exit-status", false, make([]byte, 4))
			ch.Close()
		}
	}
}
