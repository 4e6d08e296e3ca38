package dbtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"time"

	"tokenhub/db"
)

// testRandom does the same random things to the engine and to [Memory], and
// compares what they say after each. back is how far the clock is set back at
// most. An engine need not know minutes further back than the one before the
// newest, so with more than a minute there are no limits per minute.
func testRandom(f *fixture, back time.Duration) {
	seed := number(f, "DBTEST_SEED", rand.Uint64())
	steps := number(f, "DBTEST_STEPS", 1000)
	f.Logf("DBTEST_SEED=%d DBTEST_STEPS=%d", seed, steps)
	p := &pair{
		fixture: f, r: rand.New(rand.NewPCG(seed, uint64(back))), oracle: Memory(Options{Zone: f.Zone}),
		back: back, minutes: back <= time.Minute, newest: f.now,
		providers: []string{"p", "q", "r"}, models: []string{"gpt", "house", "qwen", "typo", ""},
	}
	for range 4 {
		p.keys = append(p.keys, p.id())
		p.edit(p.keys[len(p.keys)-1])
	}
	for p.step = range int(steps) {
		p.act()
		if p.step%50 == 49 {
			p.compareReports()
		}
		if f.Failed() {
			f.Fatalf("step %d", p.step)
		}
	}
	for _, v := range slices.Clone(p.live) {
		p.settle(v)
	}
	p.restart()
	p.compareReports()
}

// number reads a number from the environment.
func number(f *fixture, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		f.Fatalf("%s: %v", name, err)
	}
	return n
}

// pair is an engine and the oracle, at the same point of the same history.
type pair struct {
	*fixture
	r      *rand.Rand
	oracle *Mem
	step   int

	back    time.Duration
	minutes bool
	newest  time.Time // the latest time of a claim

	keys, providers, models []string
	live, dead              []twins
}

// twins are the reservations of one request in the engine and the oracle.
type twins struct{ engine, oracle db.Reservation }

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// act does one thing to both.
func (p *pair) act() {
	p.tick()
	id := pick(p.r, p.keys)
	switch n := p.r.IntN(1000); {
	case n < 400:
		p.reserve(p.someClaim(id), nil)
	case n < 680 && len(p.live) > 0:
		p.settle(pick(p.r, p.live))
	case n < 760 && len(p.live) > 0:
		v := pick(p.r, p.live)
		p.Store.Release(p.Context(), v.engine)
		p.oracle.Release(p.Context(), v.oracle)
		p.bury(v)
	case n < 850 && len(p.live) > 0:
		v := pick(p.r, p.live)
		p.reserve(p.someClaim(v.engine.KeyID), &v)
	case n < 880 && len(p.dead) > 0: // what has ended already
		v := pick(p.r, p.dead)
		if p.r.IntN(2) == 0 {
			p.Store.Release(p.Context(), v.engine)
			p.oracle.Release(p.Context(), v.oracle)
			break
		}
		rec := p.someRecord(v.engine)
		p.ok(p.Store.Settle(p.Context(), v.engine, rec))
		p.ok(p.oracle.Settle(p.Context(), v.oracle, rec))
	case n < 930:
		rec := p.someRecord(db.Reservation{KeyID: id, Provider: pick(p.r, p.providers), Time: p.now})
		rec.Status, rec.Usage, rec.Cost = pick(p.r, []int{0, 429, 500, 502}), db.Usage{}, 0
		p.ok(p.Store.Note(p.Context(), rec))
		p.ok(p.oracle.Note(p.Context(), rec))
	case n < 960:
		p.edit(id)
	case n < 965:
		p.restart()
	}
	p.compare(id)
}

// tick moves the clock.
func (p *pair) tick() {
	var by time.Duration
	switch n := p.r.IntN(400); {
	case n < 300:
		by = time.Duration(p.r.IntN(3000)) * time.Millisecond
	case n < 340:
		by = time.Duration(p.r.IntN(90)) * time.Second
	case n < 346:
		by = time.Duration(p.r.IntN(30)) * time.Hour
	case n < 348:
		by = time.Duration(p.r.IntN(35)) * 24 * time.Hour
	case n < 388:
		by = -time.Duration(p.r.Int64N(int64(p.back))).Round(time.Millisecond)
	}
	p.now = p.now.Add(by)
	if first := p.newest.Add(-p.back); p.now.Before(first) {
		p.now = first
	}
}

