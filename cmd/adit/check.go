package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"adit/gateway"
)

// checkCmd is adit check.
type checkCmd struct{}

// Run prints what serve would find, and fails if anything would stop it. The
// configuration itself is good by now: a bad one was refused when it was read.
func (checkCmd) Run(p *program, c *call) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cfg, err := c.gatewayConfig(p.env)
	if err != nil {
		return err
	}
	out := &errorKeeper{to: p.stdout}
	good := gateway.Check(ctx, cfg, out)
	if out.err != nil {
		return fmt.Errorf("check: not all could be said: %w", out.err)
	}
	if !good {
		return errSilent
	}
	return nil
}

// errorKeeper keeps the first error of its writes, after which it writes no more.
type errorKeeper struct {
	to  io.Writer
	err error
}

func (k *errorKeeper) Write(p []byte) (n int, err error) {
	if k.err == nil {
		n, k.err = k.to.Write(p)
	}
	return n, k.err
}
