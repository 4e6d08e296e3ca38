package dbtest

import (
	"math"
	"time"

	"tokenhub/db"
)

// limitCase is a limit with room for exactly room of the fixture's claims (10
// tokens and 20 micro-dollars each).
type limitCase struct {
	name   string
	limits db.Limits
	room   int64
	// refusal is what the next claim is told, while all of them run.
	refusal db.LimitError
}

func limitCases(f *fixture) []limitCase {
	minute, day, month := db.MinuteOf(f.now).End, db.DayOf(f.now, f.Zone).End, db.MonthOf(f.now, f.Zone).End
	return []limitCase{
		{db.LimitConcurrent, db.Limits{ConcurrentRequests: 5}, 5, db.LimitError{Max: 5, Held: 5, Need: 1}},
		{db.LimitRPM, db.Limits{RequestsPerMinute: 7}, 7, db.LimitError{Max: 7, Used: 7, Need: 1, Resets: minute}},
		{db.LimitTPM, db.Limits{TokensPerMinute: 69}, 6, db.LimitError{Max: 69, Held: 60, Need: 10, Resets: minute}},
		{db.LimitDayTokens, db.Limits{DailyTokens: 50}, 5, db.LimitError{Max: 50, Held: 50, Need: 10, Resets: day}},
		{db.LimitMonthTokens, db.Limits{MonthlyTokens: 99}, 9, db.LimitError{Max: 99, Held: 90, Need: 10, Resets: month}},
		{db.LimitTotalTokens, db.Limits{TotalTokens: 10}, 1, db.LimitError{Max: 10, Held: 10, Need: 10}},
		{db.LimitDayUSD, db.Limits{DailyUSD: 100}, 5, db.LimitError{Max: 100, Held: 100, Need: 20, Resets: day}},
		{db.LimitMonthUSD, db.Limits{MonthlyUSD: 139}, 6, db.LimitError{Max: 139, Held: 120, Need: 20, Resets: month}},
		{db.LimitTotalUSD, db.Limits{TotalUSD: 79}, 3, db.LimitError{Max: 79, Held: 60, Need: 20}},
	}
}

func testLimits(f *fixture) {
	for _, tt := range limitCases(f) {
		id := f.key(tt.limits)
		var held []db.Reservation
		for n := range tt.room {
			r := f.reserve(f.claim(id))
			if r.Tokens != 10 || r.Cost != 20 {
				f.Fatalf("%s: %d tokens and %d micro-dollars are held, want 10 and 20", tt.name, r.Tokens, r.Cost)
			}
			minute := db.MinuteState{RequestLimit: tt.limits.RequestsPerMinute, TokenLimit: tt.limits.TokensPerMinute, Reset: db.MinuteOf(f.now).End}
			minute.RequestsLeft = max(0, minute.RequestLimit-n-1)
			minute.TokensLeft = max(0, minute.TokenLimit-10*(n+1))
			f.same(tt.name+": minute", r.Minute, minute)
			held = append(held, r)
		}
		f.same(tt.name, f.use(id, f.now), f.usage(f.now, tt.room, tt.room, 0, 0, 10*tt.room, 20*tt.room))
		refusal := f.refused(f.claim(id), tt.name)
		want := tt.refusal
		want.Limit = tt.name
		want.Minute = held[len(held)-1].Minute
		f.same(tt.name+": refusal", refusal, want)
		// One that goes makes room for one.
		f.Store.Release(f.Context(), held[0])
		f.reserve(f.claim(id))
		f.refused(f.claim(id), tt.name)
	}
}

func testReserveUnknownKey(f *fixture) {
	_, err := f.Store.Reserve(f.Context(), f.claim("nobody"))
	f.is("reserve for a key that is not there", err, db.ErrNotFound)
	_, err = f.Store.KeyUsage(f.Context(), "nobody", f.now)
	f.is("usage of a key that is not there", err, db.ErrNotFound)
	f.spend("p", f.now, 0, 0)
}

