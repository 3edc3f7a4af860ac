package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"adit/gateway"
)

// serveCmd is adit serve.
type serveCmd struct{}

// Run serves until a signal ends it.
func (serveCmd) Run(p *program, c *call) error {
	cfg, err := c.gatewayConfig(p.env)
	if err != nil {
		return err
	}
	limitMemory()
	coarseTimers()
	s := &server{program: p, call: c, out: newLogBuffer(p.stderr), processors: newProcessors()}
	defer s.out.close()
	cfg.Logger, cfg.BeforeWrite = s.logger(), s.processors.all
	s.catch() // before New, so that a signal in between is not lost
	if s.gateway, err = gateway.New(cfg); err != nil {
		return err
	}
	s.greet()
	return s.serve()
}

// server is a running gateway and the signals it is given.
type server struct {
	*program
	*call
	gateway *gateway.Gateway
	out     *logBuffer // the start block and the log
	level   slog.LevelVar
	log     *slog.Logger
	ends    chan os.Signal // SIGINT and SIGTERM
	hangups chan os.Signal // SIGHUP

	processors *processors
}

// catch has signals sent to s. Notify drops what a channel has no room for: so
// reloads, of which one that waits stands for all, have a channel of their own.
// It is for good, not stopped: a signal at the very end would end the process
// with a status of its own.
func (s *server) catch() {
	s.ends, s.hangups = make(chan os.Signal, 2), make(chan os.Signal, 1)
	signal.Notify(s.ends, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(s.hangups, syscall.SIGHUP)
	// Whoever read the log may be gone; caught, that is an error of the write,
	// which stops nothing.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}

// logger makes the log on stderr, for the gateway and for libraries that log
// to the default one.
func (s *server) logger() *slog.Logger {
	s.setLevel()
	s.log = slog.New(s.handler(s.out))
	s.out.note = s.noteLeftOut
	slog.SetDefault(s.log)
	return s.log
}

// handler writes records in the form that is set.
func (s *server) handler(to io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: &s.level}
	if s.Log == "json" {
		return slog.NewJSONHandler(to, options)
	}
	return slog.NewTextHandler(to, options)
}

// noteLeftOut writes the line that stands for those that the log lacks.
func (s *server) noteLeftOut(to io.Writer, left int, why error) {
	log := slog.New(s.handler(to))
	if why != nil {
		log.Error("log: lines were left out, they could not be written", "lines", left, "err", why)
		return
	}
	log.Error("log: lines were left out, it is read too slowly", "lines", left)
}

// setLevel gives the log the level that is set. The value was checked when it
// was read; none is slog's own default, info.
func (s *server) setLevel() {
	level := slog.LevelInfo
	_ = level.UnmarshalText([]byte(s.LogLevel))
	s.level.Set(level)
}

// greet prints the start block, and the log from then on.
func (s *server) greet() {
	s.out.start(s.gateway.Banner() + "\n")
}

// serve runs the gateway and acts on signals: the first SIGINT or SIGTERM
// ends it in peace, a second one at once.
func (s *server) serve() error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go s.runGateway(ctx, done)
	tended, over := context.WithCancel(context.Background())
	defer over()
	go tend(tended, newMemory(), s.processors)
	for {
		select {
		case err := <-done:
			return err
		case <-s.hangups:
			s.reload()
		case got := <-s.ends:
			if ctx.Err() != nil {
				return fmt.Errorf("%s again: stopped at once", got)
			}
			s.takeTwins()
			s.log.Info("told to stop", "signal", got.String())
			stop()
		}
	}
}

// takeTwins takes what came together with the first signal: timeout(1), and
// whoever signals a process and then its group, send each twice. It is over
// before anybody can see that the gateway stops.
func (s *server) takeTwins() {
	over := time.After(2 * time.Millisecond)
	for {
		select {
		case <-s.ends:
		case <-over:
			return
		}
	}
}

// runGateway is the goroutine of the gateway. serve waits for it on done,
// except after a second signal, when the process ends under it.
func (s *server) runGateway(ctx context.Context, done chan<- error) {
	done <- s.gateway.Run(ctx)
}

// reload is SIGHUP: the configuration is read again, and if it is good the
// keys too. The log says which settings cannot change without a restart and
// wait for one. Of the users' files each counts for itself, here as whenever one
// changes: one that cannot be read holds up neither the others nor the settings.
func (s *server) reload() {
	fresh, err := s.change()
	if err != nil {
		s.log.Error("reload: the configuration is bad, nothing was changed", "err", err)
		return
	}
	waiting := changedSettings(s.call, fresh)
	s.LogLevel = fresh.LogLevel
	s.setLevel()
	if len(waiting) > 0 {
		s.log.Warn("reload: some settings wait for a restart", "settings", waiting)
	}
	if err := s.gateway.Reload(); err != nil {
		s.log.Error("reload: not all users' files can be read; the settings are in force", "err", err)
		return
	}
	s.log.Info("reloaded")
}

// change reads the configuration again and hands it to the gateway. What it
// warns of was told at the start.
func (s *server) change() (*call, error) {
	again := *s.program
	again.stderr = io.Discard
	fresh, err := again.parse(io.Discard)
	if err != nil {
		return nil, err
	}
	cfg, err := fresh.gatewayConfig(s.env)
	if err != nil {
		return nil, err
	}
	return fresh, s.gateway.Change(cfg)
}

// inFlight are the settings that change without a restart.
var inFlight = []string{"log-level", "name-ttl", "max-names", "max-ports", "reserved-names",
	"park", "response-timeout", "stall-timeout", "drain"}

// changedSettings names the settings that differ and cannot change in flight.
func changedSettings(old, fresh *call) (names []string) {
	for i, flag := range old.context.Model.Flags {
		now := fresh.context.Model.Flags[i].Target.Interface()
		if !slices.Contains(inFlight, flag.Name) && flag.Target.Interface() != now {
			names = append(names, flag.Name)
		}
	}
	return names
}
