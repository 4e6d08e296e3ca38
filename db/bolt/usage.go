package bolt

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// Usage implements [db.Reports].
func (d *DB) Usage(ctx context.Context, q db.UsageQuery) ([]db.UsageRow, error) {
	g, err := newGrouping(q)
	if err != nil {
		return nil, err
	}
	from, to := floorDiv(q.From.Unix(), secondsPerHour), floorDiv(q.To.Unix()+secondsPerHour-1, secondsPerHour)
	err = d.snapshot(from, to, func(tx *bbolt.Tx, recent []numbered) error {
		for _, n := range recent {
			k := n.rollupKey()
			if k.hour < from || k.hour >= to {
				continue
			}
			if err := g.add(k.raw(), func() (db.Sums, error) { return n.sums(), nil }); err != nil {
				return err
			}
		}
		return eachRollup(ctx, tx, from, to, q.Key, func(r rawRow, sealed []byte) error {
			return g.add(r, func() (db.Sums, error) {
				value, err := unseal(bucketRollups, r.key, sealed)
				if err != nil {
					return db.Sums{}, err
				}
				return decodeSums(value)
			})
		})
	})
	if err != nil {
		return nil, storageError(err)
	}
	return g.result(), nil
}

// raw returns the key's parts as they come from the file.
func (k rollupKey) raw() rawRow {
	return rawRow{k.hour, []byte(k.key), []byte(k.model), []byte(k.served), []byte(k.provider)}
}

// group is what the rows of one sum have in common. Texts are what the caller
// asked for, others are empty.
type group struct {
	key, model, served, provider string
	time                         int64 // Unix seconds
}

// grouping adds up rows by group.
type grouping struct {
	q                                       db.UsageQuery
	key, model, served, provider, day, hour bool

	sums map[group]*db.Sums
	// lastHour and lastDay save the search for the day of rows of the same hour.
	lastHour, lastDay int64
}

func newGrouping(q db.UsageQuery) (*grouping, error) {
	g := &grouping{q: q, sums: map[group]*db.Sums{}, lastHour: -1 << 62}
	for _, by := range q.GroupBy {
		field, ok := map[string]*bool{"key": &g.key, "model": &g.model, "served_model": &g.served,
			"provider": &g.provider, "day": &g.day, "hour": &g.hour}[by]
		if !ok {
			return nil, fmt.Errorf("usage can't be grouped by %q", by)
		}
		*field = true
	}
	return g, nil
}

// add counts a row, whose sums are only asked for when it belongs to the report.
func (g *grouping) add(r rawRow, sums func() (db.Sums, error)) error {
	q := &g.q
	if q.Key != "" && string(r.key) != q.Key || q.Model != "" && string(r.model) != q.Model || q.Provider != "" && string(r.provider) != q.Provider {
		return nil
	}
	s, err := sums()
	if err != nil {
		return err
	}
	var to group
	if g.key {
		to.key = string(r.key)
	}
	if g.model {
		to.model = string(r.model)
	}
	if g.served {
		to.served = string(r.served)
	}
	if g.provider {
		to.provider = string(r.provider)
	}
	switch {
	case g.hour:
		to.time = r.hour * secondsPerHour
	case g.day:
		if r.hour != g.lastHour {
			g.lastHour, g.lastDay = r.hour, db.DayOf(time.Unix(r.hour*secondsPerHour, 0), q.Zone).Start.Unix()
		}
		to.time = g.lastDay
	}
	total := g.sums[to]
	if total == nil {
		total = &db.Sums{}
		g.sums[to] = total
	}
	total.Add(s)
	return nil
}

// result returns the sums, ordered by time, then by names.
func (g *grouping) result() []db.UsageRow {
	rows := make([]db.UsageRow, 0, len(g.sums))
	for k, s := range g.sums {
		row := db.UsageRow{Key: k.key, Model: k.model, Served: k.served, Provider: k.provider, Sums: *s}
		if g.day || g.hour {
			row.Time = time.Unix(k.time, 0).UTC()
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b db.UsageRow) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Model, b.Model),
			cmp.Compare(a.Served, b.Served), cmp.Compare(a.Provider, b.Provider))
	})
	return rows
}
