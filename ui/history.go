package ui

import (
	"context"
	"maps"
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
	// running are sums of days that are not over, where reading them takes long.
	running map[runningKey]runningSums
	// byTag are sums of days by tag, as long as no key changes.
	byTag map[span]tagSums
}

// tagSums are the sums by tag that were made of those by key in of.
type tagSums struct {
	of    *namedSums
	stamp uint64
	sums  []namedSums
}

const (
	// settledAfter is how long after its end a day is still read each time: an
	// answer that began in it may end, and count, later.
	settledAfter = 6 * time.Hour
	// mostKept bounds the memory: about 45 MB.
	mostKept = 400_000
	// quickRead is how long a read may take to be made for each page; what took
	// longer is good for readRest times as long.
	quickRead = 10 * time.Millisecond
	readRest  = 50
)

// runningKey names sums of a day that is not over: those by one dimension.
type runningKey struct {
	span
	by string
}

type runningSums struct {
	sums []namedSums
	good time.Time
}

// span is a stretch of time, of whole hours.
type span struct{ from, to time.Time }

// dimensions are what sums are kept by.
var dimensions = []string{"key", "model", "served_model", "provider"}

// daySums are the sums of one day: in all, and by each of the dimensions.
type daySums struct {
	total db.Sums
	by    [4][]namedSums
	// keyless says that the sums by key had to make room.
	keyless bool
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

// sums returns the sums of a day by a dimension, or in all.
func (h *history) sums(ctx context.Context, s span, by string, now time.Time) ([]namedSums, error) {
	if now.Before(s.to.Add(settledAfter)) {
		return h.sumsOfRunning(ctx, s, by)
	}
	d, err := h.day(ctx, s)
	if err != nil {
		return nil, err
	}
	i := slices.Index(dimensions, by)
	switch {
	case i < 0 && d.total.Requests == 0:
		return nil, nil
	case i < 0:
		return []namedSums{{"", d.total}}, nil
	case i == 0 && d.keyless:
		return h.read(ctx, s, by)
	}
	return d.by[i], nil
}

// sumsOfRunning returns sums of a day that is not over: as they are now or, where
// there are so many that reading takes long, as they were a moment ago.
func (h *history) sumsOfRunning(ctx context.Context, s span, by string) ([]namedSums, error) {
	k := runningKey{s, by}
	begun := time.Now() // what is measured is this machine
	h.mu.Lock()
	known := h.running[k]
	h.mu.Unlock()
	if begun.Before(known.good) {
		return known.sums, nil
	}
	sums, err := h.read(ctx, s, by)
	took := time.Since(begun)
	if err != nil || took < quickRead {
		return sums, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running == nil {
		h.running = map[runningKey]runningSums{}
	}
	maps.DeleteFunc(h.running, func(_ runningKey, r runningSums) bool { return begun.After(r.good) })
	h.running[k] = runningSums{sums, time.Now().Add(min(took*readRest, time.Minute))}
	return sums, nil
}

// tagged returns the sums of a day by tag, made of those by key.
func (h *history) tagged(s span, keys []namedSums, t *tagging) []namedSums {
	if len(keys) == 0 {
		return nil
	}
	h.mu.Lock()
	known := h.byTag[s]
	h.mu.Unlock()
	if known.of == &keys[0] && known.stamp == t.stamp {
		return known.sums
	}
	sums := t.sums(keys)
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := h.days[s]; d != nil && len(d.by[0]) > 0 && &d.by[0][0] == &keys[0] { // it is kept, so this may be
		if h.byTag == nil {
			h.byTag = map[span]tagSums{}
		}
		h.byTag[s] = tagSums{&keys[0], t.stamp, sums}
	}
	return sums
}

// read reads sums from the store.
func (h *history) read(ctx context.Context, s span, by string) ([]namedSums, error) {
	q := db.UsageQuery{From: s.from, To: s.to}
	if by != "" {
		q.GroupBy = []string{by}
	}
	rows, err := h.store.Usage(ctx, q)
	if err != nil {
		return nil, err
	}
	sums := make([]namedSums, len(rows))
	for i := range rows {
		row := &rows[i]
		sums[i] = namedSums{row.Key + row.Model + row.Served + row.Provider, row.Sums} // one of them is set
	}
	return sums, nil
}

// day returns the sums of a day that is over.
func (h *history) day(ctx context.Context, s span) (*daySums, error) {
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
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.days[s] == nil {
		if h.days == nil {
			h.days = map[span]*daySums{}
		}
		h.days[s] = d
		h.kept += d.size()
		h.makeRoom()
	}
	return d, nil
}

// makeRoom lets go of the oldest days when too much is kept: first of their sums
// by key, which are the most by far.
func (h *history) makeRoom() {
	for h.kept > mostKept {
		var oldest span
		keyless := true
		for s, d := range h.days {
			if oldest.to.IsZero() || keyless && !d.keyless || keyless == d.keyless && s.from.Before(oldest.from) {
				oldest, keyless = s, d.keyless
			}
		}
		d := h.days[oldest]
		h.kept -= d.size()
		delete(h.days, oldest)
		delete(h.byTag, oldest)
		if !keyless {
			rest := *d // others may be reading d
			rest.by[0], rest.keyless = nil, true
			h.days[oldest] = &rest
			h.kept += rest.size()
		}
	}
}

// forget drops the days that began before oldest, whose rows the store dropped.
func (h *history) forget(oldest time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s, d := range h.days {
		if s.from.Before(oldest) {
			delete(h.days, s)
			delete(h.byTag, s)
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

// runAfter is how long after the start the first days are read: whoever waited
// for the start comes first.
const runAfter = 2 * time.Second

// Run reads the days that the pages may show, the latest first, soon after the
// start and then each hour, so that nobody waits for them. It ends with ctx.
func (a *Admin) Run(ctx context.Context) error {
	timer := time.NewTimer(runAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := a.Prepare(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn().Err(err).Msg("read the usage of the past for the pages")
		}
		timer.Reset(time.Hour)
	}
}

// mostPrepared is how many days are read before somebody asks.
const mostPrepared = 400

// Prepare reads the days that are over, the latest first; where there is too much
// to keep, old ones lose their sums by key. Between two days it rests as long as
// reading took, so that requests have the machine for themselves half the time.
func (a *Admin) Prepare(ctx context.Context) error {
	now, zone := a.now(), zoneOf(a.config())
	first := now.AddDate(0, 0, -mostPrepared)
	if keep := a.config().Usage.KeepRollups; keep > 0 && now.Add(-keep).After(first) {
		first = now.Add(-keep)
	}
	n := int(now.Sub(first).Hours()/24) + 1
	s := lastDays(n, now, zone)
	for _, day := range slices.Backward(days(s.from, s.to, zone)) {
		if now.Before(day.to.Add(settledAfter)) {
			continue
		}
		begun := time.Now() // what is measured is this machine
		if _, err := a.history.day(ctx, day); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Since(begun)):
		}
	}
	return nil
}
