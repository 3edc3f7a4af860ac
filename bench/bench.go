//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// settle is the pause before each run, in which the last one's remains are
// worked off.
const settle = 200 * time.Millisecond

// figures are what one run gave, by the name of the figure.
type figures map[string]float64

// record is one run of one peer, as -json writes it.
type record struct {
	Case    string  `json:"case"`
	Peer    string  `json:"peer"`
	Round   int     `json:"round"`
	Figures figures `json:"figures,omitempty"`
	Error   string  `json:"error,omitempty"`
	// Others is the share of the machine that went to processes which are
	// none of the bench's, 0 to 1.
	Others float64 `json:"others"`
}

// bench is one go: what is running, and what was found so far.
type bench struct {
	*options
	ctx    context.Context
	began  time.Time
	dir    string // removed at the end
	user   string // the account that sshd's clients log in to
	key    string // the client's private key file
	origin *origin

	gateways map[string]*gateway
	standing map[string]*peer
	missing  map[string]bool // peers that could not be started, said once
	nextPort int
	runs     []record
}

// newBench makes the folder, the keys and the origin; gateways are started
// when the first case asks for them.
func newBench(ctx context.Context, o *options) (*bench, error) {
	path, err := filepath.Abs(o.adit)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: build it, or name it with -adit", err)
	}
	o.adit = path
	b := &bench{options: o, ctx: ctx, began: time.Now(), gateways: map[string]*gateway{}, standing: map[string]*peer{}, missing: map[string]bool{}}
	if err := b.prepare(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) prepare() error {
	dir, err := os.MkdirTemp("/dev/shm", "adit-bench-")
	if err != nil {
		return err
	}
	b.dir = dir
	account, err := user.Current()
	if err != nil {
		return err
	}
	b.user = account.Username
	if b.key, err = b.makeKey("id"); err != nil {
		return err
	}
	b.origin, err = b.startOrigin()
	return err
}

// makeKey makes an ed25519 key pair and gives the private key's file.
func (b *bench) makeKey(name string) (string, error) {
	file := b.path(name)
	_, err := b.output("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", file)
	return file, err
}

// path is a file of this go.
func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// close ends everything that was started, the origin last.
func (b *bench) close() {
	for _, p := range b.standing {
		p.close()
	}
	for _, g := range b.gateways {
		g.close()
	}
	if b.origin != nil {
		b.origin.close()
	}
	os.RemoveAll(b.dir)
}

// measureCase runs c for each of its peers in turn, as often as there are
// rounds; each round begins with another peer.
func (b *bench) measureCase(c *benchCase) {
	peers := slices.DeleteFunc(slices.Clone(c.peers), b.skips)
	for round := range b.rounds {
		for i := range peers {
			name := peers[(i+round)%len(peers)]
			if b.ctx.Err() != nil || b.missing[name] || b.missing[c.name+name] {
				continue
			}
			b.measureRun(c, name, round)
		}
	}
}

// skips reports whether the peer was not asked for, or has no program.
func (b *bench) skips(name string) bool {
	return len(b.peers) > 0 && !has(b.peers, name) || !installed(name)
}

// measureRun is one run, and its line.
func (b *bench) measureRun(c *benchCase, name string, round int) {
	p, err := b.peerFor(c, name)
	if err != nil {
		b.missing[c.name+name] = true
		b.note(record{Case: c.name, Peer: name, Round: round, Error: err.Error()})
		return
	}
	if c.open != nil {
		defer p.close()
	}
	time.Sleep(settle)
	machine := watchMachine()
	f, err := c.run(b, p)
	r := record{Case: c.name, Peer: name, Round: round, Figures: f, Others: machine()}
	if err != nil {
		r.Error = err.Error()
	}
	b.note(r)
}

// peerFor is the case's own peer, or the one that stands for all cases.
func (b *bench) peerFor(c *benchCase, name string) (*peer, error) {
	if c.open != nil {
		return c.open(b, name)
	}
	return b.stand(name)
}

// note keeps a run and shows it while the rest is still going on.
func (b *bench) note(r record) {
	b.runs = append(b.runs, r)
	text := r.Error
	if text == "" {
		var parts []string
		for _, name := range figureOrder {
			if v, ok := r.Figures[name]; ok {
				parts = append(parts, number(v)+" "+name)
			}
		}
		text = strings.Join(parts, ", ")
	}
	fmt.Fprintf(os.Stderr, "%4.0fs  %d  %-32s %-11s %s\n", time.Since(b.began).Seconds(), r.Round+1, r.Case, r.Peer, text)
}

func has(list []string, s string) bool { return slices.Contains(list, s) }
