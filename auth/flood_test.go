package auth

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tokenhub/db"
)

// flood sends wrong secrets for the IDs from as many addresses until ctx ends,
// from 64 callers, each pausing for up to 20 ms, and counts the kinds of answers.
func flood(ctx context.Context, t *testing.T, wg *sync.WaitGroup, v *Verifier, ids []string, from func(n int) netip.Addr) (kinds func() map[string]int) {
	var mu sync.Mutex
	count := map[string]int{}
	for worker := range 64 {
		wg.Go(func() {
			for n := worker; ctx.Err() == nil; n += 64 {
				_, err := v.Verify(ctx, guess(ids[n%len(ids)]), from(n))
				kind := "other"
				var refused *Refused
				switch {
				case err == nil:
					t.Error("a guess was right")
				case errors.As(err, &refused):
					kind = string(refused.Reason)
				case errors.As(err, new(*TooMany)):
					kind = "too many"
				case errors.As(err, new(*Busy)):
					kind = "busy"
				case ctx.Err() != nil:
					kind = "left"
				}
				mu.Lock()
				count[kind]++
				mu.Unlock()
				time.Sleep(time.Duration(rand.Int64N(int64(20 * time.Millisecond))))
			}
		})
	}
	return func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(count)
	}
}

// The promise of the lane, under floods of several shapes: a proven key is not
// slowed at all, the first use of another key is answered within a second, and
// wrong ones get at most five computations in any second. A flood that knows a
// hundred keys which nobody has used yet, from as many addresses, can't be told
// from a hundred first uses: there the second is what is usual, and two the bound.
func TestFloods(t *testing.T) {
	many := func(n int) netip.Addr { return addr(1000 + n) }
	for _, c := range []struct {
		name  string
		lanes int
		keys  int // known to the flood
		used  bool
		from  func(int) netip.Addr
	}{
		{"one key, one address", 1, 1, false, func(int) netip.Addr { return addr(7) }},
		{"one key, many addresses", 1, 1, false, many},
		{"ten keys, one address", 1, 10, false, func(int) netip.Addr { return addr(7) }},
		{"ten keys, many addresses", 1, 10, false, many},
		{"ten keys, many addresses, two lanes", 2, 10, false, many},
		{"a hundred keys, many addresses", 1, 100, false, many},
		{"a hundred keys, many addresses, many processors", 16, 100, false, many},
		{"a hundred keys in use, many addresses", 1, 100, true, many},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, h := newTable(), &hasher{cost: 25 * time.Millisecond}
				v := New(Options{Keys: store, Check: h.check, Lanes: c.lanes})
				proven, _ := store.mint(t)
				_, err := v.Verify(t.Context(), proven, addr(1))
				want(t, "first use in peace", err, "")
				var ids []string
				for range c.keys {
					text, id := store.mint(t)
					ids = append(ids, id)
					if c.used {
						_, err := v.Verify(t.Context(), text, addr(1))
						want(t, "first use in peace", err, "")
					}
				}
				base := h.calls.Load()
				ctx, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				kinds := flood(ctx, t, &wg, v, ids, c.from)

				slow := 0
				for i := range 25 {
					time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
					begun := time.Now()
					_, err := v.Verify(ctx, proven, c.from(0))
					want(t, "proven key", err, "")
					if d := time.Since(begun); d != 0 {
						t.Errorf("proven key took %s", d)
					}
					text, _ := store.mint(t)
					_, err = v.Verify(ctx, text, addr(100+i))
					want(t, "first use of another key", err, "")
					bound := time.Second
					if c.keys >= 100 && !c.used {
						bound = 2 * time.Second
					}
					if d := time.Since(begun); d >= time.Second {
						slow++
						if d >= bound {
							t.Errorf("first use of another key took %s", d)
						}
					}
				}
				if slow > 2 {
					t.Errorf("%d of 25 first uses took longer than a second", slow)
				}
				most := h.perSecond()
				stop()
				wg.Wait()
				time.Sleep(time.Second) // what still runs has nobody to wait for it
				if most > 5 {
					t.Errorf("%d wrong computations in a second, want at most 5", most)
				}
				if c.used && h.calls.Load()-base != 25 {
					t.Errorf("%d computations, want only those of the 25 first uses", h.calls.Load()-base)
				}
				if n := h.atOnce(); n > min(c.lanes, 3) {
					t.Errorf("%d computations at once, want at most %d", n, min(c.lanes, 3))
				}
				if n := watched(v.failures); n > watchedMax {
					t.Errorf("%d addresses watched, want at most %d", n, watchedMax)
				}
				empty(t, v.lane)
				t.Logf("at most %d wrong computations a second; the flood got %v", most, kinds())
			})
		})
	}
}

