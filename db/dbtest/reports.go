package dbtest

import (
	"fmt"
	"slices"
	"time"

	"tokenhub/db"
)

// request reserves and settles one request at t.
func (f *fixture) request(key, provider string, t time.Time, edit func(*db.Record)) *db.Record {
	f.Helper()
	c := f.claim(key)
	c.Time, c.Provider = t, provider
	return f.settle(f.reserve(c), edit)
}

// rows asks for usage.
func (f *fixture) rows(q db.UsageQuery) []db.UsageRow {
	f.Helper()
	rows, err := f.Store.Usage(f.Context(), q)
	f.ok(err)
	return rows
}

func testUsageGroups(f *fixture) {
	a, b := f.key(db.Limits{}), f.key(db.Limits{})
	hour := f.now.Truncate(time.Hour)
	from, to := hour.Add(-24*time.Hour), hour.Add(24*time.Hour)
	if rows := f.rows(db.UsageQuery{From: from, To: to, GroupBy: []string{"key"}}); len(rows) != 0 {
		f.Fatalf("a new store has %s", text(rows))
	}
	full := db.Usage{Input: 100, Output: 50, CachedInput: 40, CacheWrite: 30, Reasoning: 20}
	f.request(a, "p", f.now, func(r *db.Record) { r.Usage, r.Cost = full, 7 })
	f.request(a, "q", f.now.Add(time.Hour), func(r *db.Record) { r.Cost, r.Source, r.Model = db.UnknownCost, db.Estimated, "gpt" })
	f.request(b, "p", f.now.Add(-time.Hour), func(r *db.Record) { r.Source, r.Broken = db.Aborted, true })
	f.request(b, "q", f.now, func(r *db.Record) { r.Status, r.Usage, r.Cost, r.Source = 500, db.Usage{}, 0, "" })
	f.request(b, "q", to, nil)
	f.request(b, "q", from.Add(-1), nil)
	f.request(b, "q", from, func(r *db.Record) { r.Usage, r.Cost = db.Usage{}, 0 })

	one := db.Usage{Input: 2, Output: 5, CachedInput: 1, Reasoning: 3}
	first := db.Sums{Requests: 1, Usage: full, Cost: 7}
	unpriced := db.Sums{Requests: 1, Usage: one, Unpriced: 1, Estimated: 1}
	broken := db.Sums{Requests: 1, Errors: 1, Usage: one, Cost: 11, Estimated: 1}
	failed := db.Sums{Requests: 1, Errors: 1}
	empty := db.Sums{Requests: 1}
	add := func(list ...db.Sums) (s db.Sums) {
		for _, x := range list {
			s.Add(x)
		}
		return s
	}
	tests := []struct {
		name string
		q    db.UsageQuery
		want []db.UsageRow
	}{
		{"all", db.UsageQuery{}, []db.UsageRow{{Sums: add(first, unpriced, broken, failed, empty)}}},
		{"key", db.UsageQuery{GroupBy: []string{"key"}}, []db.UsageRow{{Key: a, Sums: add(first, unpriced)}, {Key: b, Sums: add(broken, failed, empty)}}},
		{"model", db.UsageQuery{GroupBy: []string{"model"}}, []db.UsageRow{{Model: "gpt", Sums: unpriced}, {Model: "house", Sums: add(first, broken, failed, empty)}}},
		{"served model", db.UsageQuery{GroupBy: []string{"served_model"}, Key: a}, []db.UsageRow{{Served: "gpt", Sums: add(first, unpriced)}}},
		{"provider", db.UsageQuery{GroupBy: []string{"provider"}}, []db.UsageRow{{Provider: "p", Sums: add(first, broken)}, {Provider: "q", Sums: add(unpriced, failed, empty)}}},
		{"hour", db.UsageQuery{GroupBy: []string{"hour"}, Key: b}, []db.UsageRow{{Time: from, Sums: empty}, {Time: hour.Add(-time.Hour), Sums: broken}, {Time: hour, Sums: failed}}},
		{"key and provider", db.UsageQuery{GroupBy: []string{"provider", "key"}}, []db.UsageRow{
			{Key: a, Provider: "p", Sums: first}, {Key: a, Provider: "q", Sums: unpriced}, {Key: b, Provider: "p", Sums: broken}, {Key: b, Provider: "q", Sums: add(failed, empty)}}},
		{"of a provider", db.UsageQuery{Provider: "p", GroupBy: []string{"key"}}, []db.UsageRow{{Key: a, Sums: first}, {Key: b, Sums: broken}}},
		{"of a model", db.UsageQuery{Model: "gpt", GroupBy: []string{"key", "model"}}, []db.UsageRow{{Key: a, Model: "gpt", Sums: unpriced}}},
		{"of a key at a provider", db.UsageQuery{Key: b, Provider: "p"}, []db.UsageRow{{Sums: broken}}},
		{"of a model that nobody asked for", db.UsageQuery{Model: "none"}, nil},
		{"of one hour", db.UsageQuery{From: hour, To: hour.Add(time.Hour)}, []db.UsageRow{{Sums: add(first, failed)}}},
		{"of no time", db.UsageQuery{From: hour, To: hour}, nil},
	}
	for range 2 {
		for _, tt := range tests {
			if tt.q.From.IsZero() {
				tt.q.From, tt.q.To = from, to
			}
			f.same("usage: "+tt.name, append([]db.UsageRow{}, f.rows(tt.q)...), append([]db.UsageRow{}, tt.want...))
		}
		f.restart()
	}
}

