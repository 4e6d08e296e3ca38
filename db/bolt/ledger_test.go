package bolt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tokenhub/db"
)

var noon = time.Date(2026, 3, 14, 12, 0, 30, 0, time.UTC)

// record is a whole answer at t.
func record(id, key string, t time.Time, input, output, cost int64) *db.Record {
	return &db.Record{ID: id, Start: t, KeyID: key, Model: "gpt", Served: "gpt-4o", Provider: "openai",
		Endpoint: "POST /v1/chat/completions", Status: 200, Usage: db.Usage{Input: input, Output: output},
		Cost: cost, Source: db.FromProvider, Attempt: 1, Latency: time.Second}
}

func claim(key string, t time.Time, input, output int64) db.Claim {
	return db.Claim{KeyID: key, Time: t, Input: input, Output: output, Provider: "openai"}
}

// settle reserves and settles one request.
func settle(t *testing.T, d *DB, rec *db.Record) {
	t.Helper()
	r, err := d.Reserve(t.Context(), claim(rec.KeyID, rec.Start, rec.Usage.Input, rec.Usage.Output))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Settle(t.Context(), r, rec); err != nil {
		t.Fatal(err)
	}
}

// total asks for the sum of all usage.
func total(t *testing.T, d *DB) db.Sums {
	t.Helper()
	rows, err := d.Usage(context.Background(), db.UsageQuery{From: noon.AddDate(-1, 0, 0), To: noon.AddDate(1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) == 0 {
		return db.Sums{}
	}
	if len(rows) != 1 {
		t.Fatalf("got %d rows, want one", len(rows))
	}
	return rows[0].Sums
}

func TestSettledUsageSurvives(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d := openDB(t, Options{Dir: dir})
	putKey(t, d, "k", db.Limits{MonthlyTokens: 1000})
	for i := range 10 {
		settle(t, d, record(fmt.Sprint("req_", i), "k", noon, 10, 5, 7))
		if i == 4 {
			if err := d.fold(); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(d *DB) {
		t.Helper()
		if s := total(t, d); s.Requests != 10 || s.Usage.Tokens() != 150 || s.Cost != 70 {
			t.Errorf("usage: got %+v, want 10 requests, 150 tokens, 70", s)
		}
		u, err := d.KeyUsage(t.Context(), "k", noon)
		if err != nil || u.Month.Tokens != 150 || u.Day.Requests != 10 || u.Total.Cost != 70 || u.Running != 0 {
			t.Errorf("key usage: got %+v, %v", u, err)
		}
		if spent, held := d.ProviderSpend(t.Context(), "openai", noon); spent != 70 || held != 0 {
			t.Errorf("provider: got %d, %d, want 70, 0", spent, held)
		}
		recs, next, err := d.Requests(t.Context(), db.RequestQuery{Limit: 6})
		if err != nil || len(recs) != 6 || recs[0].ID != "req_9" || next == "" {
			t.Fatalf("requests: got %d, %q, %v", len(recs), next, err)
		}
		recs, next, err = d.Requests(t.Context(), db.RequestQuery{Limit: 6, Before: next})
		if err != nil || len(recs) != 4 || recs[3].ID != "req_0" || next != "" {
			t.Fatalf("second page: got %d, %q, %v", len(recs), next, err)
		}
	}
	check(d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d = openDB(t, Options{Dir: dir})
		check(d)
		d.Close()
	}
}

func TestRoomForExactlyK(t *testing.T) {
	d := openDB(t, Options{})
	putKey(t, d, "k", db.Limits{DailyTokens: 1000})
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := 0
	for range 300 {
		wg.Go(func() {
			r, err := d.Reserve(context.Background(), claim("k", noon, 5, 5))
			var limit *db.LimitError
			if errors.As(err, &limit) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			got++
			mu.Unlock()
			if err := d.Settle(context.Background(), r, record("req", "k", noon, 5, 5, 0)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	u, _ := d.KeyUsage(t.Context(), "k", noon)
	if got != 100 || u.Day.Tokens != 1000 || u.Day.HeldTokens != 0 || u.Running != 0 {
		t.Errorf("got %d claims, %+v; want 100 and 1000 tokens", got, u.Day)
	}
}