// After a restart all keys are used for the first time, many from one address
// that has failed before, without anything being refused.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, h := newTable(), &hasher{cost: 25 * time.Millisecond}
		v := New(Options{Keys: store, Check: h.check, Lanes: 3})
		_, id := store.mint(t)
		for range 9 {
			_, err := v.Verify(t.Context(), guess(id), addr(1))
			want(t, "wrong", err, "wrong")
		}
		begun := time.Now()
		var wg sync.WaitGroup
		for range 400 {
			text, _ := store.mint(t)
			for range 2 {
				wg.Go(func() {
					_, err := v.Verify(t.Context(), text, addr(1))
					want(t, "right", err, "")
				})
			}
		}
		wg.Wait()
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("400 secrets of 25 ms in three lanes took %s, want about 4 s", d)
		}
	})
}

// The bounds of failures are exact, however many come at once, and a success
// takes back what its start counted.
// Who has the new secret of a rotated key is not slowed by those who still try the
// old one. It was refused with them, for as long as they tried.
func TestOldSecretsSlowNoRenewedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, h := newTable(), &hasher{cost: 25 * time.Millisecond}
		v := New(Options{Keys: store, Check: h.check, Lanes: 2})
		old, id := store.mint(t)
		text, err := Renew(Key, id)
		if err != nil {
			t.Fatal(err)
		}
		store.mu.Lock()
		store.keys[id] = &db.Key{ID: id, Secrets: []db.Secret{{PHC: phcOf(text)}}}
		store.mu.Unlock()
		v.Renewed(text, phcOf(text))
		for n := range 50 {
			if _, err := v.Verify(t.Context(), old, addr(n)); err == nil {
				t.Fatal("the old secret opens the key")
			}
		}
		if _, err := v.Verify(t.Context(), text, addr(99)); err != nil || h.calls.Load() != 0 {
			t.Errorf("the new secret: %v after %d computations", err, h.calls.Load())
		}
		// It is no proof where somebody else was quicker.
		other, err := Renew(Key, id)
		if err != nil {
			t.Fatal(err)
		}
		v.Renewed(other, phcOf(other))
		if _, err := v.Verify(t.Context(), other, addr(99)); err == nil {
			t.Error("a secret that is not stored opens the key")
		}
	})
}

func TestFailureBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, h := newTable(), &hasher{cost: 25 * time.Millisecond}
		v := New(Options{Keys: store, Check: h.check, Lanes: 2})
		_, id := store.mint(t)
		var wg sync.WaitGroup
		var mu sync.Mutex
		wrong := 0
		shoot := func(id string, n int) {
			wg.Go(func() {
				_, err := v.Verify(t.Context(), guess(id), addr(n))
				mu.Lock()
				defer mu.Unlock()
				var refused *Refused
				if errors.As(err, &refused) {
					wrong++
				}
			})
		}
		for n := range 50 {
			shoot(id, n)
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
		if wrong != failuresPerID || h.calls.Load() != failuresPerID {
			t.Errorf("one ID: %d answers and %d computations, want %d", wrong, h.calls.Load(), failuresPerID)
		}
		time.Sleep(2 * time.Minute)
		wrong = 0
		h.calls.Store(0)
		for range 50 {
			_, id := store.mint(t)
			shoot(id, 1)
		}
		wg.Wait()
		if wrong != failuresPerAddr || h.calls.Load() != failuresPerAddr {
			t.Errorf("one address: %d answers and %d computations, want %d", wrong, h.calls.Load(), failuresPerAddr)
		}
		text, _ := store.mint(t)
		_, err := v.Verify(t.Context(), text, addr(1))
		want(t, "an unproven key at that address", err, "too many")
		_, err = v.Verify(t.Context(), text, netip.AddrFrom16(func() [16]byte { a := addr(1).As16(); a[15]++; return a }()))
		want(t, "an unproven key in the same /64", err, "too many")
		_, err = v.Verify(t.Context(), text, addr(2))
		want(t, "the same key from elsewhere", err, "")
		_, err = v.Verify(t.Context(), text, addr(1))
		want(t, "now that it is proven", err, "")
	})
}

