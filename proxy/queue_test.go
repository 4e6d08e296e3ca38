package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// line up a waiter of a key; done is told when it got its place.
func lineUp(ctx context.Context, q *queue, key string, done func(error)) {
	go func() { done(q.wait(ctx, key, time.Now())) }()
	synctest.Wait()
}

func TestKeysTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2)
		for range 2 {
			if !q.try() {
				t.Fatal("no place although nobody runs")
			}
		}
		var got []string
		for _, who := range strings.Fields("a1 a2 a3 b1 a4 c1 b2") {
			lineUp(t.Context(), q, who[:1], func(err error) { got = append(got, who) })
		}
		if q.try() {
			t.Error("somebody passed those that wait")
		}
		if running, waiting, _ := q.load(); running != 2 || waiting != 7 {
			t.Errorf("%d run and %d wait, want 2 and 7", running, waiting)
		}
		for range 7 {
			q.leave()
			synctest.Wait()
		}
		if want := "a1 b1 c1 a2 b2 a3 a4"; strings.Join(got, " ") != want {
			t.Errorf("order %v, want %s", got, want)
		}
		q.leave()
		q.leave()
		if running, waiting, since := q.load(); running != 0 || waiting != 0 || !since.IsZero() || len(q.turns)+len(q.lines) != 0 {
			t.Errorf("at the end %d run, %d wait, %d lines", running, waiting, len(q.lines))
		}
	})
}

func TestOneWhoLeavesTheQueueIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		q.try()
		began := time.Now()
		gone, leave := context.WithCancelCause(t.Context())
		var left error
		lineUp(gone, q, "a", func(err error) { left = err })
		time.Sleep(time.Second)
		got := 0
		lineUp(t.Context(), q, "b", func(error) { got++ })
		if _, waiting, since := q.load(); waiting != 2 || !since.Equal(began) {
			t.Errorf("%d wait since %v, want 2 since %v", waiting, since, began)
		}
		leave(errGone)
		synctest.Wait()
		if !errors.Is(left, errGone) {
			t.Errorf("error %v, want the cause", left)
		}
		q.leave()
		synctest.Wait()
		if running, waiting, _ := q.load(); got != 1 || running != 1 || waiting != 0 {
			t.Errorf("b got %d places; %d run, %d wait", got, running, waiting)
		}
	})
}

func TestResizeServesThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		q.try()
		var got atomic.Int32
		for range 3 {
			lineUp(t.Context(), q, "a", func(error) { got.Add(1) })
		}
		q.resize(3)
		synctest.Wait()
		if got.Load() != 2 {
			t.Errorf("%d got a place, want 2", got.Load())
		}
		q.resize(0)
		synctest.Wait()
		if running, _, _ := q.load(); got.Load() != 3 || running != 4 {
			t.Errorf("%d got a place and %d run, want 3 and 4", got.Load(), running)
		}
	})
}

// TestQueueUnderLoad: whatever the callers do, no more than the limit run, all
// get their place or leave, and nothing is left at the end.
func TestQueueUnderLoad(t *testing.T) {
	q := newQueue(3)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var running, tooMany atomic.Int32
	var all sync.WaitGroup
	for i := range 200 {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() {
			for range 20 {
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(4) == 0 {
					go cancel()
				}
				if q.wait(ctx, fmt.Sprint(i%7), time.Now()) == nil {
					if running.Add(1) > 3 {
						tooMany.Add(1)
					}
					running.Add(-1)
					q.leave()
				}
				cancel()
			}
		})
	}
	all.Wait()
	if running, waiting, _ := q.load(); running != 0 || waiting != 0 || len(q.turns)+len(q.lines) != 0 || tooMany.Load() > 0 {
		t.Errorf("%d run, %d wait, %d lines; more than 3 ran %d times", running, waiting, len(q.lines), tooMany.Load())
	}
}
