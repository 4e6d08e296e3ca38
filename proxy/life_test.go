package proxy

import (
	"context"
	"errors"
	"net/http/httptrace"
	"runtime"
	"sync"
	"testing"
	"time"
)

// began returns a life within a parent.
func began(parent context.Context) *life {
	l := &life{}
	l.within(parent)
	return l
}

func over(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return ctx.Err() != nil
	default:
		return false
	}
}

// A life ends with its parent, whatever kind of context that is, and tells why;
// its own end is none of the parent's business.
func TestLifeEndsWithItsParent(t *testing.T) {
	std, cancel := context.WithCancelCause(t.Context())
	call := began(std)
	attempt, other := began(call), began(call)
	attempt.end(errSilent)
	if !over(attempt) || over(call) || over(other) || causeOf(attempt) != errSilent || causeOf(call) != nil {
		t.Fatal("an attempt's end is not its own")
	}
	below, stop := context.WithTimeout(other, time.Hour)
	defer stop()
	cancel(errGone)
	<-below.Done()
	for _, ctx := range []context.Context{call, other, below, began(call), began(std), began(below)} {
		if !over(ctx) || causeOf(ctx) != errGone || !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("%T: over %v, %v, because %v", ctx, over(ctx), ctx.Err(), causeOf(ctx))
		}
	}
	attempt.end(errTotal)
	if causeOf(attempt) != errSilent || context.Cause(began(attempt)) != errSilent {
		t.Error("a later cause took the place of the first")
	}
}

// What waits for the end of a life is called once, in a goroutine of its own, and
// not at all after it was stopped.
func TestLifeCallsBack(t *testing.T) {
	l := began(t.Context())
	called := make(chan string, 10)
	stopped := context.AfterFunc(l, func() { called <- "stopped" })
	late := context.AfterFunc(l, func() { called <- "one" })
	if m := (&mortal{f: func() { called <- "two" }}); !l.join(m) || !l.part(m) || l.part(m) || !l.join(m) {
		t.Error("who joins can't part, once")
	}
	if !stopped() || stopped() {
		t.Error("stop says something else than what it does")
	}
	l.end(errGone)
	l.end(errDone)
	got := map[string]int{<-called: 1}
	got[<-called]++
	if late() || l.join(&mortal{}) {
		t.Error("somebody joined a life that is over, or was taken out of it")
	}
	if context.AfterFunc(l, func() { called <- "three" })() {
		t.Error("what was called at once can't be stopped")
	}
	got[<-called]++
	if len(got) != 3 || got["one"] != 1 || got["two"] != 1 || got["three"] != 1 || len(called) > 0 {
		t.Errorf("%v were called, and %d more", got, len(called))
	}
}

// The standard library waits for the end of contexts it does not know in a
// goroutine for each context that is made of them: for an attempt's it must not,
// under TLS there would be one more beside each open stream.
func TestTracedLifeNeedsNoGoroutine(t *testing.T) {
	a := &attempt{}
	a.life.within(t.Context())
	ctx := traced(a)
	if httptrace.ContextClientTrace(ctx) == nil {
		t.Fatal("nothing is traced")
	}
	before, made := runtime.NumGoroutine(), []context.Context{}
	for range 100 {
		one, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		made = append(made, one)
	}
	if now := runtime.NumGoroutine(); now > before+50 {
		t.Errorf("%d goroutines wait for 100 contexts", now-before)
	}
	a.life.end(errRevoked)
	for _, one := range made {
		<-one.Done()
		if causeOf(one) != errRevoked {
			t.Fatalf("a context ended because of %v", causeOf(one))
		}
	}
}

// Attempts and connections join and part while the call ends: each of them ends
// exactly once, by parting or by being ended.
func TestLifeInManyHands(t *testing.T) {
	for range 200 {
		call := began(t.Context())
		var ended, wg sync.WaitGroup
		start := make(chan struct{})
		const hands = 8
		ended.Add(hands)
		for i := range hands {
			attempt := began(call)
			conn := &mortal{f: func() { ended.Done() }}
			wg.Go(func() {
				<-start
				switch {
				case !attempt.join(conn), attempt.part(conn):
					ended.Done()
				}
				attempt.end(errDone)
				if i%2 == 0 {
					<-attempt.Done()
				}
			})
		}
		wg.Go(func() { <-start; call.end(errRevoked) })
		close(start)
		wg.Wait()
		ended.Wait()
		call.mu.Lock()
		if call.last != nil {
			t.Error("an attempt that is over is still in its call")
		}
		call.mu.Unlock()
	}
}
