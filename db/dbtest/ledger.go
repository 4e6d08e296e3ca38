package dbtest

import (
	"sync"
	"time"

	"tokenhub/db"
)

func testSettle(f *fixture) {
	id := f.key(db.Limits{TotalTokens: 30, TotalUSD: 100})
	less, more, unpriced := f.reserve(f.claim(id)), f.reserve(f.claim(id)), f.reserve(f.claim(id))
	f.refused(f.claim(id), db.LimitTotalTokens)
	f.settle(less, nil)
	f.same("less than reserved", f.use(id, f.now), f.usage(f.now, 2, 3, 7, 11, 20, 40))
	f.spend("p", f.now, 11, 40)
	// The truth lands above a limit too.
	f.settle(more, func(rec *db.Record) { rec.Usage = db.Usage{Input: 100, Output: 200}; rec.Cost = 500 })
	f.same("more than the limit", f.use(id, f.now), f.usage(f.now, 1, 3, 307, 511, 10, 20))
	f.refused(f.claim(id), db.LimitTotalTokens)
	f.settle(unpriced, func(rec *db.Record) { rec.Cost = db.UnknownCost })
	f.same("without a price", f.use(id, f.now), f.usage(f.now, 0, 3, 314, 511, 0, 0))
	f.spend("p", f.now, 511, 0)
}

func testSettleOnce(f *fixture) {
	id := f.key(db.Limits{})
	r := f.reserve(f.claim(id))
	rec := f.settle(r, nil)
	again := *rec
	again.Usage.Input, again.Cost = 1000, 1000
	f.ok(f.Store.Settle(f.Context(), r, &again))
	f.Store.Release(f.Context(), r)
	want := f.usage(f.now, 0, 1, 7, 11, 0, 0)
	f.same("settled twice, then released", f.use(id, f.now), want)

	r = f.reserve(f.claim(id))
	var group sync.WaitGroup
	for range 16 {
		rec := f.record(r)
		group.Go(func() {
			if err := f.Store.Settle(f.Context(), r, rec); err != nil {
				f.Error(err)
			}
		})
	}
	group.Wait()
	f.same("settled by many at once", f.use(id, f.now), f.usage(f.now, 0, 2, 14, 22, 0, 0))
	f.spend("p", f.now, 22, 0)
	recs, _, err := f.Store.Requests(f.Context(), db.RequestQuery{Key: id})
	f.ok(err)
	if len(recs) != 2 {
		f.Errorf("%d records are in the log, want 2: %s", len(recs), text(recs))
	}
	rows, err := f.Store.Usage(f.Context(), db.UsageQuery{From: f.now.Truncate(time.Hour), To: f.now.Add(time.Hour).Truncate(time.Hour)})
	f.ok(err)
	if len(rows) != 1 || rows[0].Requests != 2 || rows[0].Cost != 22 {
		f.Errorf("got %s, want two requests", text(rows))
	}
}

// testSettleLate settles when the windows of the reservation are over.
func testSettleLate(f *fixture) {
	id := f.key(db.Limits{DailyTokens: 10, MonthlyTokens: 100})
	r := f.reserve(f.claim(id))
	day := db.DayOf(f.now, f.Zone)
	next := f.claim(id)
	next.Time = day.End.Add(time.Hour)
	today := f.reserve(next)
	f.settle(r, func(rec *db.Record) { rec.Usage = db.Usage{Input: 50} })
	u := f.use(id, next.Time)
	f.same("today", u.Day, window(1, 0, 0, 10, 20, db.DayOf(next.Time, f.Zone).End))
	f.same("the month", u.Month, window(2, 50, 11, 10, 20, db.MonthOf(next.Time, f.Zone).End))
	f.same("yesterday", f.use(id, f.now).Day, window(1, 50, 11, 0, 0, day.End))
	f.settle(today, nil)
	f.restart()
	u = f.use(id, next.Time)
	f.same("today, after a restart", u.Day, window(1, 7, 11, 0, 0, db.DayOf(next.Time, f.Zone).End))
	f.same("the total, after a restart", u.Total, window(2, 57, 22, 0, 0, time.Time{}))
}

func testRelease(f *fixture) {
	id := f.key(db.Limits{RequestsPerMinute: 1, ConcurrentRequests: 1, DailyTokens: 10, DailyUSD: 20})
	for range 3 {
		c := f.claim(id)
		c.ProviderLimit = 20
		r := f.reserve(c)
		f.spend("p", f.now, 0, 20)
		f.Store.Release(f.Context(), r)
		f.Store.Release(f.Context(), r)
		f.same("as if it had never been", f.use(id, f.now), f.usage(f.now, 0, 0, 0, 0, 0, 0))
		f.spend("p", f.now, 0, 0)
	}
	recs, _, err := f.Store.Requests(f.Context(), db.RequestQuery{})
	f.ok(err)
	if len(recs) != 0 {
		f.Errorf("the log of requests holds %s", text(recs))
	}
}

