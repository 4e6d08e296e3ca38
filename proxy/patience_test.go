package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// script is a provider on the clock of the test: what it does takes the time
// that it says, and nobody has to wait for it.
type script func(ctx context.Context, r *http.Request) (*http.Response, error)

func (s script) RoundTrip(r *http.Request) (*http.Response, error) {
	return s(r.Context(), r)
}

// markConnected tells the gateway that there is a connection.
func markConnected(ctx context.Context) {
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
}

// sleep waits in the script, or until the gateway has enough.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// slow answers with events: the headers come after the first pause, and then an
// event after each of the others.
func slow(kind string, pauses ...time.Duration) script {
	return func(ctx context.Context, r *http.Request) (*http.Response, error) {
		if err := sleep(ctx, pauses[0]); err != nil {
			return nil, err
		}
		out, in := io.Pipe()
		go func() {
			for _, p := range pauses[1:] {
				if err := sleep(ctx, p); err != nil {
					_ = in.CloseWithError(err)
					return
				}
				_, _ = io.WriteString(in, "data: {\"choices\":[]}\n\n")
			}
			_ = in.Close()
		}()
		return &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{"Content-Type": {kind}}, Body: out}, nil
	}
}

func TestTimeouts(t *testing.T) {
	const stream, object = "text/event-stream", "application/json"
	hour := time.Hour
	for _, c := range []struct {
		name     string
		timeouts config.Timeouts
		does     script
		want     string // the code, or how the answer ended
		after    time.Duration
	}{
		{"long reasoning before the first byte", config.Timeouts{FirstByte: 2 * hour, Idle: time.Minute}, slow(object, 1*hour, 0), "whole", hour},
		{"long reasoning without any bound", config.Timeouts{}, slow(stream, 20*hour, 20*hour), "whole", 40 * hour},
		{"no first byte in time", config.Timeouts{FirstByte: time.Minute}, slow(stream, hour), "provider_timeout", time.Minute},
		{"headers of a body that does not come", config.Timeouts{FirstByte: time.Minute}, slow(object, 0, hour), "provider_timeout", time.Minute},
		{"the first byte is late, but not too late", config.Timeouts{FirstByte: time.Minute}, slow(object, 30*time.Second, 29*time.Second, hour), "whole", hour + 59*time.Second},
		{"pauses below idle", config.Timeouts{FirstByte: time.Minute, Idle: time.Minute}, slow(stream, 0, 59*time.Second, 59*time.Second, 59*time.Second), "whole", 177 * time.Second},
		{"silence within a stream", config.Timeouts{FirstByte: time.Minute, Idle: time.Minute}, slow(stream, 0, 30*time.Second, hour), "broken", 90 * time.Second},
		{"too long altogether", config.Timeouts{Idle: time.Minute, Total: 100 * time.Second}, slow(stream, 0, 30*time.Second, 30*time.Second, 30*time.Second, 30*time.Second), "broken", 100 * time.Second},
		{"too long before the first byte", config.Timeouts{FirstByte: time.Hour, Total: 100 * time.Second}, slow(stream, hour), "provider_timeout", 100 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, func(cfg *config.Config) { cfg.Providers[0].Timeouts = c.timeouts }, "http://a.invalid/v1")
				h.g.state.Load().providers[0].upstream = script(func(ctx context.Context, r *http.Request) (*http.Response, error) {
					markConnected(ctx)
					return c.does(ctx, r)
				})
				began := time.Now()
				r := h.ask("house")
				got := r.code
				switch {
				case r.status == 200 && r.err == nil:
					got = "whole"
				case r.status == 200:
					got = "broken"
				}
				if took := time.Since(began); got != c.want || took != c.after {
					t.Errorf("%s after %v, want %s after %v (%v)", got, took, c.want, c.after, r)
				}
			})
		})
	}
}

// TestSlowCallerIsNotASilentProvider: what the caller takes to read does not
// count as idle.
func TestSlowCallerIsNotASilentProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, func(cfg *config.Config) { cfg.Providers[0].Timeouts = config.Timeouts{Idle: time.Minute} }, "http://a.invalid/v1")
		h.g.state.Load().providers[0].upstream = slow("text/event-stream", 0, time.Second, time.Second, time.Second)
		ctx, cancel := context.WithCancelCause(t.Context())
		call := h.call("one", "/v1/chat/completions", `{"model":"house","stream":true}`)
		call.Cancel = cancel
		resp, err := h.g.Do(ctx, call)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		for {
			time.Sleep(10 * time.Minute)
			if _, err = resp.Body.Read(buf); err != nil {
				break
			}
		}
		if err != io.EOF {
			t.Errorf("the answer ended with %v, want its end", err)
		}
		_ = resp.Body.Close()
	})
}