// testUsageDays groups by days of a zone that changes its clocks.
func testUsageDays(f *fixture) {
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		f.Skipf("no zone database: %v", err)
	}
	id := f.key(db.Limits{})
	// On 8 March 2026 the day there has 23 hours: 05:00 to 04:00 UTC.
	day := time.Date(2026, 3, 8, 5, 0, 0, 0, time.UTC)
	for h := -2; h < 26; h++ {
		f.request(id, "p", day.Add(time.Duration(h)*time.Hour+59*time.Minute), nil)
	}
	q := db.UsageQuery{From: day.Add(-48 * time.Hour), To: day.Add(72 * time.Hour), GroupBy: []string{"day"}, Zone: zone}
	counts := func(q db.UsageQuery) (s string) {
		for _, r := range f.rows(q) {
			s += fmt.Sprintf("%s %d, ", r.Time.UTC().Format("01-02T15"), r.Requests)
		}
		return s
	}
	for range 2 {
		if got, want := counts(q), "03-07T05 2, 03-08T05 23, 03-09T04 3, "; got != want {
			f.Errorf("got %s want %s", got, want)
		}
		q.Zone = nil
		if got, want := counts(q), "03-08T00 21, 03-09T00 7, "; got != want {
			f.Errorf("in UTC: got %s want %s", got, want)
		}
		q.From, q.To, q.Zone = day, day.Add(23*time.Hour), zone
		if got, want := counts(q), "03-08T05 23, "; got != want {
			f.Errorf("this day alone: got %s want %s", got, want)
		}
		q.From, q.To = day.Add(-48*time.Hour), day.Add(72*time.Hour)
		f.restart()
	}
}

