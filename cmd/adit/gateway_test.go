//go:build unix

package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// gatewayCmd starts the gateway, or does something to it.
func gatewayCmd(ts *testscript.TestScript, neg bool, args []string) {
	verb, rest := "", args
	if len(args) > 0 && !strings.HasPrefix(args[0], "--") {
		verb, rest = args[0], args[1:]
	}
	switch verb {
	case "":
		startGateway(ts, neg, args)
	case "-stop":
		ts.Check(gatewayOf(ts).stop(signalOf(ts, append(rest, "SIGTERM")[0]), 0))
	case "-kill":
		gatewayOf(ts).kill()
		ts.Check(trouble(ts.MkAbs("gateway.log")))
	case "-signal":
		gatewayOf(ts).signal(signalOf(ts, rest[0]))
	case "-ends":
		want, err := strconv.Atoi(rest[0])
		ts.Check(err)
		got, err := gatewayOf(ts).ended()
		ts.Check(err)
		if got != want {
			ts.Fatalf("the gateway ended with status %d", got)
		}
		ts.Check(trouble(ts.MkAbs("gateway.log")))
	default:
		ts.Fatalf("gateway: %s?", verb)
	}
	if p := rigOf(ts).gateway; p != nil && !p.alive() {
		rigOf(ts).gateway = nil
	}
}

// gatewayOf is the running gateway.
func gatewayOf(ts *testscript.TestScript) *process {
	p := rigOf(ts).gateway
	if p == nil {
		ts.Fatalf("no gateway runs")
	}
	return p
}

// startGateway runs adit serve on the script's ports, but where args have
// others, and waits until it serves. Negated: until it has failed.
func startGateway(ts *testscript.TestScript, neg bool, args []string) {
	r := rigOf(ts)
	if r.gateway != nil {
		ts.Fatalf("a gateway runs already")
	}
	_ = os.Remove(ts.MkAbs("gateway.log")) // of a gateway before, looked at when it ended
	r.gateway = start(ts, "gateway.log", "gateway.log", "adit", serveArgs(ts, args)...)
	ts.Setenv("GATEWAY_PID", fmt.Sprint(r.gateway.cmd.Process.Pid))
	health := healthURL(ts)
	healthy := poll(func() bool { return !r.gateway.alive() || answers(health) }) && r.gateway.alive()
	if healthy == neg {
		ts.Fatalf("gateway is healthy: %v\n%s", healthy, r.gatewayLog())
	}
}

// serveArgs is the gateway of one script: alone on its ports of the loopback,
// unless args say otherwise.
func serveArgs(ts *testscript.TestScript, args []string) []string {
	loopback := func(port string) string { return "127.0.0.1:" + ts.Getenv(port) }
	all := append([]string{"serve"}, args...)
	for _, flag := range [][2]string{
		{"--ssh", loopback("SSH_PORT")}, {"--http", loopback("HTTP_PORT")}, {"--https", "off"}, {"--admin", loopback("ADMIN_PORT")},
		{"--tcp-host", "127.0.0.1"}, {"--tcp-ports", ts.Getenv("TCP_LO") + "-" + ts.Getenv("TCP_HI")}, {"--log-level", "debug"},
	} {
		if !slices.Contains(args, flag[0]) {
			all = append(all, flag[:]...)
		}
	}
	return all
}

func healthURL(ts *testscript.TestScript) string {
	return "http://127.0.0.1:" + ts.Getenv("ADMIN_PORT") + "/healthz"
}

// client keeps no connection, which would count among what a gateway has open.
var client = &http.Client{Timeout: patienceLimit, Transport: &http.Transport{DisableKeepAlives: true}}

// answers reports whether url is answered with 200.
func answers(url string) bool {
	response, err := client.Get(url)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// gatewayLog is what the gateway has said, for a failure's message.
func (r *rig) gatewayLog() string {
	if r.gateway == nil {
		return ""
	}
	data, _ := os.ReadFile(r.gateway.out[0].Name())
	const tail = 8000
	return "gateway.log: " + string(data[max(0, len(data)-tail):])
}

// usage is what a gateway holds that it must give back.
type usage struct{ goroutines, descriptors int }

// usageOf asks the gateway's profile and the kernel (Linux; elsewhere no
// descriptors are counted).
func usageOf(ts *testscript.TestScript) (u usage, err error) {
	response, err := client.Get("http://127.0.0.1:" + ts.Getenv("ADMIN_PORT") + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return u, err
	}
	defer response.Body.Close()
	_, err = fmt.Fscanf(response.Body, "goroutine profile: total %d", &u.goroutines)
	open, dirErr := os.ReadDir(fmt.Sprintf("/proc/%d/fd", gatewayOf(ts).cmd.Process.Pid))
	if !errors.Is(dirErr, os.ErrNotExist) {
		err = errors.Join(err, dirErr)
	}
	u.descriptors = len(open)
	return u, err
}

// baseline notes the usage once two readings 200 ms apart agree.
func baseline(ts *testscript.TestScript, neg bool, args []string) {
	r := rigOf(ts)
	steady := poll(func() bool {
		before := r.before
		var err error
		r.before, err = usageOf(ts)
		ts.Check(err)
		time.Sleep(200 * time.Millisecond)
		return r.before == before
	})
	if !steady {
		ts.Fatalf("usage does not come to rest: %+v", r.before)
	}
}

// settled waits until the gateway holds no more than at the baseline.
func settled(ts *testscript.TestScript, neg bool, args []string) {
	var now usage
	before := rigOf(ts).before
	if poll(func() bool {
		var err error
		now, err = usageOf(ts)
		ts.Check(err)
		return now.goroutines <= before.goroutines && now.descriptors <= before.descriptors
	}) {
		return
	}
	gatewayOf(ts).signal(syscall.SIGQUIT) // its goroutines, into the log
	_, _ = gatewayOf(ts).ended()
	ts.Fatalf("the gateway held %+v and now holds %+v\n%s", before, now, rigOf(ts).gatewayLog())
}