// edit gives a key other limits; it makes the key when there is none.
func (p *pair) edit(id string) {
	p.Helper()
	k, err := p.oracle.Key(p.Context(), id)
	if errors.Is(err, db.ErrNotFound) {
		k, err = &db.Key{ID: id, Name: id, CreatedAt: p.now, Endpoints: db.Inference}, nil
	}
	p.ok(err)
	k = k.Clone()
	k.Limits = p.someLimits()
	a := db.Audit{Time: p.now, Action: "key.update", Target: id}
	got, err := p.Store.PutKey(p.Context(), k, a)
	p.ok(err)
	want, err := p.oracle.PutKey(p.Context(), k, a)
	p.ok(err)
	p.same("key", got, want)
}

func (p *pair) someLimits() (l db.Limits) {
	set := func(limit *int64, most int64) {
		if p.r.IntN(4) == 0 {
			*limit = 1 + p.r.Int64N(most)
		}
	}
	if p.minutes {
		set(&l.RequestsPerMinute, 8)
		set(&l.TokensPerMinute, 2000)
	}
	set(&l.ConcurrentRequests, 6)
	set(&l.DailyTokens, 3000)
	set(&l.DailyUSD, 5000)
	set(&l.MonthlyTokens, 10_000)
	set(&l.MonthlyUSD, 15_000)
	// Totals only grow: what is used up would stay used up.
	if p.step < 300 {
		set(&l.TotalTokens, 10_000)
		set(&l.TotalUSD, 15_000)
	}
	return l
}

func (p *pair) someClaim(id string) db.Claim {
	c := db.Claim{KeyID: id, Time: p.now, Input: p.r.Int64N(300), Output: p.r.Int64N(600), OpenOutput: p.r.IntN(2) == 0, Provider: pick(p.r, p.providers)}
	if p.r.IntN(4) > 0 {
		c.InputCost, c.OutputPrice = c.Input, p.r.Int64N(5*million)
	}
	if p.r.IntN(10) == 0 {
		c.FixedCost = p.r.Int64N(500)
	}
	if p.r.IntN(3) == 0 {
		c.ProviderLimit = 1 + p.r.Int64N(40_000)
	}
	return c
}

func (p *pair) someRecord(r db.Reservation) *db.Record {
	rec := p.record(r)
	rec.Model, rec.Served = pick(p.r, p.models), pick(p.r, p.models)
	rec.Status = pick(p.r, []int{200, 200, 200, 200, 201, 302, 400, 404, 429, 500, 0})
	rec.Broken = p.r.IntN(10) == 0
	rec.Source = pick(p.r, []string{db.FromProvider, db.FromProvider, db.Estimated, db.Aborted, ""})
	rec.Usage = db.Usage{Input: p.r.Int64N(400), Output: p.r.Int64N(800)}
	rec.Usage.CachedInput, rec.Usage.Reasoning = rec.Usage.Input/2, rec.Usage.Output/3
	rec.Cost = pick(p.r, []int64{db.UnknownCost, 0, p.r.Int64N(4000), r.Cost})
	return rec
}

// reserve makes the same claim in both; instead is what it takes the place of.
func (p *pair) reserve(c db.Claim, instead *twins) {
	p.Helper()
	theirs := c
	if instead != nil {
		c.Replaces, theirs.Replaces = instead.engine.ID, instead.oracle.ID
	}
	if c.Time.After(p.newest) {
		p.newest = c.Time
	}
	got, gotErr := p.Store.Reserve(p.Context(), c)
	want, wantErr := p.oracle.Reserve(p.Context(), theirs)
	p.same(fmt.Sprintf("step %d: claim %s", p.step, text(c)), p.outcome(got, gotErr), p.outcome(want, wantErr))
	if wantErr != nil {
		return
	}
	if instead != nil {
		p.bury(*instead)
	}
	p.live = append(p.live, twins{got, want})
}

