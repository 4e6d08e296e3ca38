package ui

import (
	"context"
	"slices"
	"sync"
	"time"

	"tokenhub/db"
)

// history answers what pages ask about the past without reading all of it again:
// it keeps the sums of days that are over. The API does not use it, and always
// reads.
type history struct {
	store Store

	mu   sync.Mutex // guards what follows; not held while the store is read
	days map[span]*daySums
	// kept is the number of sums in days.
	kept int
}

const (
	// settledAfter is how long after its end a day is still read each time: an
	// answer that began in it may end, and count, later.
	settledAfter = 6 * time.Hour
	// mostKept bounds the memory: about 30 MB.
	mostKept = 250_000
)

// span is a stretch of time, of whole hours.
type span struct{ from, to time.Time }

// dimensions are what sums are kept by.
var dimensions = []string{"key", "model", "served_model", "provider"}

// daySums are the sums of one day: in all, and by each of the dimensions.
type daySums struct {
	total db.Sums
	by    [4][]namedSums
}

// namedSums are the sums of one key, model or provider.
type namedSums struct {
	name string
	db.Sums
}

func (d *daySums) size() int {
	n := 1
	for _, list := range d.by {
		n += len(list)
	}
	return n
}

// days returns the days of zone from the one in which from lies until to, in
// whole hours: where a day begins at half past an hour, with the next one.
func days(from, to time.Time, zone *time.Location) []span {
	var list []span
	for at := from; at.Before(to); {
		end := wholeHour(db.DayOf(at, zone).End)
		if !end.After(at) { // the rest of an hour that two days share
			end = at.Add(time.Hour)
		}
		if end.After(to) {
			end = to
		}
		list = append(list, span{at, end})
		at = end
	}
	return list
}

// day returns the sums of a day.
func (h *history) day(ctx context.Context, s span, now time.Time) (*daySums, error) {
	h.mu.Lock()
	known := h.days[s]
	h.mu.Unlock()
	if known != nil {
		return known, nil
	}
	rows, err := h.store.Usage(ctx, db.UsageQuery{From: s.from, To: s.to, GroupBy: dimensions})
	if err != nil {
		return nil, err
	}
	d := sumDay(rows)
	if now.Before(s.to.Add(settledAfter)) {
		return d, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := d.size(); h.kept+n <= mostKept && h.days[s] == nil {
		if h.days == nil {
			h.days = map[span]*daySums{}
		}
		h.days[s] = d
		h.kept += n
	}
	return d, nil
}

// forget drops the days that began before oldest, whose rows the store dropped.
func (h *history) forget(oldest time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s, d := range h.days {
		if s.from.Before(oldest) {
			delete(h.days, s)
			h.kept -= d.size()
		}
	}
}

// sumDay adds up rows by each dimension.
func sumDay(rows []db.UsageRow) *daySums {
	d := &daySums{}
	var maps [4]map[string]*db.Sums
	for i := range maps {
		maps[i] = map[string]*db.Sums{}
	}
	for i := range rows {
		row := &rows[i]
		d.total.Add(row.Sums)
		for j, name := range [...]string{row.Key, row.Model, row.Served, row.Provider} {
			sums := maps[j][name]
			if sums == nil {
				sums = &db.Sums{}
				maps[j][name] = sums
			}
			sums.Add(row.Sums)
		}
	}
	for i, m := range maps {
		d.by[i] = make([]namedSums, 0, len(m))
		for name, sums := range m {
			d.by[i] = append(d.by[i], namedSums{name, *sums})
		}
	}
	return d
}

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
	keys, err := a.keysByID(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].sums = byTag(list[i].sums, keys)
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
		d, err := a.history.day(ctx, s, now)
		if err != nil {
			return nil, err
		}
		p := period{span: s}
		if i := slices.Index(dimensions, by); i >= 0 {
			p.sums = d.by[i]
		} else if d.total.Requests > 0 {
			p.sums = []namedSums{{"", d.total}}
		}
		list = append(list, p)
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

// byTag adds up the sums of keys by their tags: a key with two of them counts
// for both, one without any for the empty one.
func byTag(sums []namedSums, keys map[string]*db.Key) []namedSums {
	m := map[string]*db.Sums{}
	for i := range sums {
		tags := []string{""}
		if k := keys[sums[i].name]; k != nil && len(k.Tags) > 0 {
			tags = k.Tags
		}
		for _, tag := range tags {
			if m[tag] == nil {
				m[tag] = &db.Sums{}
			}
			m[tag].Add(sums[i].Sums)
		}
	}
	list := make([]namedSums, 0, len(m))
	for tag, s := range m {
		list = append(list, namedSums{tag, *s})
	}
	return list
}

// together returns the sums of all periods, by name, in no order.
func together(list []period) []namedSums {
	m := map[string]int{}
	var out []namedSums
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

// Run reads the days that the pages show first, at the start and each hour, so
// that nobody waits for them. It ends with ctx.
func (a *Admin) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		zone := zoneOf(a.config())
		now := a.now()
		q := question{zone: zone, span: lastDays(90, now, zone)}
		if _, err := a.keptPeriods(ctx, q, ""); err != nil && ctx.Err() == nil {
			a.log.Warn().Err(err).Msg("read the usage of the last days for the pages")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// lastDays is the span of the last n days of zone, today included until the end
// of this hour.
func lastDays(n int, now time.Time, zone *time.Location) span {
	to := now.UTC().Truncate(time.Hour).Add(time.Hour)
	from := wholeHour(db.DayOf(db.DayOf(now, zone).Start.AddDate(0, 0, 1-n).Add(time.Hour), zone).Start)
	return span{from, to}
}