func testReserveNoLimits(f *fixture) {
	id := f.key(db.Limits{MaxTokensPerRequest: 1}) // which is not the ledger's to hold
	c := f.claim(id)
	c.Output = math.MaxInt64 - 100
	c.OutputPrice = 1
	r := f.reserve(c)
	if r.Tokens != math.MaxInt64-97 || r.Cost != (math.MaxInt64-100)/million+1+6 {
		f.Errorf("got %d tokens and %d micro-dollars", r.Tokens, r.Cost)
	}
	f.same("minute", r.Minute, db.MinuteState{Reset: db.MinuteOf(f.now).End})
	f.Store.Release(f.Context(), r)
	f.same("afterwards", f.use(id, f.now), f.usage(f.now, 0, 0, 0, 0, 0, 0))
}

func testOpenOutput(f *fixture) {
	id := f.key(db.Limits{DailyTokens: 100, TotalUSD: 150})
	open := f.claim(id)
	open.Output, open.OpenOutput = 60, true
	// 63 tokens, and 6 + 120 micro-dollars.
	if r := f.reserve(open); r.Tokens != 63 || r.Cost != 126 {
		f.Errorf("got %d tokens and %d micro-dollars, want all that was asked for", r.Tokens, r.Cost)
	}
	// 24 micro-dollars are left: 18 for 9 tokens of output.
	if r := f.reserve(open); r.Tokens != 12 || r.Cost != 24 {
		f.Errorf("got %d tokens and %d micro-dollars, want what the dollars pay", r.Tokens, r.Cost)
	}
	if refusal := f.refused(open, db.LimitTotalUSD); refusal.Need != 8 {
		f.Errorf("got a need of %d, want the least that makes sense, 8", refusal.Need)
	}
	f.limit(id, db.Limits{DailyTokens: 100})
	if r := f.reserve(open); r.Tokens != 25 {
		f.Errorf("got %d tokens, want the room left", r.Tokens)
	}
	if refusal := f.refused(open, db.LimitDayTokens); refusal.Need != 4 {
		f.Errorf("got a need of %d, want the input and one token", refusal.Need)
	}
}

func testWindows(f *fixture) {
	id := f.key(db.Limits{RequestsPerMinute: 2, DailyTokens: 40, MonthlyTokens: 60, TotalTokens: 70})
	at := func(t time.Time) db.Claim {
		c := f.claim(id)
		c.Time = t
		return c
	}
	full := func(r db.Reservation) {
		f.settle(r, func(rec *db.Record) { rec.Usage = db.Usage{Input: 3, Output: 7} })
	}
	day, month := db.DayOf(f.now, f.Zone), db.MonthOf(f.now, f.Zone)

	minute := db.MinuteOf(f.now)
	running := f.reserve(at(minute.Start))
	full(f.reserve(at(minute.End.Add(-1))))
	f.refused(at(minute.End.Add(-1)), db.LimitRPM)
	// The next minute is empty, though a request of this one still runs.
	full(f.reserve(at(minute.End)))
	full(f.reserve(at(minute.End)))
	f.refused(at(minute.End), db.LimitRPM)
	// The day is full with the four.
	f.refused(at(day.End.Add(-1)), db.LimitDayTokens)
	f.same("the day", f.use(id, day.End.Add(-1)).Day, window(4, 30, 33, 10, 20, day.End))

	next := db.DayOf(day.End, f.Zone)
	full(f.reserve(at(day.End)))
	full(f.reserve(at(next.End.Add(-1))))
	f.refused(at(next.End), db.LimitMonthTokens)
	f.same("the month", f.use(id, next.End).Month, window(6, 50, 55, 10, 20, month.End))
	f.same("a day without requests", f.use(id, next.End).Day, window(0, 0, 0, 0, 0, db.DayOf(next.End, f.Zone).End))
	full(f.reserve(at(month.End)))
	f.refused(at(db.MonthOf(month.End, f.Zone).End), db.LimitTotalTokens)
	// What still ran counts where it was reserved.
	f.settle(running, func(rec *db.Record) { rec.Usage = db.Usage{Input: 1}; rec.Cost = 1 })
	f.same("in all", f.use(id, month.End).Total, window(7, 61, 67, 0, 0, time.Time{}))
	f.same("the last month", f.use(id, month.End).Month, window(1, 10, 11, 0, 0, db.MonthOf(month.End, f.Zone).End))
}