func testNote(f *fixture) {
	id := f.key(db.Limits{RequestsPerMinute: 1, ConcurrentRequests: 1})
	r := f.reserve(f.claim(id))
	note := f.record(r)
	note.Status, note.Usage, note.Cost, note.Source, note.Error = 0, db.Usage{}, 0, "", "connect"
	f.ok(f.Store.Note(f.Context(), note))
	f.same("a note does not count in limits", f.use(id, f.now), f.usage(f.now, 1, 1, 0, 0, 10, 20))
	f.spend("p", f.now, 0, 20)
	answer := f.settle(r, func(rec *db.Record) { rec.ID, rec.Attempt = note.ID, 2 })
	for range 2 {
		recs, _, err := f.Store.Requests(f.Context(), db.RequestQuery{ID: note.ID})
		f.ok(err)
		f.same("the log", recs, []*db.Record{answer, note})
		rows, err := f.Store.Usage(f.Context(), db.UsageQuery{From: f.now.Truncate(time.Hour), To: f.now.Add(time.Hour).Truncate(time.Hour), GroupBy: []string{"key"}})
		f.ok(err)
		f.same("the roll-up", rows, []db.UsageRow{{Key: id, Sums: db.Sums{Requests: 2, Errors: 1, Usage: answer.Usage, Cost: 11}}})
		f.same("day and total", f.use(id, f.now).Day, window(1, 7, 11, 0, 0, db.DayOf(f.now, f.Zone).End))
		f.spend("p", f.now, 11, 0)
		f.restart()
	}
}

func testKeyUsage(f *fixture) {
	id, other := f.key(db.Limits{}), f.key(db.Limits{})
	f.same("a new key", f.use(id, f.now), f.usage(f.now, 0, 0, 0, 0, 0, 0))
	f.reserve(f.claim(other))
	r := f.reserve(f.claim(id))
	f.settle(f.reserve(f.claim(id)), nil)
	f.same("one runs, one is done", f.use(id, f.now), f.usage(f.now, 1, 2, 7, 11, 10, 20))
	// To look at another time changes nothing.
	far := f.now.AddDate(1, 0, 0)
	f.same("next year", f.use(id, far).Month, window(0, 0, 0, 0, 0, db.MonthOf(far, f.Zone).End))
	f.same("next year, in all", f.use(id, far).Total, window(2, 7, 11, 10, 20, time.Time{}))
	f.same("now, again", f.use(id, f.now), f.usage(f.now, 1, 2, 7, 11, 10, 20))
	f.Store.Release(f.Context(), r)
	f.same("one is done", f.use(id, f.now), f.usage(f.now, 0, 1, 7, 11, 0, 0))
}

func testWatchUsage(f *fixture) {
	id, other := f.key(db.Limits{}), f.key(db.Limits{})
	type told struct {
		id  string
		use db.KeyUsage
	}
	seen := make(chan told, 10)
	stop := f.Store.WatchUsage(func(id string, u db.KeyUsage) { seen <- told{id, u} })
	r := f.reserve(f.claim(id))
	running := f.reserve(f.claim(id))
	f.settle(r, nil)
	f.same("the first", receive(f, seen).use.Total, window(2, 7, 11, 10, 20, time.Time{}))
	f.settle(f.reserve(f.claim(other)), nil)
	if got := receive(f, seen); got.id != other || got.use.Total.Tokens != 7 {
		f.Errorf("got %s with %s, want the other key", got.id, text(got.use))
	}
	// Only a settlement is told, and each once.
	f.ok(f.Store.Settle(f.Context(), r, f.record(r)))
	f.Store.Release(f.Context(), running)
	f.settle(f.reserve(f.claim(id)), nil)
	if got := receive(f, seen); got.id != id || got.use.Total.Tokens != 14 || got.use.Running != 0 {
		f.Errorf("got %s with %s, want the second settlement", got.id, text(got.use))
	}
	stop()
	after := make(chan told, 10)
	defer f.Store.WatchUsage(func(id string, u db.KeyUsage) { after <- told{id, u} })()
	f.settle(f.reserve(f.claim(id)), nil)
	receive(f, after)
	if len(seen) != 0 {
		f.Error("a watcher was called after stop")
	}
}
