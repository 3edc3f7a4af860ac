package main

import (
	"context"
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
	if !gateway.Check(ctx, cfg, p.stdout) {
		return errSilent
	}
	return nil
}
