//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// connections is how many are open in the loads of small requests.
const connections = 64

// spent is what a load cost the process under test.
type spent struct {
	requests int64
	took     time.Duration
	cpu      time.Duration
}

func (s spent) perRequest() float64 {
	return float64(s.cpu) / float64(time.Microsecond) / float64(s.requests)
}

// plus is what two loads cost together.
func (s spent) plus(o spent) spent {
	return spent{s.requests + o.requests, s.took + o.took, s.cpu + o.cpu}
}

func (s spent) perSecond() float64 { return float64(s.requests) / s.took.Seconds() }

// meterLoad counts what happens between two moments of a load that is running:
// done is the number of requests (or chunks) so far.
func meterLoad(ctx context.Context, p *process, d time.Duration, done *atomic.Int64) (s spent, err error) {
	// A log as long as all loads would fill a small disk.
	if err := os.Truncate(p.log, 0); err != nil {
		return s, err
	}
	cpu, err := p.cpu()
	if err != nil {
		return s, err
	}
	n, begun := done.Load(), time.Now()
	if err := wait(ctx, d); err != nil {
		return s, err
	}
	s.requests, s.took = done.Load()-n, time.Since(begun)
	after, err := p.cpu()
	if err != nil {
		return s, err
	}
	s.cpu = after - cpu
	if s.requests == 0 {
		return s, errors.New("no request was answered")
	}
	return s, nil
}

// wait returns after a time, or when ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// warmup is how long a load runs before it is measured.
const warmup = 400 * time.Millisecond

// closedLoop sends requests in turn over n connections, each one as soon as
// the one before it was answered.
func closedLoop(ctx context.Context, p *process, n int, d time.Duration, requests ...[]byte) (spent, error) {
	var done, failed, turn atomic.Int64
	var firstErr atomic.Value
	var stop atomic.Bool
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			c := newClient(p.address)
			defer c.close()
			for !stop.Load() {
				if err := c.do(requests[int(turn.Add(1))%len(requests)]); err != nil {
					failed.Add(1)
					firstErr.CompareAndSwap(nil, fmt.Errorf("%w", err))
					if failed.Load() > 100 {
						return
					}
					continue
				}
				done.Add(1)
			}
		})
	}
	err := wait(ctx, warmup)
	var s spent
	if err == nil {
		s, err = meterLoad(ctx, p, d, &done)
	}
	stop.Store(true)
	workers.Wait()
	if failed.Load() > 0 {
		err = errors.Join(fmt.Errorf("%d of %d requests failed, the first with: %w", failed.Load(), done.Load()+failed.Load(), firstErr.Load().(error)), err)
	}
	return s, err
}

// openLoop sends requests at a fixed rate, whether or not the ones before were
// answered, and returns how long each took from the moment at which it should
// have been sent: a server that stalls can't slow the clock that judges it.
func openLoop(ctx context.Context, p *process, rate int, d time.Duration, request []byte) (delays []time.Duration, err error) {
	if err := os.Truncate(p.log, 0); err != nil {
		return nil, err
	}
	due := make(chan time.Time, int(d.Seconds()*float64(rate))+1)
	var mu sync.Mutex
	var workers sync.WaitGroup
	var failure error
	begun := time.Now()
	for range connections {
		workers.Go(func() {
			c := newClient(p.address)
			defer c.close()
			var mine []time.Duration
			var err error
			for intended := range due {
				if e := c.do(request); e != nil {
					err = e
					continue
				}
				if intended.Sub(begun) > warmup {
					mine = append(mine, time.Since(intended))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			delays, failure = append(delays, mine...), errors.Join(failure, err)
		})
	}
	// The runtime's timers may be late by a millisecond, the kernel's are not. The
	// thread is of no use to others while it waits.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	every := time.Second / time.Duration(rate)
	for next := begun.Add(every); next.Sub(begun) < d+warmup && ctx.Err() == nil; next = next.Add(every) {
		if pause := time.Until(next); pause > 0 {
			spec := unix.NsecToTimespec(pause.Nanoseconds())
			_ = unix.Nanosleep(&spec, nil) // when a signal cuts it short the request is early by that
		}
		due <- next
	}
	close(due)
	workers.Wait()
	if failure == nil && ctx.Err() == nil && len(delays) == 0 {
		failure = errors.New("no request was answered")
	}
	return delays, errors.Join(failure, ctx.Err())
}

// quantile is the value below which a share of the samples is.
func quantile(samples []time.Duration, share float64) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	slices.Sort(samples)
	return samples[min(len(samples)-1, int(share*float64(len(samples))))]
}

// streams are streams that are being read.
type streams struct {
	chunks  atomic.Int64
	reading atomic.Bool // whether delays are noted
	open    sync.WaitGroup
	cancel  context.CancelFunc

	mu      sync.Mutex // guards what follows
	delays  []time.Duration
	failure error
}

// openStreams opens n streams and reads them until close; each begins at its
// own time within spread, so that their chunks don't come all at once.
func openStreams(ctx context.Context, p *process, n int, spread time.Duration, request []byte) *streams {
	ctx, cancel := context.WithCancel(ctx)
	s := &streams{cancel: cancel}
	for i := range n {
		s.open.Go(func() {
			if wait(ctx, spread*time.Duration(i)/time.Duration(n)) != nil {
				return
			}
			delays, err := s.read(ctx, p, request)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.delays = append(s.delays, delays...)
			if s.failure == nil && ctx.Err() == nil {
				s.failure = err
			}
		})
	}
	return s
}

// read reads one stream to its end.
func (s *streams) read(ctx context.Context, p *process, request []byte) (delays []time.Duration, err error) {
	c := newClient(p.address)
	c.buf = make([]byte, 8<<10)
	defer c.close()
	if err := c.send(request); err != nil {
		return nil, err
	}
	conn := c.conn // which may be another one, or none, when the call comes late
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	status, _, rest, err := c.head()
	if err != nil {
		return nil, err
	}
	if status != 200 {
		return nil, fmt.Errorf("status %d: %s", status, rest)
	}
	n := copy(c.buf, rest)
	for {
		now := time.Now()
		used := 0
		for {
			end := bytes.Index(c.buf[used:n], []byte("\n\n"))
			if end < 0 {
				break
			}
			event := c.buf[used : used+end]
			used += end + 2
			if bytes.Contains(event, []byte("data: [DONE]")) {
				return delays, nil
			}
			if sent, ok := sentAt(event); ok {
				s.chunks.Add(1)
				if s.reading.Load() {
					delays = append(delays, now.Sub(sent))
				}
			}
		}
		n = copy(c.buf, c.buf[used:n])
		m, err := c.conn.Read(c.buf[n:])
		if err != nil {
			return delays, fmt.Errorf("a stream broke off: %w", err)
		}
		n += m
	}
}

// sentAt is the time that the provider wrote into an event.
func sentAt(event []byte) (time.Time, bool) {
	i := bytes.Index(event, []byte(timeMark))
	if i < 0 || len(event) < i+len(timeMark)+19 {
		return time.Time{}, false
	}
	nanos, err := strconv.ParseInt(string(event[i+len(timeMark):i+len(timeMark)+19]), 10, 64)
	return time.Unix(0, nanos), err == nil
}

// close ends the streams and returns the delays that were noted.
func (s *streams) close() ([]time.Duration, error) {
	s.cancel()
	s.open.Wait()
	return s.delays, s.failure
}