func testClockSetBack(f *fixture) {
	id := f.key(db.Limits{RequestsPerMinute: 1, DailyTokens: 20})
	at := func(t time.Time) db.Claim {
		c := f.claim(id)
		c.Time = t
		return c
	}
	minute := db.MinuteOf(f.now)
	first := f.reserve(at(minute.End.Add(-time.Second)))
	f.reserve(at(minute.End))
	// The clock goes back by some seconds: the minute before is still full.
	f.refused(at(minute.End.Add(-2*time.Second)), db.LimitRPM)
	f.Store.Release(f.Context(), first)
	f.reserve(at(minute.End.Add(-2 * time.Second)))
	f.refused(at(minute.End.Add(time.Second)), db.LimitRPM)
	f.same("the minute", f.use(id, minute.End).Minute, window(1, 0, 0, 10, 20, minute.End.Add(time.Minute)))
	// Back over midnight, and forth again.
	day := db.DayOf(f.now, f.Zone)
	f.reserve(at(day.End))
	f.refused(at(day.End.Add(-time.Minute)), db.LimitDayTokens)
	f.same("the next day", f.use(id, day.End).Day, window(1, 0, 0, 10, 20, db.DayOf(day.End, f.Zone).End))
	f.same("the total", f.use(id, day.End).Total, window(3, 0, 0, 30, 60, time.Time{}))
}

// A clock that is set back by hours finds minutes that nobody used, not one that
// stays full until it is there again.
func testClockSetBackHours(f *fixture) {
	id := f.key(db.Limits{RequestsPerMinute: 2})
	at := func(t time.Time) db.Claim {
		c := f.claim(id)
		c.Time = t
		return c
	}
	now := db.MinuteOf(f.now).Start
	var held []db.Reservation
	for range 5 {
		held = append(held, f.reserve(at(now)), f.reserve(at(now)))
		f.refused(at(now), db.LimitRPM)
		now = now.Add(time.Minute)
	}
	back := now.Add(-2 * time.Hour)
	for range 3 {
		f.same("a minute before its first claim", f.use(id, back).Minute, window(0, 0, 0, 0, 0, db.MinuteOf(back).End))
		f.reserve(at(back))
		f.reserve(at(back.Add(time.Second)))
		f.refused(at(back.Add(2*time.Second)), db.LimitRPM)
		back = back.Add(time.Minute)
	}
	f.refused(at(back.Add(-time.Second)), db.LimitRPM)
	// What ran when the clock was set ends as ever.
	minute := f.use(id, back).Minute
	f.settle(held[0], nil)
	f.Store.Release(f.Context(), held[1])
	for _, r := range held[2:] {
		f.settle(r, nil)
	}
	u := f.use(id, back)
	f.same("the minute", u.Minute, minute)
	f.same("the total", u.Total, window(15, 9*7, 9*11, 60, 120, time.Time{}))
	if u.Running != 6 {
		f.Errorf("%d are running, want 6", u.Running)
	}
}

