//go:build linux

package main

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

// keepAlive asks for a page of 1 KiB over conns kept connections, with wrk.
func keepAlive(conns int) func(*bench, *peer) (figures, error) {
	return func(b *bench, p *peer) (figures, error) { return b.wrk(p, "http", p.web, conns) }
}

func (b *bench) wrk(p *peer, scheme string, s site, conns int) (figures, error) {
	stop := b.meter(p)
	out, err := b.output("wrk", "-t1", "-c"+strconv.Itoa(conns), fmt.Sprintf("-d%ds", int(math.Ceil(b.dur.Seconds()))),
		"--latency", "-H", "Host: "+s.host, scheme+"://"+s.addr+"/1k")
	cpu := stop()
	if err != nil {
		return nil, err
	}
	f, n, err := readWrk(out)
	if err == nil {
		cpu.each(f, p, n)
	}
	return f, err
}

var (
	wrkBad   = regexp.MustCompile(`Socket errors: .*|Non-2xx.*`)
	wrkCount = regexp.MustCompile(`(\d+) requests in`)
	wrkRate  = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrk50    = regexp.MustCompile(`\n\s+50%\s+(\S+)`)
	wrk99    = regexp.MustCompile(`\n\s+99%\s+(\S+)`)
)

// readWrk reads what wrk --latency prints, and gives the requests too.
func readWrk(out string) (figures, float64, error) {
	if bad := wrkBad.FindString(out); bad != "" {
		return nil, 0, fmt.Errorf("wrk: %s", bad)
	}
	f, n := figures{perSecond: value(wrkRate, out)}, value(wrkCount, out)
	for name, re := range map[string]*regexp.Regexp{p50: wrk50, p99: wrk99} {
		d, err := time.ParseDuration(first(re, out))
		if err != nil {
			return nil, 0, fmt.Errorf("wrk: %w", err)
		}
		f[name] = micros(d)
	}
	if n == 0 {
		return nil, 0, fmt.Errorf("wrk: no requests")
	}
	return f, n, nil
}

// newConnections asks n times, each on a connection of its own, with ab.
func newConnections(n, atOnce int) func(*bench, *peer) (figures, error) {
	return func(b *bench, p *peer) (figures, error) {
		stop := b.meter(p)
		out, err := b.output("ab", "-q", "-s", "10", "-n", strconv.Itoa(n), "-c", strconv.Itoa(atOnce),
			"-H", "Host: "+p.web.host, "http://"+p.web.addr+"/1k")
		cpu := stop()
		if err != nil {
			return nil, err
		}
		f, err := readAB(out, n)
		if err == nil {
			cpu.each(f, p, float64(n))
		}
		return f, err
	}
}

var (
	abDone   = regexp.MustCompile(`Complete requests:\s+(\d+)`)
	abFailed = regexp.MustCompile(`Failed requests:\s+(\d+)`)
	abBad    = regexp.MustCompile(`Non-2xx responses:\s+(\d+)`)
	abRate   = regexp.MustCompile(`Requests per second:\s+([\d.]+)`)
)

// readAB reads what ab prints. Its times are whole milliseconds, too coarse to
// be of use here.
func readAB(out string, n int) (figures, error) {
	done, failed, bad := value(abDone, out), value(abFailed, out), value(abBad, out)
	if int(done) != n || failed > 0 || bad > 0 {
		return nil, fmt.Errorf("ab: %g of %d done, %g failed, %g not 2xx", done, n, failed, bad)
	}
	return figures{perSecond: value(abRate, out)}, nil
}

func first(re *regexp.Regexp, s string) string {
	if m := re.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

func value(re *regexp.Regexp, s string) float64 {
	v, _ := strconv.ParseFloat(first(re, s), 64)
	return v
}

// download fetches the large file with curl.
func download(b *bench, p *peer) (figures, error) {
	return b.curl(p, largeFile, "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{time_total}",
		"-H", "Host: "+p.web.host, "http://"+p.web.addr+"/1g")
}

// upload sends the other one.
func upload(b *bench, p *peer) (figures, error) {
	return b.curl(p, sentFile, "-o", "/dev/null", "-w", "%{http_code} %{size_upload} %{time_total}", "-X", "POST", "-T", b.path("512m"),
		"-H", "Expect:", "-H", "Host: "+p.upload.host, "http://"+p.upload.addr+"/")
}

func (b *bench) curl(p *peer, size int, args ...string) (figures, error) {
	stop := b.meter(p)
	out, err := b.output(append([]string{"curl", "-sS", "-q", "-m", "50"}, args...)...)
	cpu := stop()
	if err != nil {
		return nil, err
	}
	var code, moved int
	var seconds float64
	if _, err := fmt.Sscan(out, &code, &moved, &seconds); err != nil {
		return nil, fmt.Errorf("curl: %w", err)
	}
	if code != 200 || moved != size {
		return nil, fmt.Errorf("curl: status %d after %d bytes", code, moved)
	}
	f := figures{rate: float64(size) / 1e6 / seconds}
	cpu.perGB(f, p, float64(size))
	return f, nil
}
