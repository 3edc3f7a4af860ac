//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// The link's two ends. The far one is in a network namespace of its own.
const (
	space    = "adit-bench"
	nearHost = "10.231.7.1"
	farHost  = "10.231.7.2"
)

// shape is the link's speed, and how much it queues before it drops: what a
// home's uplink does, where that is not bad.
const shape = "tbf rate 100mbit burst 64kb latency 50ms"

// link is a slow link on this machine.
type link struct{ b *bench }

// newLink makes the namespace and the link to it. It takes root.
func newLink(b *bench) (*link, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("skipped: a slow link takes root (network namespace, tc)")
	}
	l := &link{b}
	l.close() // of a run that was killed
	for _, line := range []string{
		"ip netns add " + space,
		"ip link add aditb0 type veth peer name aditb1 netns " + space,
		"ip addr add " + nearHost + "/30 dev aditb0",
		"ip link set aditb0 up",
		"ip -n " + space + " addr add " + farHost + "/30 dev aditb1",
		"ip -n " + space + " link set aditb1 up",
		"ip -n " + space + " link set lo up",
		"tc qdisc add dev aditb0 root " + shape,
		"tc -n " + space + " qdisc add dev aditb1 root " + shape,
	} {
		if err := l.do(line); err != nil {
			l.close()
			return nil, fmt.Errorf("skipped: no slow link: %w", err)
		}
	}
	return l, nil
}

func (l *link) do(line string) error {
	words := strings.Fields(line)
	// Not the bench's context: what was made is taken away after an interrupt too.
	_, err := l.b.outputUntil(context.Background(), append([]string{program(words[0])}, words[1:]...)...)
	return err
}

// enter is the words that run a program at the far end.
func (l *link) enter() []string { return []string{program("ip"), "netns", "exec", space} }

// close takes the link away and then the namespace, which by itself would end
// only some time after the command that ends it.
func (l *link) close() {
	l.do("ip link del aditb0")
	l.do("ip netns del " + space)
}
