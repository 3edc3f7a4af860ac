//go:build linux

package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{3, 1}, 2},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	var times []time.Duration
	if got := percentile(times, 99); got != 0 {
		t.Errorf("of none: %v", got)
	}
	for i := range 200 {
		times = append(times, time.Duration(i+1))
	}
	for p, want := range map[int]time.Duration{1: 2, 50: 100, 99: 198, 100: 200} {
		if got := percentile(times, p); got != want {
			t.Errorf("p%d is %d, want %d", p, got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1", 0.54: "0.54", 9.999: "10", 1.10: "1.1", 52.54: "52.5", 99.97: "100", 119600.4: "119600"} {
		if got := number(v); got != want {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
}

// runs gives one record for each value.
func runs(name, peer, figure string, values ...float64) (list []record) {
	for i, v := range values {
		list = append(list, record{Case: name, Peer: peer, Round: i, Figures: figures{figure: v}})
	}
	return list
}

func TestJudge(t *testing.T) {
	all := append(runs("a", "adit", rate, 100, 300, 200), runs("a", "sshd", rate, 90, 100, 80)...)
	m := collect(append(all, runs("b", "adit", rate, 170)...))
	for _, c := range []struct {
		name       string
		bound      bound
		text, kept string
	}{
		{"a", atLeast(200), "≥ 200", "ok"},
		{"a", atLeast(201), "≥ 201", "miss"},
		{"a", atMost(200), "≤ 200", "ok"},
		{"a", atMost(199), "≤ 199", "miss"},
		{"a", atLeast(2).times("sshd"), "≥ 2 × sshd", "ok"},
		{"a", atMost(2).times("sshd"), "≤ 2 × sshd", "miss"},
		{"b", atLeast(0.9).times("adit").in("a"), "≥ 0.9 × adit, a", "miss"},
		{"b", atLeast(1).times("sshd"), "≥ 1 × sshd", ""}, // sshd was not measured there
		{"c", atLeast(1), "≥ 1", ""},
	} {
		if got := m.judge(c.name, rate, c.bound); got != (verdict{c.text, c.kept}) {
			t.Errorf("%s %s: got %v", c.name, c.text, got)
		}
	}
}

func TestTable(t *testing.T) {
	name := tcpDown
	list := append(runs(name, "adit", rate, 500), runs(name, "sshd", rate, 400)...)
	list = append(list, runs(name, "adit", gatewayGB, 1.5)...)
	list = append(list, record{Case: name, Peer: "direct", Error: "broke"})
	table := tabulate(list)
	want := `
| case               | figure           | adit | target     |      | sshd       |
|--------------------|------------------|------|------------|------|------------|
| TCP down, 1 stream | MB/s             | 500  | ≥ 1 × sshd | ok   | 400 (1.25) |
|                    | gateway CPU s/GB | 1.5  | ≤ 1.1      | miss |            |
`
	if got := table.text(); got != want[1:] {
		t.Errorf("got\n%s", got)
	}
	if kept, of := table.score(); kept != 1 || of != 2 {
		t.Errorf("%d of %d kept", kept, of)
	}
}

// Every bound that leans on another figure must lean on one that is measured.
func TestTargets(t *testing.T) {
	peers := map[string][]string{}
	for _, c := range cases {
		peers[c.name] = c.peers
	}
	for _, c := range cases {
		for figure, b := range c.targets {
			of := b.of
			if of == "" {
				of = c.name
			}
			if b.peer != "" && !has(peers[of], b.peer) {
				t.Errorf("%s: %s is never measured at %s", c.name, b.peer, of)
			}
			if !has(figureOrder, figure) {
				t.Errorf("%s: no figure is called %s", c.name, figure)
			}
		}
	}
}

func TestReadTools(t *testing.T) {
	const wrk = "  Thread Stats   Avg\n  Latency Distribution\n     50%  123.00us\n     75%    1.00ms\n     99%    2.50ms\n  1000 requests in 1.00s, 1.2MB read\nRequests/sec:    999.50\n"
	f, n, err := readWrk(wrk)
	if err != nil || n != 1000 || f[perSecond] != 999.5 || f[p50] != 123 || f[p99] != 2500 {
		t.Errorf("wrk: %v %v %v", f, n, err)
	}
	if _, _, err := readWrk(wrk + "  Non-2xx or 3xx responses: 7\n"); err == nil {
		t.Error("wrk: refusals were taken for answers")
	}
	const ab = "Complete requests:      50\nFailed requests:        0\nRequests per second:    70.25 [#/sec] (mean)\n"
	if f, err := readAB(ab, 50); err != nil || f[perSecond] != 70.25 {
		t.Errorf("ab: %v %v", f, err)
	}
	if _, err := readAB(ab, 51); err == nil {
		t.Error("ab: a run that stopped early was taken for a whole one")
	}
}

func TestReadH2load(t *testing.T) {
	const good = "Application protocol: h2\n\nfinished in 2.00s, 9000.50 req/s, 9.5MB/s\n" +
		"requests: 18001 total, 18017 started, 18001 done, 18001 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 18001 2xx, 0 3xx, 0 4xx, 0 5xx\n"
	f, n, err := readH2load(good)
	if err != nil || n != 18001 || f[perSecond] != 9000.5 {
		t.Errorf("%v %v %v", f, n, err)
	}
	for what, bad := range map[string]string{
		"refusals":     strings.Replace(good, "0 4xx", "7 4xx", 1),
		"failures":     strings.Replace(good, "0 errored", "7 errored", 1),
		"another HTTP": strings.Replace(good, "protocol: h2", "protocol: http/1.1", 1),
	} {
		if _, _, err := readH2load(bad); err == nil {
			t.Errorf("%s were taken for answers", what)
		}
	}
}

// What goes through the delay comes out whole, in order and not too early.
func TestDelay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	const by = 30 * time.Millisecond
	d, err := newDelay(ln.Addr().String(), by)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	near, err := net.Dial("tcp", d.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	began := time.Now()
	go func() { near.Write(sent); near.(*net.TCPConn).CloseWrite() }()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
	}
	if took := time.Since(began); took < by {
		t.Errorf("it took %v", took)
	}
}

// The origin says where it is, serves, and ends with its input.
func TestOrigin(t *testing.T) {
	in, end := io.Pipe()
	out, say := io.Pipe()
	done := make(chan error)
	go func() { done <- serveOrigin(in, say) }()
	defer func() { end.Close(); <-done }()
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := askEcho(&peer{tcp: strings.Fields(string(line[:n]))[0]}, nil); err != nil {
		t.Error(err)
	}
}

// A process counts its own time, and knows what it holds.
func TestCPU(t *testing.T) {
	self := []int{os.Getpid()}
	before := takeCensus().cpu(self)
	for end := before + 0.02; takeCensus().cpu(self) < end; {
	}
	if h := holdings(self); h.kib < 1000 || h.files < 3 {
		t.Errorf("this process holds %v", h)
	}
	if clock(1<<22+1) != 0 {
		t.Error("a process that does not exist has used time")
	}
}
