package dbtest

import (
	"time"

	"tokenhub/db"
)

func testReplaces(f *fixture) {
	id := f.key(db.Limits{ConcurrentRequests: 1, RequestsPerMinute: 1, TotalTokens: 15, TotalUSD: 25})
	first := f.reserve(f.claim(id))
	next := f.claim(id)
	next.Replaces, next.Provider, next.Input, next.Output, next.OutputPrice = first.ID, "q", 3, 9, million
	second := f.reserve(next)
	if second.ID == first.ID || second.Tokens != 12 || second.Cost != 15 {
		f.Errorf("got %+v after %+v, want a reservation of its own", second, first)
	}
	if second.Minute.RequestsLeft != 0 {
		f.Errorf("%d requests are left, want 0", second.Minute.RequestsLeft)
	}
	f.same("after the exchange", f.use(id, f.now), f.usage(f.now, 1, 1, 0, 0, 12, 15))
	f.spend("p", f.now, 0, 0)
	f.spend("q", f.now, 0, 15)

	// The first one is gone: neither its release nor its settlement does anything.
	f.Store.Release(f.Context(), first)
	f.ok(f.Store.Settle(f.Context(), first, f.record(first)))
	f.same("after the old one's end", f.use(id, f.now), f.usage(f.now, 1, 1, 0, 0, 12, 15))

	// Limits on the number of requests do not stop what runs already.
	f.limit(id, db.Limits{TotalTokens: 30, TotalUSD: 50})
	extra := f.reserve(f.claim(id))
	f.limit(id, db.Limits{ConcurrentRequests: 1, RequestsPerMinute: 1, TotalTokens: 30, TotalUSD: 50})
	next.Replaces, next.Provider = second.ID, "p"
	third := f.reserve(next)
	f.refused(f.claim(id), db.LimitConcurrent)
	f.Store.Release(f.Context(), extra)

	// In a later minute the request moves there.
	next.Replaces, next.Time = third.ID, f.now.Add(time.Minute)
	fourth := f.reserve(next)
	f.same("the old minute", f.use(id, f.now).Minute, window(0, 0, 0, 0, 0, db.MinuteOf(f.now).End))
	f.same("the new minute", f.use(id, next.Time), f.usage(next.Time, 1, 1, 0, 0, 12, 15))
	f.settle(fourth, nil)
	f.same("in the end", f.use(id, next.Time), f.usage(next.Time, 0, 1, 7, 11, 0, 0))
	f.spend("p", f.now, 11, 0)
	f.spend("q", f.now, 0, 0)
}

func testReplacesRefused(f *fixture) {
	id, other := f.key(db.Limits{TotalTokens: 15, RequestsPerMinute: 5}), f.key(db.Limits{})
	rival := f.claim(other)
	rival.Provider = "q"
	f.reserve(rival)
	first := f.reserve(f.claim(id))
	next := f.claim(id)
	next.Replaces, next.Output = first.ID, 13
	refusal := f.refused(next, db.LimitTotalTokens)
	f.same("refusal", refusal, db.LimitError{Limit: db.LimitTotalTokens, Max: 15, Need: 16, Minute: first.Minute})
	next = f.claim(id)
	next.Replaces, next.Provider, next.ProviderLimit = first.ID, "q", 39
	f.refused(next, db.LimitProviderUSD)
	f.same("the old one", f.use(id, f.now), f.usage(f.now, 1, 1, 0, 0, 10, 20))
	f.spend("p", f.now, 0, 20)
	f.spend("q", f.now, 0, 20)
	// It is as good as ever.
	next.ProviderLimit = 40
	second := f.reserve(next)
	f.spend("p", f.now, 0, 0)
	f.spend("q", f.now, 0, 40)
	f.settle(second, nil)
	f.same("in the end", f.use(id, f.now), f.usage(f.now, 0, 1, 7, 11, 0, 0))
	f.spend("q", f.now, 11, 20)
}

func testReplacesNothing(f *fixture) {
	id, other := f.key(db.Limits{RequestsPerMinute: 2}), f.key(db.Limits{})
	settled := f.reserve(f.claim(id))
	f.settle(settled, nil)
	theirs := f.reserve(f.claim(other))
	c := f.claim(id)
	c.Replaces = settled.ID
	f.reserve(c)
	c.Replaces = theirs.ID
	f.refused(c, db.LimitRPM)
	f.same("usage", f.use(id, f.now), f.usage(f.now, 1, 2, 7, 11, 10, 20))
	f.same("the other key", f.use(other, f.now), f.usage(f.now, 1, 1, 0, 0, 10, 20))
}
