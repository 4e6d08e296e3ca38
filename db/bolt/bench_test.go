package bolt

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// benchDB opens a store with n keys that have all kinds of limits.
func benchDB(b *testing.B, n int) *DB {
	b.Helper()
	d, err := Open(b.Context(), Options{Dir: filepath.Join(b.TempDir(), "data")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	for i := range n {
		_, err := d.PutKey(b.Context(), &db.Key{ID: fmt.Sprintf("key%07d", i), Name: "bench", Limits: db.Limits{
			RequestsPerMinute: 1 << 40, TokensPerMinute: 1 << 40, ConcurrentRequests: 1 << 20, MonthlyTokens: 1 << 60, MonthlyUSD: 1 << 60}}, db.Audit{})
		if err != nil {
			b.Fatal(err)
		}
	}
	return d
}

func BenchmarkKey(b *testing.B) {
	d := benchDB(b, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Key(b.Context(), "key0000042"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReserveRelease(b *testing.B) {
	d := benchDB(b, 1)
	c := db.Claim{KeyID: "key0000000", Time: time.Now(), Input: 100, Output: 4096, OpenOutput: true, InputCost: 50, OutputPrice: 1e7, Provider: "openai"}
	b.ReportAllocs()
	for b.Loop() {
		r, err := d.Reserve(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		d.Release(b.Context(), r)
	}
}

func BenchmarkReserveSettle(b *testing.B) {
	d := benchDB(b, 1)
	now := time.Now()
	c := db.Claim{KeyID: "key0000000", Time: now, Input: 100, Output: 4096, OpenOutput: true, InputCost: 50, OutputPrice: 1e7, Provider: "openai"}
	rec := record("req_0123456789abcdef", "key0000000", now, 1000, 500, 30)
	b.ReportAllocs()
	for b.Loop() {
		r, err := d.Reserve(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Settle(b.Context(), r, rec); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJournalAppend(b *testing.B) {
	d := benchDB(b, 0)
	rec := record("req_0123456789abcdef", "aaaaaaaaaa", time.Now(), 1000, 500, 30)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.journal.append(&entry{rec: *rec}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUsage asks for a month of one key among a million rows of 400 days.
func BenchmarkUsage(b *testing.B) {
	d := benchDB(b, 0)
	const days, perDay = 400, 2500
	for day := range days {
		rows := map[rollupKey]*db.Sums{}
		for i := range perDay {
			rows[rollupKey{int64(day*24 + i%24), fmt.Sprintf("key%07d", i/24), "gpt-4o", "gpt-4o-2024-11-20", "openai"}] = &db.Sums{Requests: 1, Cost: 5}
		}
		if err := d.file.Update(func(tx *bbolt.Tx) error { return addRollups(tx, rows) }); err != nil {
			b.Fatal(err)
		}
	}
	from := time.Unix((days-30)*secondsPerDay, 0)
	for _, q := range []db.UsageQuery{
		{From: from, To: from.AddDate(0, 0, 30), Key: "key0000007", GroupBy: []string{"day"}},
		{From: from, To: from.AddDate(0, 0, 30), GroupBy: []string{"key", "model", "day"}},
		{From: time.Unix(0, 0), To: from.AddDate(0, 0, 30), GroupBy: []string{"model"}},
	} {
		b.Run(fmt.Sprintf("%v of %s", q.GroupBy, q.To.Sub(q.From)), func(b *testing.B) {
			for b.Loop() {
				rows, err := d.Usage(b.Context(), q)
				if err != nil || len(rows) == 0 {
					b.Fatal(rows, err)
				}
			}
		})
	}
}

// BenchmarkFold folds a journal of 20,000 records, the traffic of a busy second.
func BenchmarkFold(b *testing.B) {
	d := benchDB(b, 0)
	now := time.Now()
	i := 0
	for b.Loop() {
		b.StopTimer()
		for range 20_000 {
			i++
			rec := record(fmt.Sprintf("req_%016d", i), fmt.Sprintf("key%07d", i%100), now.Add(time.Duration(i)*time.Microsecond), 1000, 500, 30)
			if err := d.journal.append(&entry{rec: *rec, charged: true}); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		if err := d.fold(); err != nil {
			b.Fatal(err)
		}
	}
}
