//go:build linux

// Bench measures the gateway beside its peers on one machine: OpenSSH's sshd,
// nginx before it, and no gateway at all. Rounds of all peers are interleaved,
// so that a noisy machine is noisy for everybody, and beside each wall figure
// stands the CPU time that gateway, client and origin took for it, which
// carries from one machine to another.
//
// It needs Debian's openssh-server, nginx, wrk, apache2-utils, nghttp2-client and
// curl, and as root iproute2 for the slow link. Figures have targets; a miss is printed and
// is no failure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "origin" {
		exit(serveOrigin(os.Stdin, os.Stdout))
	}
	if len(os.Args) == 5 && os.Args[1] == "bare" {
		exit(serveBare(os.Args[2], os.Args[3], os.Args[4]))
	}
	o, err := readOptions(os.Args[1:])
	if err == nil {
		err = run(o)
	}
	exit(err)
}

func exit(err error) {
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// options is the command line.
type options struct {
	adit   string         // the program under test
	admin  string         // its admin listener; "off" for none
	only   *regexp.Regexp // which cases, by name
	peers  []string       // which peers; nil: all there are
	rounds int
	dur    time.Duration // of one timed run
	json   string        // file for every single run; "" for none
	md     string        // file for the table with its preface; "" for none
}

func readOptions(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.adit, "adit", "./adit", "the `program` to measure")
	f.StringVar(&o.admin, "admin", "off", "adit's admin `address`, to take profiles from")
	only := f.String("only", "", "only the cases whose name matches this `regexp`")
	peers := f.String("peers", "", "only these peers, with commas: "+strings.Join(peerNames, ","))
	f.IntVar(&o.rounds, "rounds", 3, "interleaved rounds; figures are their medians")
	f.DurationVar(&o.dur, "dur", 1500*time.Millisecond, "length of one timed run")
	f.StringVar(&o.json, "json", "", "write every run to this `file`")
	f.StringVar(&o.md, "md", "", "write the table to this Markdown `file`")
	if err := f.Parse(args); err != nil {
		return nil, flag.ErrHelp // flag has said why
	}
	return o, o.complete(*only, *peers, f.Args())
}

// complete checks what the flags could not.
func (o *options) complete(only, peers string, rest []string) (err error) {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected %q", rest[0])
	}
	if o.rounds < 1 || o.dur < time.Second {
		return errors.New("at least -rounds 1 and -dur 1s")
	}
	if o.only, err = regexp.Compile(only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if peers == "" {
		return nil
	}
	o.peers = strings.Split(peers, ",")
	for _, p := range o.peers {
		if !has(peerNames, p) {
			return fmt.Errorf("-peers: no peer is called %q", p)
		}
	}
	return nil
}

// run measures, prints the table, and writes what was asked for.
func run(o *options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	for _, c := range cases {
		if o.only.MatchString(c.name) {
			b.measureCase(c)
		}
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	r := &report{began: b.began, took: time.Since(b.began), machine: b.machine(), runs: b.runs, rounds: o.rounds, dur: o.dur}
	return r.publish(o)
}