// testUsageNames asks for models that nobody has: only those that a provider
// answered get rows of their own.
func testUsageNames(f *fixture) {
	id := f.key(db.Limits{})
	ask := func(status int, model, served string) {
		f.Helper()
		f.request(id, "p", f.now, func(r *db.Record) {
			r.Status, r.Model, r.Served, r.Usage, r.Cost = status, model, served, db.Usage{}, 0
		})
	}
	ask(404, "typo-1", "typo-1")
	ask(0, "typo-2", "typo-2")
	ask(404, "early", "early")
	ask(302, "moved", "moved")
	ask(201, "early", "small")
	ask(500, "early", "typo-3")
	f.restart()
	ask(429, "early", "small")
	ask(429, "small", "typo-4") // known as a served model
	note := &db.Record{ID: "req_note", Start: f.now, KeyID: id, Model: "note", Served: "note", Provider: "p", Status: 500, Attempt: 1}
	f.ok(f.Store.Note(f.Context(), note))
	ask(200, "", "") // endpoints without a model
	ask(400, "", "")

	q := db.UsageQuery{From: f.now.Truncate(time.Hour), To: f.now.Add(time.Hour).Truncate(time.Hour)}
	counts := func(q db.UsageQuery) (s string) {
		for _, r := range f.rows(q) {
			s += fmt.Sprintf("%s/%s %d, ", r.Model, r.Served, r.Requests)
		}
		return s
	}
	for range 2 {
		q.GroupBy = []string{"model", "served_model"}
		if got, want := counts(q), "/ 2, early/other 1, early/small 2, other/other 5, small/other 1, "; got != want {
			f.Errorf("got %s want %s", got, want)
		}
		q.GroupBy = []string{"model"}
		if got, want := counts(q), "/ 2, early/ 3, other/ 5, small/ 1, "; got != want {
			f.Errorf("got %s want %s", got, want)
		}
		q.Model = db.OtherModel
		if got, want := counts(q), "other/ 5, "; got != want {
			f.Errorf("other: got %s want %s", got, want)
		}
		q.Model = ""
		f.restart()
	}
	// The log of requests keeps the names.
	recs, _, err := f.Store.Requests(f.Context(), db.RequestQuery{Model: "typo-1"})
	f.ok(err)
	if len(recs) != 1 || recs[0].Served != "typo-1" {
		f.Errorf("got %s, want the record with its names", text(recs))
	}
}

func testRequestFilters(f *fixture) {
	a, b := f.key(db.Limits{}), f.key(db.Limits{})
	var all []*db.Record
	at := f.now
	ask := func(key, provider string, edit func(*db.Record)) {
		f.Helper()
		all = append(all, f.request(key, provider, at, edit))
		at = at.Add(1500 * time.Millisecond)
	}
	ask(a, "p", nil)
	ask(a, "q", func(r *db.Record) { r.Status, r.Model, r.Served = 404, "gpt", "gpt" })
	ask(b, "p", func(r *db.Record) { r.Status, r.Served = 429, "qwen" })
	ask(b, "q", func(r *db.Record) {
		*r = db.Record{ID: r.ID, Start: r.Start, KeyID: r.KeyID, Provider: r.Provider, Latency: time.Second, Model: "house", Served: "qwen",
			Endpoint: "POST /v1/messages", Broken: true, Source: db.Aborted, Attempt: 2, Error: "canceled", Cost: db.UnknownCost,
			Usage: db.Usage{Input: 1, Output: 2, CachedInput: 3, CacheWrite: 4, Reasoning: 5}}
	})
	ask(b, "q", func(r *db.Record) { r.Status, r.ID = 500, all[0].ID })
	f.restart()
	ask(a, "p", func(r *db.Record) { r.Status = 404 })

	tests := []struct {
		name string
		q    db.RequestQuery
		want []int
	}{
		{"all", db.RequestQuery{}, []int{5, 4, 3, 2, 1, 0}},
		{"of a key", db.RequestQuery{Key: a}, []int{5, 1, 0}},
		{"of a provider", db.RequestQuery{Provider: "q"}, []int{4, 3, 1}},
		{"of a model asked for", db.RequestQuery{Model: "house"}, []int{5, 4, 3, 2, 0}},
		{"of a model asked for or served", db.RequestQuery{Model: "gpt"}, []int{5, 4, 1, 0}},
		{"of a model served", db.RequestQuery{Model: "qwen"}, []int{3, 2}},
		{"of an ID", db.RequestQuery{ID: all[0].ID}, []int{4, 0}},
		{"of a status", db.RequestQuery{Status: 404}, []int{5, 1}},
		{"of a class", db.RequestQuery{Status: 4}, []int{5, 2, 1}},
		{"of another class", db.RequestQuery{Status: 5}, []int{4}},
		{"of all of these", db.RequestQuery{Key: b, Provider: "q", Model: "qwen"}, []int{3}},
		{"of nobody", db.RequestQuery{Key: "nobody"}, nil},
		{"from a moment on", db.RequestQuery{From: all[4].Start}, []int{5, 4}},
		{"before a moment", db.RequestQuery{To: all[2].Start}, []int{1, 0}},
		{"of a time and a key", db.RequestQuery{Key: a, From: all[1].Start, To: all[5].Start}, []int{1}},
		{"of no time", db.RequestQuery{From: all[5].Start.Add(1)}, nil},
	}
	for _, tt := range tests {
		got, next, err := f.Store.Requests(f.Context(), tt.q)
		f.ok(err)
		want := []*db.Record{}
		for _, i := range tt.want {
			want = append(want, all[i])
		}
		f.same("requests: "+tt.name, append([]db.Record{}, got...), want)
		if next != "" {
			f.Errorf("%s: the cursor is %q where nothing follows", tt.name, next)
		}
	}
}