// A full queue answers Busy, and lets in who has done nothing wrong.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, h := newTable(), &hasher{gate: make(chan struct{})}
		v := New(Options{Keys: store, Check: h.check, Lanes: 1})
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		ask := func(text string, n int, kind string) {
			wg.Go(func() {
				_, err := v.Verify(ctx, text, addr(n))
				want(t, "in the queue", err, kind)
			})
			synctest.Wait()
		}
		right, _ := store.mint(t)
		ask(right, 1, "") // runs until the gate opens
		// One key may fill its own part of the queue only.
		_, id := store.mint(t)
		for range queuePerGroup {
			ask(guess(id), 2, context.Canceled.Error())
		}
		ask(guess(id), 2, "busy")
		for v.Stats().Waiting < queueMax-1 {
			text, _ := store.mint(t)
			ask(text, 2, context.Canceled.Error())
		}
		_, suspect := store.mint(t)
		v.failures.add("th-"+suspect, Origin(addr(3)), time.Now())
		ask(guess(suspect), 3, "busy") // fills the queue; makes room below
		other, _ := store.mint(t)
		ask(other, 3, "busy") // from an address that failed
		fresh, _ := store.mint(t)
		ask(fresh, 4, context.Canceled.Error()) // drops the suspect's
		another, _ := store.mint(t)
		ask(another, 5, "busy") // nobody is suspicious any more
		if s := v.Stats(); s.Waiting != queueMax || s.Busy != 4 {
			t.Errorf("got %+v, want %d waiting and 4 busy", s, queueMax)
		}
		// The one that runs is not cut off by the others' leaving.
		h.gate <- struct{}{}
		synctest.Wait()
		stop()
		synctest.Wait()
		close(h.gate)
		wg.Wait()
		synctest.Wait()
		empty(t, v.lane)
	})
}

func TestTallyKeepsTheHot(t *testing.T) {
	f := newFailures(3, 5)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	hot := Origin(addr(0))
	for i := range 5 {
		if wait := f.add(string(rune('a'+i)), hot, now); wait != 0 {
			t.Fatalf("failure %d: wait %s", i, wait)
		}
	}
	// A crowd of others neither frees it nor takes memory.
	for i := range 3 * watchedMax {
		f.add("x", Origin(addr(1+i)), now)
		f.ids.remove("x", now)
	}
	if n := len(f.addrs.times); n > watchedMax {
		t.Errorf("%d addresses watched, want at most %d", n, watchedMax)
	}
	if wait := f.check("y", hot, now.Add(20*time.Second)); wait != 40*time.Second {
		t.Errorf("wait of the hot one: got %s, want 40s", wait)
	}
	if wait := f.check("y", hot, now.Add(time.Minute)); wait != 0 {
		t.Errorf("after a minute: got %s, want 0", wait)
	}
	// All watched ones full: no newcomer, no removal.
	full := newFailures(0, 1)
	for i := range watchedMax + 10 {
		full.add("", Origin(addr(i)), now)
	}
	if full.check("", Origin(addr(0)), now) == 0 || full.check("", Origin(addr(watchedMax+5)), now) != 0 {
		t.Error("a full one was forgotten for a newcomer")
	}
}

func TestOrigin(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:0:0:2", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
	} {
		a, b := Origin(netip.MustParseAddr(c.a)), Origin(netip.MustParseAddr(c.b))
		if (a == b) != c.same {
			t.Errorf("%s and %s: %s and %s, want same = %v", c.a, c.b, a, b, c.same)
		}
	}
	if Origin(netip.Addr{}) != (netip.Prefix{}) {
		t.Error("no address has an origin")
	}
}

func TestDenialsAreBounded(t *testing.T) {
	var d denials
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	nth := func(i int) denial { return denial{digest{byte(i), byte(i >> 8), byte(i >> 16)}, "phc"} }
	for i := range 3 * denialMax {
		d.add(nth(i), now)
		d.add(nth(i), now)
	}
	if len(d.until) != denialMax || len(d.order) != denialMax {
		t.Errorf("got %d and %d, want %d", len(d.until), len(d.order), denialMax)
	}
	if last := nth(3*denialMax - 1); !d.has(last, now.Add(59*time.Second)) || d.has(last, now.Add(time.Minute)) {
		t.Error("the newest is not denied for exactly a minute")
	}
	if d.has(nth(0), now) || d.has(denial{nth(3*denialMax - 1).digest, "other"}, now) {
		t.Error("denied what was never added, or long ago")
	}
}

// empty checks that nothing runs or waits in a lane, and nothing is left of it.
func empty(t *testing.T, l *lane) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue)+len(l.flights)+len(l.groups)+l.running != 0 {
		t.Errorf("left in the lane: %d jobs, %d flights, %d groups, %d running", len(l.queue), len(l.flights), len(l.groups), l.running)
	}
}

func watched(f *failures) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(len(f.addrs.times), len(f.ids.times))
}
