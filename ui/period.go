package ui

import (
	"context"
	"slices"
	"time"

	"tokenhub/db"
)

// period is one bar of a chart: a day or an hour, with its sums by name.
type period struct {
	span
	sums []namedSums
}

// question is what a page wants to know about usage.
type question struct {
	span
	zone *time.Location
	// by is a dimension, "tag", or empty for the sums in all.
	by string
	// hourly asks for hours instead of days.
	hourly bool
	// key (an ID), model and provider keep what is theirs; empty = all.
	key, model, provider string
}

// periods answers a question: one period for each day or hour, in order, also
// for those without any usage.
func (a *Admin) periods(ctx context.Context, q question) ([]period, error) {
	by := q.by
	if by == "tag" {
		by = "key"
	}
	var list []period
	var err error
	if q.hourly || q.key != "" || q.model != "" || q.provider != "" {
		list, err = a.readPeriods(ctx, q, by)
	} else {
		list, err = a.keptPeriods(ctx, q, by)
	}
	if err != nil || q.by != "tag" {
		return list, err
	}
	keys, err := a.store.AllKeys(ctx)
	if err != nil {
		return nil, err
	}
	tags := newTagging(keys)
	for i := range list {
		list[i].sums = a.history.tagged(list[i].span, list[i].sums, tags)
	}
	return list, nil
}

// keptPeriods answers from the days that are known.
func (a *Admin) keptPeriods(ctx context.Context, q question, by string) ([]period, error) {
	now := a.now()
	if keep := a.config().Usage.KeepRollups; keep > 0 {
		a.history.forget(now.Add(-keep))
	}
	var list []period
	for _, s := range days(q.from, q.to, q.zone) {
		sums, err := a.history.sums(ctx, s, by, now)
		if err != nil {
			return nil, err
		}
		list = append(list, period{span: s, sums: sums})
	}
	return list, nil
}

// readPeriods answers from the store.
func (a *Admin) readPeriods(ctx context.Context, q question, by string) ([]period, error) {
	query := db.UsageQuery{From: q.from, To: q.to, Zone: q.zone, Key: q.key, Model: q.model, Provider: q.provider, GroupBy: []string{"hour"}}
	if by != "" {
		query.GroupBy = append(query.GroupBy, by)
	}
	rows, err := a.store.Usage(ctx, query)
	if err != nil {
		return nil, err
	}
	spans := days(q.from, q.to, q.zone)
	if q.hourly {
		spans = nil
		for at := q.from; at.Before(q.to); at = at.Add(time.Hour) {
			spans = append(spans, span{at, at.Add(time.Hour)})
		}
	}
	list := make([]period, len(spans))
	sums := make([]map[string]*db.Sums, len(spans))
	for i, s := range spans {
		list[i].span = s
		sums[i] = map[string]*db.Sums{}
	}
	for i := range rows {
		row := &rows[i]
		at, found := slices.BinarySearchFunc(spans, row.Time, func(s span, t time.Time) int {
			switch {
			case !t.Before(s.to):
				return -1
			case t.Before(s.from):
				return 1
			}
			return 0
		})
		if !found {
			continue
		}
		name := map[string]string{"key": row.Key, "model": row.Model, "served_model": row.Served, "provider": row.Provider}[by]
		if sums[at][name] == nil {
			sums[at][name] = &db.Sums{}
		}
		sums[at][name].Add(row.Sums)
	}
	for i, m := range sums {
		for name, s := range m {
			list[i].sums = append(list[i].sums, namedSums{name, *s})
		}
	}
	return list, nil
}

// tagging knows the tags of each key: as places in the list of all tags, the
// first of which is the empty one.
type tagging struct {
	tags []string
	of   map[string][]int
	// stamp changes when a key does.
	stamp uint64
}

func newTagging(keys []*db.Key) *tagging {
	t := &tagging{tags: []string{""}, of: make(map[string][]int, len(keys))}
	places := map[string]int{}
	for _, k := range keys {
		t.stamp += 1<<32 + k.Revision // which only grow
		if len(k.Tags) == 0 {
			continue
		}
		list := make([]int, len(k.Tags))
		for i, tag := range k.Tags {
			at, known := places[tag]
			if !known {
				at = len(t.tags)
				places[tag] = at
				t.tags = append(t.tags, tag)
			}
			list[i] = at
		}
		t.of[k.ID] = list
	}
	return t
}

// sums adds up the sums of keys by their tags: a key with two of them counts for
// both, one without any for the empty one.
func (t *tagging) sums(keys []namedSums) []namedSums {
	all := make([]db.Sums, len(t.tags))
	for i := range keys {
		places, tagged := t.of[keys[i].name]
		if !tagged {
			all[0].Add(keys[i].Sums)
		}
		for _, at := range places {
			all[at].Add(keys[i].Sums)
		}
	}
	var list []namedSums
	for at, s := range all {
		if s != (db.Sums{}) {
			list = append(list, namedSums{t.tags[at], s})
		}
	}
	return list
}

// together returns the sums of all periods, by name, in no order.
func together(list []period) []namedSums {
	most := 0
	for _, p := range list {
		most = max(most, len(p.sums))
	}
	m, out := make(map[string]int, most), make([]namedSums, 0, most)
	for _, p := range list {
		for i := range p.sums {
			s := &p.sums[i]
			at, known := m[s.name]
			if !known {
				at = len(out)
				m[s.name] = at
				out = append(out, namedSums{name: s.name})
			}
			out[at].Add(s.Sums)
		}
	}
	return out
}

// lastDays is the span of the last n days of zone, today included until the end
// of this hour.
func lastDays(n int, now time.Time, zone *time.Location) span {
	to := now.UTC().Truncate(time.Hour).Add(time.Hour)
	from := wholeHour(db.DayOf(db.DayOf(now, zone).Start.AddDate(0, 0, 1-n).Add(time.Hour), zone).Start)
	return span{from, to}
}