func testRequestPages(f *fixture) {
	ctx := f.Context()
	const many = 503
	var want []string
	for n := range many {
		// Some start at the same moment; then the one settled last is the newest.
		start := f.now.Add(time.Duration(n/3) * time.Second)
		rec := &db.Record{ID: fmt.Sprintf("req_%d", n), Start: start, KeyID: []string{"even", "odd"}[n%2], Model: "m", Served: "m", Provider: "p", Status: 500}
		f.ok(f.Store.Note(ctx, rec))
		want = append(want, rec.ID)
		if n == many/2 {
			f.restart()
		}
	}
	slices.Reverse(want)
	walk := func(q db.RequestQuery, size int, want []string) {
		f.Helper()
		for {
			recs, next, err := f.Store.Requests(ctx, q)
			f.ok(err)
			if n := min(size, len(want)); len(recs) != n {
				f.Fatalf("limit %d: got %d records, want %d", q.Limit, len(recs), n)
			}
			for i, r := range recs {
				if r.ID != want[i] {
					f.Fatalf("limit %d: got %s, want %s", q.Limit, r.ID, want[i])
				}
			}
			want = want[len(recs):]
			if (next == "") != (len(want) == 0) {
				f.Fatalf("limit %d: the cursor is %q with %d records left", q.Limit, next, len(want))
			}
			if q.Before = next; next == "" {
				return
			}
		}
	}
	for limit, size := range map[int]int{0: 100, 7: 7, 500: 500, many: 500, 10_000: 500} {
		walk(db.RequestQuery{Limit: limit}, size, want)
	}
	var odd []string
	for i, id := range want {
		if (many-1-i)%2 == 1 {
			odd = append(odd, id)
		}
	}
	for _, limit := range []int{1, 100, len(odd), len(odd) - 1} {
		walk(db.RequestQuery{Key: "odd", Limit: limit}, limit, odd)
	}
	// A bounded search ends early, and its cursors lead to all that there is.
	var found []string
	for q := (db.RequestQuery{Key: "odd", Most: 40}); ; {
		recs, next, err := f.Store.Requests(ctx, q)
		f.ok(err)
		for _, r := range recs {
			found = append(found, r.ID)
		}
		if q.Before = next; next == "" {
			break
		}
	}
	if !slices.Equal(found, odd) {
		f.Errorf("bounded searches found %d records, want %d, once and in order", len(found), len(odd))
	}
	// A newer record does not move the pages.
	_, next, err := f.Store.Requests(ctx, db.RequestQuery{Limit: 2})
	f.ok(err)
	f.ok(f.Store.Note(ctx, &db.Record{ID: "req_new", Start: f.now.Add(time.Hour), KeyID: "odd", Provider: "p", Status: 500}))
	recs, _, err := f.Store.Requests(ctx, db.RequestQuery{Limit: 1, Before: next})
	f.ok(err)
	if len(recs) != 1 || recs[0].ID != want[2] {
		f.Errorf("the second page begins with %s, want %s", text(recs), want[2])
	}
}
