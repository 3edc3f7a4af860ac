package acme

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"github.com/miekg/dns"
)

// presentTimeout and cleanupTimeout are how long the program may take; our own
// end waits for a cleanup.
const (
	presentTimeout = 2 * time.Minute
	cleanupTimeout = 20 * time.Second
)

// hook makes records by running a program: "present|cleanup FQDN VALUE".
type hook struct{ program string }

var _ certmagic.DNSProvider = hook{}

func newHook(cfg DNSConfig) (hook, error) {
	if cfg.Exec == "" {
		return hook{}, errors.New("dns: the program to run is missing")
	}
	path, err := exec.LookPath(cfg.Exec)
	if err != nil {
		return hook{}, fmt.Errorf("dns: %w", err)
	}
	return hook{program: path}, nil
}

func (h hook) AppendRecords(ctx context.Context, zone string, recs []libdns.Record) ([]libdns.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, presentTimeout)
	defer cancel()
	return recs, h.each(ctx, "present", zone, recs)
}

func (h hook) DeleteRecords(ctx context.Context, zone string, recs []libdns.Record) ([]libdns.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	return recs, h.each(ctx, "cleanup", zone, recs)
}

func (h hook) each(ctx context.Context, verb, zone string, recs []libdns.Record) error {
	for _, rec := range recs {
		rr := rec.RR()
		fqdn := dns.Fqdn(libdns.AbsoluteName(rr.Name, zone))
		if err := h.run(ctx, verb, fqdn, rr.Data); err != nil {
			return err
		}
	}
	return nil
}

// run runs the program once. What it prints is told only when it fails.
func (h hook) run(ctx context.Context, args ...string) error {
	out := &limited{} // one for both: exec then copies in one goroutine
	cmd := exec.CommandContext(ctx, h.program, args...)
	cmd.Env = environment(os.Environ())
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second // a child of its own may hold the output open
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s %s: %w: %s", h.program, args[0], args[1], err, clean(strings.TrimSpace(string(out.first))))
	}
	return nil
}

// environment is env without our own settings, some of which are secrets.
func environment(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, "ADIT_") })
}

// limited keeps the first maxText bytes and swallows the rest.
type limited struct{ first []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.first = append(l.first, p[:min(len(p), maxText-len(l.first))]...)
	return len(p), nil
}
