//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// signer is the client's key for SSH connections of the bench's own.
func (b *bench) signer() (ssh.Signer, error) {
	pem, err := os.ReadFile(b.key)
	if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKey(pem)
}

// login makes one SSH connection, with the exchange and the host key that
// every client of today has.
func (b *bench) login(p *peer, signer ssh.Signer) (*ssh.Client, error) {
	return ssh.Dial("tcp", p.ssh, &ssh.ClientConfig{
		Config:            ssh.Config{KeyExchanges: []string{ssh.KeyExchangeCurve25519}},
		User:              b.user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		HostKeyCallback:   ssh.InsecureIgnoreHostKey(),
		Timeout:           20 * time.Second,
	})
}

// logins logs in, has one channel answered and leaves, over and over, two at a
// time.
func logins(b *bench, p *peer) (figures, error) {
	signer, err := b.signer()
	if err != nil {
		return nil, err
	}
	l := &loginLoop{b: b, p: p, signer: signer, end: time.Now().Add(b.dur)}
	stop := b.meter(p)
	for range 2 {
		l.wait.Add(1)
		go l.run()
	}
	l.wait.Wait()
	cpu, n := stop(), float64(l.count.Load())
	if err := l.err.Load(); err != nil {
		return nil, *err
	}
	return figures{perCPU: n / cpu.gateway, perSecond: n / b.dur.Seconds()}, nil
}

type loginLoop struct {
	b      *bench
	p      *peer
	signer ssh.Signer
	end    time.Time
	wait   sync.WaitGroup
	count  atomic.Int64
	err    atomic.Pointer[error]
}

func (l *loginLoop) run() {
	defer l.wait.Done()
	for time.Now().Before(l.end) && l.b.ctx.Err() == nil {
		if err := l.once(); err != nil {
			l.err.Store(&err)
			return
		}
		l.count.Add(1)
	}
}

func (l *loginLoop) once() error {
	c, err := l.b.login(l.p, l.signer)
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	defer c.Close()
	if gatewayOf(l.p.name) == "sshd" {
		return l.connect(c)
	}
	return greet(c)
}

// greet runs a session, which adit ends with its greeting.
func greet(c *ssh.Client) error {
	s, err := c.NewSession()
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	defer s.Close()
	if err := s.Shell(); err != nil {
		return fmt.Errorf("shell: %w", err)
	}
	return s.Wait()
}

// connect has a byte echoed. sshd would start a shell for a session, which is
// not what is measured.
func (l *loginLoop) connect(c *ssh.Client) error {
	ch, err := c.Dial("tcp", l.b.origin.tcp)
	if err != nil {
		return fmt.Errorf("channel: %w", err)
	}
	defer ch.Close()
	if _, err := ch.Write([]byte{echo}); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	_, err = io.ReadFull(ch, make([]byte, 1))
	return err
}
