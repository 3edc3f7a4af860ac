package main

import (
	"context"
	"runtime/metrics"
	"time"
)

// tickTime is how often the traffic is looked at.
const tickTime = 250 * time.Millisecond

// tend lets what the runtime is set to follow the traffic until ctx ends.
func tend(ctx context.Context, m *memory, p *processors) {
	tick := time.NewTicker(tickTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.tick()
			p.tick()
		}
	}
}

// runtimeMetric is a number of the runtime's, by its name in runtime/metrics.
func runtimeMetric(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
