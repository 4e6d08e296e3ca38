package bolt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tokenhub/db"
)

// searchable fills a store with requests of many hours: keys, models, providers
// and failures that come now and then.
func searchable(tb testing.TB, d *DB, r *rand.Rand, n, everyNth int) (all []db.Record) {
	for i := range n {
		rec := record(fmt.Sprintf("req_%08d", i), fmt.Sprintf("key%d", r.IntN(3)), noon.Add(time.Duration(r.IntN(80*60))*time.Minute), 10, 5, 30)
		if r.IntN(everyNth) == 0 {
			rec.KeyID, rec.Provider = "rare", "other"
		}
		if r.IntN(everyNth) == 0 {
			rec.Model, rec.Served = "seldom", "seldom-1"
		}
		switch r.IntN(4 * everyNth) {
		case 0:
			rec.Status = 429
		case 1:
			rec.Status = 500 + r.IntN(4)
		case 2:
			rec.Broken = true
		}
		one := newEntry(rec)
		if err := d.journal.append(&one); err != nil {
			tb.Fatal(err)
		}
		all = append(all, *rec)
	}
	return all
}

// A search that passes over hours finds what looking at each record finds, page
// by page, whether the roll-ups are all there or not.
func TestSearchFindsAll(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	d := openDB(t, Options{Now: func() time.Time { return noon.AddDate(0, 0, 5) }})
	r := rand.New(rand.NewPCG(seed, 0))
	all := searchable(t, d, r, 2000, 40)
	if err := d.fold(); err != nil {
		t.Fatal(err)
	}
	all = append(all, searchable(t, d, r, 100, 5)...) // not folded
	look := func() {
		t.Helper()
		for _, q := range []db.RequestQuery{{}, {Key: "rare"}, {Key: "key1"}, {Key: "nobody"}, {Model: "seldom"}, {Model: "seldom-1"}, {Provider: "other"},
			{Status: 429}, {Status: 5}, {Status: 4}, {Status: 2}, {Status: 503}, {Key: "rare", Status: 5}, {Key: "key2", Model: "seldom", Status: 200},
			{From: noon.Add(20 * time.Hour), To: noon.Add(41 * time.Hour)}, {Key: "rare", To: noon.Add(30 * time.Hour)}, {Status: 4, From: noon.Add(50 * time.Hour)}} {
			want := map[string]int{}
			for i := range all {
				if matches(&all[i], &q) {
					want[all[i].ID]++
				}
			}
			q.Limit = 1 + r.IntN(50)
			if r.IntN(2) == 0 {
				q.Most = 1 + r.IntN(300)
			}
			for {
				page, next, err := d.Requests(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.IsSortedFunc(page, func(a, b db.Record) int { return b.Start.Compare(a.Start) }) {
					t.Errorf("%+v: not the newest first", q)
				}
				for _, rec := range page {
					if want[rec.ID]--; want[rec.ID] < 0 {
						t.Errorf("%+v: %s is not to be found, or too often", q, rec.ID)
					}
				}
				if q.Before = next; next == "" {
					break
				}
			}
			for id, n := range want {
				if n > 0 {
					t.Errorf("%+v: %s is missing", q, id)
				}
			}
		}
	}
	look()
	d.SetRetention(0, 48*time.Hour, 0) // now the log reaches further back than the roll-ups
	if err := d.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	look()
}

// BenchmarkSearch searches a log of a million requests of 30 days, by 10,000 keys.
func BenchmarkSearch(b *testing.B) {
	d := benchDB(b, 0)
	const n = 1_000_000
	for i := range n {
		rec := record(fmt.Sprintf("req_%026d", i), fmt.Sprintf("key%07d", (i*7919)%10_000), noon.Add(time.Duration(i)*(30*24*time.Hour/n)), 10, 5, 30)
		if i == n/3 || i == n/2 {
			rec.Status = 502
		}
		one := newEntry(rec)
		if err := d.journal.append(&one); err != nil {
			b.Fatal(err)
		}
		if i%100_000 == 99_999 {
			if err := d.fold(); err != nil {
				b.Fatal(err)
			}
		}
	}
	for name, q := range map[string]db.RequestQuery{"all": {}, "key": {Key: "key0000042"}, "no key": {Key: "nobody"}, "5xx": {Status: 5}, "404": {Status: 404},
		"model": {Model: "none"}, "200": {Status: 200}, "ID": {ID: "req_x"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				q.Limit = 50
				if _, _, err := d.Requests(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
