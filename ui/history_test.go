package ui

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"tokenhub/db"
)

// reads counts what is asked of a store about usage.
type reads struct {
	Store
	n int
}

func (r *reads) Usage(ctx context.Context, q db.UsageQuery) ([]db.UsageRow, error) {
	r.n++
	return r.Store.Usage(ctx, q)
}

// TestPreparedDaysAreNotReadAgain: after the preparation a page about a year reads
// today alone, and shows what the store holds.
func TestPreparedDaysAreNotReadAgain(t *testing.T) {
	store := &reads{}
	w := newWorld(t, func(o *Options) { store.Store, o.Store = o.Store, store })
	for i := range 300 {
		rec := &db.Record{ID: fmt.Sprintf("req_%d", i), KeyID: fmt.Sprintf("key%d", i%3), Start: start.AddDate(0, 0, -i), Model: "m", Served: "m", Provider: "p",
			Status: 200, Usage: db.Usage{Input: 2, Output: int64(i)}, Source: db.FromProvider}
		if err := w.store.Note(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.admin.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	store.n = 0
	for by, want := range map[string]int{"": 1, "key": 3} {
		q := question{zone: time.UTC, span: lastDays(365, start, time.UTC), by: by}
		list, err := w.admin.periods(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		sums := together(list)
		var requests int64
		for _, s := range sums {
			requests += s.Requests
		}
		if len(list) != 365 || len(sums) != want || requests != 300 {
			t.Errorf("by %q: %d days, %d names, %d requests; want 365, %d, 300", by, len(list), len(sums), requests, want)
		}
	}
	if store.n > 2 {
		t.Errorf("%d reads after the preparation, want one of today for each page", store.n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newWorld(t).admin.Prepare(ended); err == nil {
		t.Error("it goes on after its context ended")
	}
}

// TestSumsByTagFollowTheKeys: what is kept of days by tag is made anew when a key
// gets other tags.
func TestSumsByTagFollowTheKeys(t *testing.T) {
	w := newWorld(t)
	k, err := w.store.PutKey(t.Context(), &db.Key{ID: "aaaaaaaaaa", Name: "k", Tags: []string{"home", "work"}}, db.Audit{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		for _, key := range []string{"aaaaaaaaaa", "gone"} {
			rec := &db.Record{ID: fmt.Sprint("req_", i), KeyID: key, Start: start.AddDate(0, 0, -i), Model: "m", Served: "m", Provider: "p", Status: 200, Source: db.FromProvider}
			if err := w.store.Note(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
		}
	}
	look := func(want map[string]int64) {
		t.Helper()
		for range 2 {
			list, err := w.admin.periods(t.Context(), question{zone: time.UTC, span: lastDays(10, start, time.UTC), by: "tag"})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]int64{}
			for _, s := range together(list) {
				got[s.name] = s.Requests
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
	}
	look(map[string]int64{"home": 5, "work": 5, "": 5})
	k.Tags = []string{"work"}
	if _, err := w.store.PutKey(t.Context(), k, db.Audit{}); err != nil {
		t.Fatal(err)
	}
	look(map[string]int64{"work": 5, "": 5})
}
