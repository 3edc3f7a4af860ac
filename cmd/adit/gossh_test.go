//go:build unix

package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
)

// gosshMain is the program gossh: PORT KEY TO BIND... It stands for the many
// tools that use x/crypto's ssh: no session, and a forward is asked for only
// when the one before was answered. It ends with the connection.
func gosshMain() {
	if len(os.Args) < 5 {
		fail("usage: gossh PORT KEY TO BIND...")
	}
	client := gosshDial(os.Args[1], os.Args[2])
	var open sync.WaitGroup
	for _, bind := range os.Args[4:] {
		l, err := client.Listen("tcp", bind)
		fail(err)
		fmt.Println("listening", l.Addr())
		open.Go(func() { gosshServe(l, os.Args[3]) })
	}
	open.Wait()
}

func gosshDial(port, keyFile string) *ssh.Client {
	text, err := os.ReadFile(keyFile)
	fail(err)
	key, err := ssh.ParsePrivateKey(text)
	fail(err)
	client, err := ssh.Dial("tcp", "127.0.0.1:"+port, &ssh.ClientConfig{
		User: "anybody", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	fail(err)
	return client
}

// gosshServe joins what comes in with connections to an address.
func gosshServe(l net.Listener, to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			in.Close()
			continue
		}
		go gosshCopy(out.(halfCloser), in)
		go gosshCopy(in.(halfCloser), out)
	}
}

// halfCloser is a connection of which one direction can end.
type halfCloser interface {
	io.Writer
	CloseWrite() error
}

// gosshCopy is one direction; the process's end is its end at the latest.
func gosshCopy(to halfCloser, from io.Reader) {
	_, _ = io.Copy(to, from)
	_ = to.CloseWrite()
}
