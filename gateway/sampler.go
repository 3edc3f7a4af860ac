package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// sampleTime is how long one message of a sampler keeps out others like it.
const sampleTime = time.Second

// sampler is the handler of a log that strangers can fill: of the records with
// the same message one passes in each sampleTime, the first at once. The next to
// pass says how many were left out before it.
type sampler struct {
	slog.Handler

	mu   sync.Mutex
	seen map[string]*sample // by message, which is the code's own text
}

type sample struct {
	told time.Time // when one passed
	left int       // how many have not since
}

// sampled is a logger that writes to l what a sampler lets pass.
func sampled(l *slog.Logger) *slog.Logger {
	return slog.New(&sampler{Handler: l.Handler(), seen: map[string]*sample{}})
}

// Handle implements slog.Handler.
func (s *sampler) Handle(ctx context.Context, r slog.Record) error {
	left, passes := s.pass(r.Message, r.Time)
	if !passes {
		return nil
	}
	if left > 0 {
		r.AddAttrs(slog.Int("left_out", left))
	}
	return s.Handler.Handle(ctx, r)
}

func (s *sampler) pass(message string, now time.Time) (left int, passes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.seen[message]
	if m == nil {
		m = &sample{}
		s.seen[message] = m
	}
	if now.Sub(m.told) < sampleTime {
		m.left++
		return 0, false
	}
	left, m.told, m.left = m.left, now, 0
	return left, true
}
