//go:build unix

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// unrecognizedName is the alert that ends a handshake for a name that is not
// served here: fatal, 112 (RFC 6066, section 3), in a record of TLS 1.2's form.
var unrecognizedName = []byte{21, 3, 3, 0, 2, 2, 112}

// strangersCmd begins N handshakes for names that nobody has: below the domain
// and elsewhere in turn. What each cost the gateway is said, and not judged.
func strangersCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: strangers N DOMAIN")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	hellos := [][]byte{clientHello(ts, "0000000000."+args[1]), clientHello(ts, "0000000000.elsewhere.example")}
	before := cpuOf(ts)
	const atOnce = 8
	var wait sync.WaitGroup
	errs := make([]error, atOnce)
	for w := range atOnce {
		wait.Go(func() {
			for i := w; i < n && errs[w] == nil; i += atOnce {
				errs[w] = stranger("127.0.0.1:"+ts.Getenv("HTTPS_PORT"), hellos[i%2], i)
			}
		})
	}
	wait.Wait()
	for _, err := range errs {
		ts.Check(err)
	}
	ts.Logf("%d handshakes, %.0f µs of the gateway's CPU each", n, (cpuOf(ts)-before)*1e6/float64(n))
}

// clientHello is the first that crypto/tls's client says to host.
func clientHello(ts *testscript.TestScript, host string) []byte {
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		defer near.Close()
		_ = tls.Client(near, &tls.Config{ServerName: host, NextProtos: []string{"h2", "http/1.1"}}).Handshake()
	}()
	head := make([]byte, 5)
	_, err := io.ReadFull(far, head)
	ts.Check(err)
	rest := make([]byte, binary.BigEndian.Uint16(head[3:]))
	_, err = io.ReadFull(far, rest)
	ts.Check(err)
	return append(head, rest...)
}

// stranger says hello with a name of its own and wants the alert, and no more.
func stranger(addr string, hello []byte, i int) error {
	c, err := net.DialTimeout("tcp", addr, patienceLimit)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0) // thousands of closed connections would linger
	_ = c.SetDeadline(time.Now().Add(patienceLimit))
	hello = bytes.Replace(hello, []byte("0000000000."), fmt.Appendf(nil, "%010d.", i+1), 1)
	if _, err := c.Write(hello); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if !bytes.Equal(answer, unrecognizedName) {
		return fmt.Errorf("handshake %d: % x, %v", i, answer, err)
	}
	return nil
}

var cpuLine = regexp.MustCompile(`(?m)^process_cpu_seconds_total (\S+)$`)

// cpuOf is the CPU time of the gateway, in seconds.
func cpuOf(ts *testscript.TestScript) float64 {
	response, err := client.Get("http://127.0.0.1:" + ts.Getenv("ADMIN_PORT") + "/metrics")
	ts.Check(err)
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	ts.Check(err)
	found := cpuLine.FindSubmatch(page)
	if found == nil {
		return 0 // only some systems have it
	}
	seconds, err := strconv.ParseFloat(string(found[1]), 64)
	ts.Check(err)
	return seconds
}
