//go:build unix

package main

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// ambush waits for a gateway at one step of its order, and ends the wait there.
type ambush struct {
	step   int  // the request of this start that it waits for
	after  bool // whether the CA has answered it
	linger time.Duration
	first  int // requests before this start

	once   sync.Once
	sprung chan struct{} // closed at the step
	over   chan struct{} // closed when the gateway is dead
}

// newAmbush is the i-th: before and after the answer to each request in turn,
// and the more so behind the last one, when files are written.
func newAmbush(i, first int) *ambush {
	const steps = 14 // no order takes more requests
	return &ambush{
		step: 1 + i/2%steps, after: i%2 == 1, linger: time.Duration(i%8) * time.Millisecond,
		first: first, sprung: make(chan struct{}), over: make(chan struct{}),
	}
}

// hear is an authority's hook.
func (b *ambush) hear(n int, r *http.Request, answered bool) {
	switch got := strings.HasPrefix(r.URL.Path, "/certZ/"); {
	case got && answered:
		time.Sleep(b.linger) // spreads the kills over the writing; nothing depends on it
	case n-b.first != b.step || answered != b.after:
		return
	}
	b.once.Do(func() { close(b.sprung) })
	if !answered {
		<-b.over // this request gets no answer
	}
}

// killedCmd starts the gateway N times and kills it each time at another step
// of an order for HOST. What it has stored must be whole after each, and no
// start may have ordered twice.
func killedCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: killed N HOST [serve args]")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	for i := range n {
		forgetCertificate(ts, args[1])
		before := worldOf(ts).ca.ordered(args[1])
		killOnce(ts, i, args[2:])
		if got := worldOf(ts).ca.ordered(args[1]) - before; got > 1 {
			ts.Fatalf("start %d made %d orders", i, got)
		}
		ts.Check(wholeFiles(filepath.Join(ts.Getenv("ADIT_STATE"), "certificates")))
	}
}

// killOnce starts the gateway and kills it at the i-th ambush.
func killOnce(ts *testscript.TestScript, i int, args []string) {
	a := worldOf(ts).ca
	b := newAmbush(i, a.requests())
	a.listen(b.hear)
	defer a.listen(nil)
	_ = os.Remove(ts.MkAbs("gateway.log"))
	p := start(ts, "gateway.log", "gateway.log", "adit", serveArgs(ts, args)...)
	select {
	case <-b.sprung:
	case <-p.done:
		ts.Fatalf("start %d: the gateway ended by itself:\n%s", i, ts.ReadFile("gateway.log"))
	case <-time.After(patienceLimit):
		p.kill()
		close(b.over)
		ts.Fatalf("start %d: no order came as far as request %d:\n%s", i, b.step, ts.ReadFile("gateway.log"))
	}
	p.kill()
	close(b.over)
	a.settle() // or the order that was asked for last would count for the next start
	ts.Check(trouble(ts.MkAbs("gateway.log")))
}

// forgetCertificate removes HOST's stored certificate, so that the next start
// orders it.
func forgetCertificate(ts *testscript.TestScript, host string) {
	dirs, err := filepath.Glob(filepath.Join(ts.Getenv("ADIT_STATE"), "certificates", "certificates", "*", host))
	ts.Check(err)
	for _, dir := range dirs {
		ts.Check(os.RemoveAll(dir))
	}
}

// wholeFiles reads every file that has its final name.
func wholeFiles(dir string) error {
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return whole(file, data)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// whole reads one file, and a certificate together with its key.
func whole(file string, data []byte) error {
	switch ext := filepath.Ext(file); ext {
	case ".json":
		if !json.Valid(data) {
			return fmt.Errorf("%s is no JSON: %q", file, data)
		}
	case ".key":
		if block, rest := pem.Decode(data); block == nil || len(rest) > 0 {
			return fmt.Errorf("%s is no key", file)
		}
	case ".crt":
		if _, err := tls.LoadX509KeyPair(file, strings.TrimSuffix(file, ext)+".key"); err != nil {
			return fmt.Errorf("%s and its key: %w", file, err)
		}
	}
	return nil
}