// outcome is what engine and oracle have to agree on.
func (p *pair) outcome(r db.Reservation, err error) any {
	r.ID = 0
	var refusal *db.LimitError
	if errors.As(err, &refusal) {
		seen := *refusal
		if !p.minutes {
			seen.Minute = db.MinuteState{}
		}
		return seen
	}
	if err != nil {
		return err.Error()
	}
	if !p.minutes {
		r.Minute = db.MinuteState{}
	}
	return r
}

func (p *pair) settle(v twins) {
	p.Helper()
	rec := p.someRecord(v.engine)
	p.ok(p.Store.Settle(p.Context(), v.engine, rec))
	p.ok(p.oracle.Settle(p.Context(), v.oracle, rec))
	p.bury(v)
}

// bury takes a reservation that has ended from the living.
func (p *pair) bury(v twins) {
	p.live = slices.DeleteFunc(p.live, func(x twins) bool { return x.engine.ID == v.engine.ID })
	p.dead = append(p.dead, v)
}

func (p *pair) restart() {
	p.fixture.restart()
	p.oracle.Reopen()
	// The IDs of the process before mean nothing to this one.
	p.live, p.dead = nil, nil
}

// compare compares where a key and the providers stand.
func (p *pair) compare(id string) {
	p.Helper()
	got := p.use(id, p.now)
	want, err := p.oracle.KeyUsage(p.Context(), id, p.now)
	p.ok(err)
	if !p.minutes {
		got.Minute, want.Minute = db.WindowUse{}, db.WindowUse{}
	}
	p.same(fmt.Sprintf("step %d: usage of %s at %v", p.step, id, p.now), got, want)
	for _, name := range p.providers {
		spent, held := p.oracle.ProviderSpend(p.Context(), name, p.now)
		p.spend(name, p.now, spent, held)
	}
}

// compareReports compares all keys and some reports.
func (p *pair) compareReports() {
	p.Helper()
	for _, id := range p.keys {
		p.compare(id)
	}
	for range 3 {
		from := p.newest.Truncate(time.Hour).Add(-time.Duration(p.r.IntN(24*60)) * time.Hour)
		q := db.UsageQuery{From: from, To: from.Add(time.Duration(1+p.r.IntN(24*80)) * time.Hour), Zone: mostly(p.r, nil, p.Zone)}
		for _, by := range []string{"key", "model", "served_model", "provider", "day", "hour"} {
			if p.r.IntN(3) == 0 {
				q.GroupBy = append(q.GroupBy, by)
			}
		}
		q.Key, q.Model, q.Provider = p.some(p.keys), p.some(append(p.models, db.OtherModel)), p.some(p.providers)
		want, err := p.oracle.Usage(p.Context(), q)
		p.ok(err)
		p.same(fmt.Sprintf("step %d: usage %+v", p.step, q), append([]db.UsageRow{}, p.rows(q)...), append([]db.UsageRow{}, want...))
	}
	q := db.RequestQuery{Key: p.some(p.keys), Model: p.some(p.models), Provider: p.some(p.providers), Status: mostly(p.r, 0, pick(p.r, []int{2, 4, 5, 404})), Limit: 1 + p.r.IntN(300)}
	theirs := q
	for {
		got, next, err := p.Store.Requests(p.Context(), q)
		p.ok(err)
		want, nextWanted, err := p.oracle.Requests(p.Context(), theirs)
		p.ok(err)
		p.same(fmt.Sprintf("step %d: requests %+v", p.step, q), append([]db.Record{}, got...), append([]db.Record{}, want...))
		if (next == "") != (nextWanted == "") {
			p.Fatalf("step %d: requests %+v: the cursor is %q, want %q", p.step, q, next, nextWanted)
		}
		if q.Before, theirs.Before = next, nextWanted; next == "" {
			return
		}
	}
}

// some returns mostly nothing, else one of a list.
func (p *pair) some(list []string) string { return mostly(p.r, "", pick(p.r, list)) }

// mostly returns mostly a, else b.
func mostly[T any](r *rand.Rand, a, b T) T {
	if r.IntN(4) > 0 {
		return a
	}
	return b
}
