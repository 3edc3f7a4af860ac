package vhost

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// specWait is how long a case of h2spec waits for one frame, as h2spec has it
// by itself. A case that fails is tried again with patience.
const specWait = 2 * time.Second

// specCase is a case of h2spec, under the id that h2spec prints: RFC 7540's
// section and a number.
type specCase struct {
	id  string
	run func(*config.Config, *spec.Conn) error
}

// specCases are those of the groups and of all below them.
func specCases(groups ...*spec.TestGroup) (all []specCase) {
	for _, g := range groups {
		for i, c := range g.Tests {
			all = append(all, specCase{fmt.Sprintf("%s/%d", g.ID(), i+1), c.Run})
		}
		all = append(all, specCases(g.Groups...)...)
	}
	return all
}

// against runs the case on a connection of its own.
func (c specCase) against(addr net.Addr, wait time.Duration) error {
	conf := &config.Config{
		Host: "127.0.0.1", Port: addr.(*net.TCPAddr).Port, Path: "/", MaxHeaderLen: 4000,
		TLS: true, Insecure: true, Timeout: wait,
	}
	conn, err := spec.Dial(conf)
	if err != nil {
		return err
	}
	defer conn.Close()
	return c.run(conf, conn)
}

// compare reports what the server at addr fails and the one at reference does
// not. What may be chance, such as an end that comes as a reset, is tried again.
func (c specCase) compare(addr, reference net.Addr) (ok bool, err error) {
	if err = c.against(addr, specWait); err == nil {
		return true, nil
	}
	if c.against(reference, specWait) != nil {
		return false, nil
	}
	for range 3 {
		if err = c.against(addr, patience); err == nil {
			return true, nil
		}
	}
	return false, err
}

// TestH2Spec holds HTTP/2 to h2spec's cases. What net/http's own server does
// otherwise, and by intent, we do as well: it takes no SETTINGS with a parameter
// twice, and passes over a Connection field rather than end the stream.
func TestH2Spec(t *testing.T) {
	t.Parallel()
	answer := func(w http.ResponseWriter, q *http.Request) { io.WriteString(w, "as long as windows need") }
	g := frontTLS(t, httpOrigin(t, answer))
	addr, err := net.ResolveTCPAddr("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewUnstartedServer(http.HandlerFunc(answer))
	plain.Config.ErrorLog = log.New(io.Discard, "", 0)
	plain.EnableHTTP2 = true
	plain.StartTLS()
	t.Cleanup(plain.Close)

	var wait sync.WaitGroup
	var passed atomic.Int32
	atOnce := make(chan bool, 16)
	for _, c := range specCases(generic.Spec(), http2.Spec(), hpack.Spec()) {
		wait.Go(func() {
			atOnce <- true
			defer func() { <-atOnce }()
			ok, err := c.compare(addr, plain.Listener.Addr())
			if err != nil && !errors.Is(err, spec.ErrSkipped) {
				t.Errorf("%s: %v", c.id, err)
			}
			if ok {
				passed.Add(1)
			}
		})
	}
	wait.Wait()
	if n := passed.Load(); n < 140 {
		t.Errorf("%d cases passed", n)
	}
}
