package dbtest

import (
	"errors"
	"sync"
	"sync/atomic"

	"tokenhub/db"
)

func testReserveParallel(f *fixture) {
	for _, tt := range limitCases(f) {
		id := f.key(tt.limits)
		if got := f.storm(func() db.Claim { return f.claim(id) }, tt.name); got != tt.room {
			f.Errorf("%s: room for %d, and %d of %d concurrent claims got it", tt.name, tt.room, got, stormSize)
		}
	}
}

// stormSize is how many claims a storm makes at once.
const stormSize = 64

// storm makes claims at once and returns how many were granted; the others were
// refused by limit.
func (f *fixture) storm(claim func() db.Claim, limit string) int64 {
	f.Helper()
	var granted atomic.Int64
	var group sync.WaitGroup
	start := make(chan struct{})
	for range stormSize {
		c := claim()
		group.Go(func() {
			<-start
			_, err := f.Store.Reserve(f.Context(), c)
			var refusal *db.LimitError
			switch {
			case err == nil:
				granted.Add(1)
			case !errors.As(err, &refusal) || refusal.Limit != limit:
				f.Errorf("got %v, want a refusal by %s", err, limit)
			}
		})
	}
	close(start)
	group.Wait()
	return granted.Load()
}

func testReserveParallelOpen(f *fixture) {
	id := f.key(db.Limits{TotalTokens: 1000, TotalUSD: 10_000})
	f.storm(func() db.Claim {
		return db.Claim{KeyID: id, Time: f.now, Input: 3, Output: 100, OpenOutput: true, OutputPrice: 7 * million, Provider: "p"}
	}, db.LimitTotalTokens)
	if total := f.use(id, f.now).Total; total.HeldTokens < 997 || total.HeldTokens > 1000 {
		f.Errorf("%d of 1000 tokens are held, want all but a rest too small for a request", total.HeldTokens)
	}
}

// testParallelTraffic lets requests come and go while others watch: at no moment
// is more used and held than the limits allow.
func testParallelTraffic(f *fixture) {
	limits := db.Limits{ConcurrentRequests: 10, TotalTokens: 4000, TotalUSD: 8000}
	id := f.key(limits)
	done := make(chan struct{})
	var watching, traffic sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			u, err := f.Store.KeyUsage(f.Context(), id, f.now)
			if err != nil || u.Running > limits.ConcurrentRequests || u.Total.Tokens+u.Total.HeldTokens > limits.TotalTokens ||
				u.Total.Cost+u.Total.HeldCost > limits.TotalUSD || u.Total.HeldTokens != 10*u.Running || u.Total.HeldCost != 20*u.Running {
				f.Errorf("got %s, %v", text(u), err)
				return
			}
		}
	})
	var settled atomic.Int64
	for worker := range 16 {
		traffic.Go(func() {
			for n := range 100 {
				r, err := f.Store.Reserve(f.Context(), f.claim(id))
				var refusal *db.LimitError
				if errors.As(err, &refusal) {
					continue
				}
				if err != nil {
					f.Error(err)
					return
				}
				if (worker+n)%5 == 0 {
					f.Store.Release(f.Context(), r)
					continue
				}
				rec := &db.Record{ID: "req", Start: r.Time, KeyID: id, Provider: "p", Status: 200, Usage: db.Usage{Input: 3, Output: 7}, Cost: 20}
				if err := f.Store.Settle(f.Context(), r, rec); err != nil {
					f.Error(err)
				}
				settled.Add(1)
			}
		})
	}
	traffic.Wait()
	close(done)
	watching.Wait()
	n := settled.Load()
	f.same("in the end", f.use(id, f.now), f.usage(f.now, 0, n, 10*n, 20*n, 0, 0))
	f.spend("p", f.now, 20*n, 0)
	if n == 0 {
		f.Error("no request was settled")
	}
}

func testProviderCapParallel(f *fixture) {
	ids := []string{f.key(db.Limits{}), f.key(db.Limits{DailyUSD: 1000}), f.key(db.Limits{}), f.key(db.Limits{RequestsPerMinute: 1000})}
	n := 0
	got := f.storm(func() db.Claim {
		n++
		c := f.claim(ids[n%len(ids)])
		c.ProviderLimit = 199
		return c
	}, db.LimitProviderUSD)
	if got != 9 {
		f.Errorf("the provider's cap has room for 9, and %d of %d concurrent claims got it", got, stormSize)
	}
	f.spend("p", f.now, 0, 180)
}