// testLateFailover: a request that goes on elsewhere long after it began takes no
// minute away from others.
func testLateFailover(f *fixture) {
	id := f.key(db.Limits{RequestsPerMinute: 2})
	at := func(t time.Time) db.Claim {
		c := f.claim(id)
		c.Time = t
		return c
	}
	begun := db.MinuteOf(f.now).Start
	r := f.reserve(at(begun))
	now := begun.Add(10 * time.Minute)
	for range 3 {
		f.reserve(at(now))
		f.reserve(at(now))
		now = now.Add(time.Minute)
	}
	now = now.Add(-time.Minute)
	again := at(begun)
	again.Replaces = r.ID
	r = f.reserve(again)
	f.refused(at(now), db.LimitRPM)
	f.same("the minute", f.use(id, now).Minute.Requests, int64(2))
	f.settle(r, nil)
	f.refused(at(now), db.LimitRPM)
}

func testLimitsChange(f *fixture) {
	id := f.key(db.Limits{})
	var running []db.Reservation
	for range 4 {
		running = append(running, f.reserve(f.claim(id)))
	}
	// What ran before there was a limit counts in it.
	f.limit(id, db.Limits{ConcurrentRequests: 2})
	if refusal := f.refused(f.claim(id), db.LimitConcurrent); refusal.Held != 4 || refusal.Max != 2 {
		f.Errorf("got %s, want 4 of 2", text(refusal))
	}
	f.settle(running[0], nil)
	f.settle(running[1], nil)
	f.refused(f.claim(id), db.LimitConcurrent)
	f.settle(running[2], nil)
	running = append(running[3:], f.reserve(f.claim(id)))
	f.refused(f.claim(id), db.LimitConcurrent)

	f.limit(id, db.Limits{TotalTokens: 42}) // 21 are used, 20 held
	f.refused(f.claim(id), db.LimitTotalTokens)
	f.limit(id, db.Limits{TotalTokens: 51})
	running = append(running, f.reserve(f.claim(id)))
	f.refused(f.claim(id), db.LimitTotalTokens)
	f.limit(id, db.Limits{})
	running = append(running, f.reserve(f.claim(id)))
	for _, r := range running {
		f.settle(r, nil)
	}
	f.same("in the end", f.use(id, f.now), f.usage(f.now, 0, 7, 49, 77, 0, 0))
}

func testProviderCap(f *fixture) {
	id, other := f.key(db.Limits{}), f.key(db.Limits{})
	capped := func(key string, t time.Time) db.Claim {
		c := f.claim(key)
		c.ProviderLimit, c.Time = 50, t
		return c
	}
	f.settle(f.reserve(f.claim(id)), nil) // without a cap it is counted all the same
	f.spend("p", f.now, 11, 0)
	held := f.reserve(capped(other, f.now))
	f.spend("p", f.now, 11, 20)
	refusal := f.refused(capped(id, f.now), db.LimitProviderUSD)
	month := db.MonthOf(f.now, f.Zone)
	f.same("refusal", refusal, db.LimitError{Limit: db.LimitProviderUSD, Max: 50, Used: 11, Held: 20, Need: 20, Resets: month.End,
		Minute: db.MinuteState{Reset: db.MinuteOf(f.now).End}})
	elsewhere := capped(id, f.now)
	elsewhere.Provider = "q"
	f.reserve(elsewhere)
	f.spend("q", f.now, 0, 20)
	f.spend("p", f.now, 11, 20)

	// The truth lands above the cap too; the next month begins with nothing.
	f.settle(held, func(rec *db.Record) { rec.Cost = 100 })
	f.spend("p", f.now, 111, 0)
	f.refused(capped(other, f.now), db.LimitProviderUSD)
	f.refused(capped(other, month.End.Add(-1)), db.LimitProviderUSD)
	f.spend("p", month.End, 0, 0)
	r := f.reserve(capped(other, month.End))
	f.spend("p", month.End, 0, 20)
	f.Store.Release(f.Context(), r)
	f.spend("p", month.End, 0, 0)
	f.settle(f.reserve(capped(other, month.End)), func(rec *db.Record) { rec.Cost = db.UnknownCost })
	f.spend("p", month.End, 0, 0)
	f.spend("p", f.now, 111, 0)
}