// TestFairQueue: one key floods a provider that takes two at once; another one's
// single request is served after one of them, and who leaves is not served.
func TestFairQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, func(cfg *config.Config) {
			cfg.Providers[0].MaxConcurrency = 2
			cfg.Providers[0].Timeouts = config.Timeouts{FirstByte: time.Hour}
		}, "http://a.invalid/v1")
		h.addKey("two", db.Limits{})
		var mu sync.Mutex
		var served []string
		p := h.g.state.Load().providers[0]
		p.upstream = script(func(ctx context.Context, r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			served = append(served, strings.Split(string(body), `"`)[7])
			mu.Unlock()
			return slow("application/json", 10*time.Second, 0)(ctx, r)
		})
		start := func(ctx context.Context, key, user string) {
			go func() {
				r := h.do(ctx, h.call(key, "/v1/chat/completions", `{"model":"house","user":"`+user+`"}`))
				if r.status != 200 && !errors.Is(r.err, errGone) {
					t.Errorf("%s: %v", user, r)
				}
			}()
			synctest.Wait()
		}
		leaving, leave := context.WithCancelCause(t.Context())
		for _, user := range []string{"1", "2", "3", "4", "5", "6"} {
			ctx := t.Context()
			if user == "3" {
				ctx = leaving
			}
			start(ctx, "one", user)
		}
		start(t.Context(), "two", "x")
		if s := h.g.Providers(t.Context())[0]; s.Running != 2 || s.Waiting != 5 || !s.WaitingSince.Equal(time.Now()) {
			t.Errorf("%d run and %d wait since %v, want 2 and 5", s.Running, s.Waiting, s.WaitingSince)
		}
		if use, _ := h.store.KeyUsage(t.Context(), "one", time.Now()); use.Running != 6 {
			t.Errorf("%d requests of the key hold a reservation, want those that wait too: 6", use.Running)
		}
		leave(errGone)
		time.Sleep(time.Minute)
		synctest.Wait()
		// The two of a pair start at the same moment, in either order.
		for i, want := range [][]string{{"1", "2"}, {"4", "x"}, {"5", "6"}} {
			if len(served) != 6 || !slices.Equal(slices.Sorted(slices.Values(served[2*i:2*i+2])), want) {
				t.Fatalf("served %v, want %v as pair %d", served, want, i+1)
			}
		}
	})
}

func TestWaitForAPlaceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, func(cfg *config.Config) {
			for i := range cfg.Providers {
				cfg.Providers[i].MaxConcurrency = 1
				cfg.Providers[i].Timeouts = config.Timeouts{FirstByte: time.Minute}
			}
			cfg.Models[0].Targets = cfg.Models[0].Targets[:2]
			cfg.Models[0].Fallbacks = []string{"c-1"}
		}, "http://a.invalid/v1", "http://b.invalid/v1", "http://c.invalid/v1")
		st := h.g.state.Load()
		for _, p := range st.providers {
			p.upstream = &countingDialer{}
		}
		a, b := st.byName["a"], st.byName["b"]
		a.queue.try()
		began := time.Now()
		h.want(h.ask("house"), 200, "b") // another target of the name has room
		if time.Since(began) != 0 {
			t.Errorf("it waited %v although b had room", time.Since(began))
		}
		if r := h.ask("a-1"); r.code != "provider_timeout" || time.Since(began) != time.Minute {
			t.Errorf("%v after %v, want provider_timeout after a minute", r, time.Since(began))
		}
		b.queue.try()
		began = time.Now()
		h.want(h.ask("house"), 200, "c") // a minute at a, one at b, then the fallback
		if time.Since(began) != 2*time.Minute {
			t.Errorf("it waited %v, want 2 minutes", time.Since(began))
		}
		began = time.Now()
		time.AfterFunc(20*time.Second, a.queue.leave)
		h.want(h.ask("house"), 200, "a")
		if time.Since(began) != 20*time.Second {
			t.Errorf("it waited %v, want 20 seconds", time.Since(began))
		}
		b.queue.leave()
		if c := a.health.look("m", time.Now()); c.errors != 0 {
			t.Error("a full provider counts as failing")
		}
	})
}

// TestBurstSpreads: calls that come at the same moment go where there is room.
func TestBurstSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, func(cfg *config.Config) {
			for i := range cfg.Providers {
				cfg.Providers[i].MaxConcurrency = 1
			}
		}, "http://a.invalid/v1", "http://b.invalid/v1", "http://c.invalid/v1")
		for _, p := range h.g.state.Load().providers {
			p.upstream = slow("application/json", time.Second, 0)
		}
		began := time.Now()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if r := h.ask("house"); r.status != 200 {
					t.Errorf("%v", r)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("three calls at three targets took %v, want one second", took)
		}
	})
}

func TestReloadKeepsHealthAndQueue(t *testing.T) {
	p := newFake(t, fails(503))
	h := newHub(t, func(cfg *config.Config) { cfg.Providers[0].MaxConcurrency = 1 }, p.URL+"/v1", newFake(t, good).URL+"/v1")
	for range restAfter {
		h.want(h.ask("house"), 200, "b")
	}
	before := h.g.state.Load()
	next := *h.cfg
	next.Providers = slices.Clone(h.cfg.Providers)
	next.Routing.Strategy = byCost
	if err := h.g.SetConfig(&next); err != nil {
		t.Fatal(err)
	}
	after := h.g.state.Load()
	if after.byName["a"] != before.byName["a"] || !after.byName["a"].health.look("m", time.Now()).resting {
		t.Error("a provider that did not change lost its health")
	}
	if after.rotations["house"] != before.rotations["house"] {
		t.Error("a name that did not change lost its turn")
	}
	after.byName["a"].queue.try()
	again := next
	again.Providers = slices.Clone(next.Providers)
	again.Providers[0].MaxConcurrency = 2
	again.Providers[0].BaseURL = newFake(t, good).URL + "/v1"
	if err := h.g.SetConfig(&again); err != nil {
		t.Fatal(err)
	}
	a := h.g.state.Load().byName["a"]
	if running, _, _ := a.queue.load(); running != 1 || a.queue.full() {
		t.Errorf("the queue forgot who runs, or did not grow")
	}
	if a.health.look("m", time.Now()).resting {
		t.Error("another address has the health of the old one")
	}
	a.queue.leave()
	h.want(h.ask("house"), 200, "a")
}
