//go:build unix

package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"time"
)

// wholeMain is the program whole: PORT STREAMS MOST. It opens so many
// connections at once to a service that sends back what it gets, and gives each
// up to MOST bytes in pieces of any size, and then the end. What comes back is
// compared as it comes, by its SHA-256.
func wholeMain() {
	if len(os.Args) != 4 {
		fail("usage: whole PORT STREAMS MOST")
	}
	streams, err := strconv.Atoi(os.Args[2])
	fail(err)
	most, err := strconv.Atoi(os.Args[3])
	fail(err)
	errs := make(chan error, streams)
	total := 0
	for i := range streams {
		size := rand.IntN(most + 1)
		if i == 0 {
			size = 0 // an end, and nothing before it
		}
		total += size
		go func() { errs <- roundTrip("127.0.0.1:"+os.Args[1], size) }()
	}
	for range streams {
		fail(<-errs)
	}
	fmt.Println(streams, "streams whole,", total, "bytes")
}

// roundTrip sends size random bytes to addr and compares what comes back.
func roundTrip(addr string, size int) error {
	c, err := net.DialTimeout("tcp", addr, patienceLimit)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(4 * patienceLimit)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	go func() { sent <- inPieces(c.(*net.TCPConn), data) }()
	h := sha256.New()
	n, err := io.Copy(h, c)
	if err == nil {
		err = <-sent
	}
	if err == nil && [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
		err = fmt.Errorf("sent %d bytes, and %d came back that are not the same", size, n)
	}
	return err
}

// inPieces writes data in pieces of any size, and half-closes.
func inPieces(c *net.TCPConn, data []byte) error {
	for len(data) > 0 {
		n := 1 + rand.IntN(min(len(data), 100<<10))
		if _, err := c.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return c.CloseWrite()
}
