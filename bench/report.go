//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// quiet is the share of the machine that others may take in the median run.
const quiet = 0.05

// report is everything that one go found.
type report struct {
	began   time.Time
	took    time.Duration
	machine string
	rounds  int
	dur     time.Duration
	runs    []record
}

// publish prints the table, and writes the files that were asked for.
func (r *report) publish(o *options) error {
	t := tabulate(r.runs)
	fmt.Printf("\n%s\n%s\n", r.summary(t), t.text())
	if o.json != "" {
		if err := writeJSON(o.json, r.runs); err != nil {
			return fmt.Errorf("-json: %w", err)
		}
	}
	if o.md != "" {
		if err := os.WriteFile(o.md, []byte(r.page(t)), 0o644); err != nil {
			return fmt.Errorf("-md: %w", err)
		}
	}
	return nil
}

func writeJSON(file string, runs []record) error {
	data, err := json.MarshalIndent(runs, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// summary is the lines before the table: where, how long, how quiet, and how
// many targets were kept.
func (r *report) summary(t *table) string {
	kept, of := t.score()
	median, worst := r.others()
	advice := ""
	if median > quiet {
		advice = " That is too much: the wall figures here say little, and CPU is good to a third. Do it again on a quiet machine."
	}
	return fmt.Sprintf("%s, on %s: medians of %d interleaved rounds of %v, %v in all.\n"+
		"Programs that were none of the bench's took %.0f %% of the machine in the median run, %.0f %% in the worst.%s\n"+
		"%d of %d targets kept. In brackets: adit's figure divided by the peer's.\n",
		r.began.Format(time.DateOnly), r.machine, r.rounds, r.dur, r.took.Round(time.Second), 100*median, 100*worst, advice, kept, of)
}

// others is how much of the machine went elsewhere.
func (r *report) others() (typical, worst float64) {
	var all []float64
	for _, run := range r.runs {
		if run.Error == "" {
			all = append(all, run.Others)
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	return median(all), slices.Max(all)
}

// page is the table as a document.
func (r *report) page(t *table) string {
	return preface + "\n" + r.summary(t) + "\n" + t.text() + r.failures()
}

const preface = `# Benchmarks

` + "`make benchmarks-doc`" + ` writes this page, ` + "`make bench`" + ` prints the same table without it. Everything runs on one
machine, over loopback unless a line says otherwise: the gateway, a stock OpenSSH client, the local service behind it
(nginx for files, a small Go program for TCP and for uploads) and the load (wrk, ab, h2load, curl, and for TCP and TLS handshakes the bench itself). A machine with
few cores is shared by all of them, so req/s and MB/s say how the peers compare there; the CPU figures, which are those of one
party alone, are what to take along to another machine, if it was quiet here: beside busy neighbours they swing by a third.

| peer | what it is |
|---|---|
| adit | ` + "`adit serve`" + `, HTTP by name and TCP by port, and ` + "`ssh -N`" + ` |
| adit-tcp | HTTP through a TCP tunnel of adit's, which does not look at the requests |
| direct | no gateway: the visitor is at the local service |
| sshd | OpenSSH's server, ` + "`ssh -N -R`" + `, raw TCP |
| sshd-tt | the same with a terminal, for which OpenSSH turns Nagle's algorithm off |
| nginx+sshd | nginx before sshd's ports: HTTP by name, and over TLS, made by hand |
| bare-go | a server of golang.org/x/crypto/ssh's own parts that only lets in and greets: what a login costs in Go |
`

// failures lists what could not be measured, each once.
func (r *report) failures() string {
	var lines []string
	for _, run := range r.runs {
		if run.Error == "" {
			continue
		}
		text, _, _ := strings.Cut(run.Error, "\n")
		line := fmt.Sprintf("- %s, %s: %.200s", run.Case, run.Peer, text)
		if !has(lines, line) {
			lines = append(lines, line)
		}
	}
	if lines == nil {
		return ""
	}
	return "\nNot measured:\n\n" + strings.Join(lines, "\n") + "\n"
}

// machine says what the figures were made on.
func (b *bench) machine() string {
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	_, model, _ := strings.Cut(string(cpu), "model name")
	model, _, _ = strings.Cut(strings.TrimLeft(model, "\t :"), "\n")
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d × %s, Linux %s", strings.Count(string(cpu), "processor\t"), model, strings.TrimSpace(string(kernel)))
}
