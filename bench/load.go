//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// warm is how long streams run before they are counted.
const warm = 300 * time.Millisecond

// bulk moves bytes through streams TCP connections at once, from the origin
// (source) or to it (sink).
func bulk(kind byte, streams int) func(*bench, *peer) (figures, error) {
	return func(b *bench, p *peer) (figures, error) {
		return b.bulk(p, kind, streams, warm)
	}
}

// distantBulk is one stream from the origin that has had time to find its
// pace: windows that grow take some ten round trips to do it.
func distantBulk(b *bench, p *peer) (figures, error) {
	return b.bulk(p, source, 1, 2*time.Second)
}

func (b *bench) bulk(p *peer, kind byte, streams int, warm time.Duration) (figures, error) {
	s, err := startStreams(p.tcp, kind, streams)
	if err != nil {
		return nil, err
	}
	defer s.close()
	pause(b.ctx, warm)
	stop, began, before := b.meter(p), time.Now(), s.moved.Load()
	pause(b.ctx, b.dur)
	bytes, took, cpu := float64(s.moved.Load()-before), time.Since(began), stop()
	if bytes == 0 {
		return nil, errors.Join(errors.New("nothing moved"), s.failure())
	}
	f := figures{rate: bytes / 1e6 / took.Seconds()}
	cpu.perGB(f, p, bytes)
	return f, s.failure()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// streams are connections that move bytes until they are closed.
type streams struct {
	moved atomic.Int64 // bytes that have arrived at the far end
	conns []net.Conn
	wait  sync.WaitGroup
	ended atomic.Pointer[error] // why one ended before its time
	over  atomic.Bool
}

func startStreams(addr string, kind byte, n int) (*streams, error) {
	s := &streams{}
	for range n {
		c, err := ask(addr, kind, time.Minute)
		if err != nil {
			s.close()
			return nil, err
		}
		s.conns = append(s.conns, c)
	}
	for _, c := range s.conns {
		s.wait.Add(1)
		go s.serve(c, kind)
	}
	return s, nil
}

// serve moves bytes over one connection until it is closed.
func (s *streams) serve(c net.Conn, kind byte) {
	defer s.wait.Done()
	var err error
	if kind == source {
		err = s.read(c)
	} else {
		s.wait.Add(1)
		go s.write(c)
		err = s.count(c)
	}
	if !s.over.Load() {
		s.ended.Store(&err)
	}
}

func (s *streams) read(c net.Conn) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := c.Read(buf)
		s.moved.Add(int64(n))
		if err != nil {
			return err
		}
	}
}

// write ends with the connection; count tells why it ended.
func (s *streams) write(c net.Conn) {
	defer s.wait.Done()
	for buf := make([]byte, 256<<10); ; {
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

// count reads the sink's counts: only what has arrived is moved.
func (s *streams) count(c net.Conn) error {
	var total, last int64
	for b := make([]byte, 8); ; last = total {
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
		total = int64(binary.BigEndian.Uint64(b))
		s.moved.Add(total - last)
	}
}

func (s *streams) close() {
	s.over.Store(true)
	for _, c := range s.conns {
		c.Close()
	}
	s.wait.Wait()
}

func (s *streams) failure() error {
	if err := s.ended.Load(); err != nil {
		return *err
	}
	return nil
}

// manyConnections is how many are enough to time: more would only use up the
// ports of loopback.
const manyConnections = 3000

// firstByte opens connections one after the other, and times each from the
// connect to the first byte that comes back.
func firstByte(b *bench, p *peer) (figures, error) {
	stop, end := b.meter(p), time.Now().Add(b.dur)
	var times []time.Duration
	for time.Now().Before(end) && len(times) < manyConnections {
		began := time.Now()
		if err := askEcho(p, nil); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	f := latencies(times)
	stop().each(f, p, float64(len(times)))
	return f, nil
}

// askEcho opens a connection and has one byte back. The connection goes to
// keep, or is closed if that is nil.
func askEcho(p *peer, keep func(net.Conn)) error {
	c, err := ask(p.tcp, echo, 5*time.Second)
	if err != nil {
		return err
	}
	var one [1]byte
	if _, err = io.ReadFull(c, one[:]); err != nil || keep == nil {
		c.Close()
		return err
	}
	keep(c)
	return nil
}

// pingBesideUpload sends small messages to and fro while another channel of
// the same SSH connection is kept full.
func pingBesideUpload(b *bench, p *peer) (figures, error) {
	s, err := startStreams(p.tcp, sink, 1)
	if err != nil {
		return nil, err
	}
	defer s.close()
	pause(b.ctx, time.Second)
	c, err := ask(p.tcp, echo, b.dur+20*time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	began, before := time.Now(), s.moved.Load()
	times, err := pings(c, b.dur)
	if err != nil {
		return nil, err
	}
	f := latencies(times)
	f[rate] = float64(s.moved.Load()-before) / 1e6 / time.Since(began).Seconds()
	return f, s.failure()
}

// pings sends 64 bytes and waits for them, over and over.
func pings(c net.Conn, dur time.Duration) (times []time.Duration, err error) {
	msg := make([]byte, 64)
	if _, err := io.ReadFull(c, msg[:1]); err != nil { // the answer to ask
		return nil, err
	}
	for end := time.Now().Add(dur); time.Now().Before(end); {
		began := time.Now()
		if _, err := c.Write(msg); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, msg); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	return times, nil
}

func latencies(times []time.Duration) figures {
	slices.Sort(times)
	return figures{p50: micros(percentile(times, 50)), p99: micros(percentile(times, 99))}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
