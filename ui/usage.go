package ui

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"tokenhub/db"
)

// groups are what usage can be grouped by.
var groups = []string{"model", "served_model", "key", "provider", "day", "hour", "tag"}

// usageReport is a question about usage: what the store is asked, and what is
// made of its answer here, where tags and names of keys are known.
type usageReport struct {
	groupBy []string
	query   db.UsageQuery
	csv     bool
}

// usageRow is one row of the answer. A group that was not asked for is nil.
type usageRow struct {
	Key      *string `json:"key,omitempty"`
	KeyName  *string `json:"key_name,omitempty"`
	Model    *string `json:"model,omitempty"`
	Served   *string `json:"served_model,omitempty"`
	Provider *string `json:"provider,omitempty"`
	Day      *string `json:"day,omitempty"`
	Hour     *string `json:"hour,omitempty"`
	Tag      *string `json:"tag,omitempty"`

	Requests    int64   `json:"requests"`
	Errors      int64   `json:"errors"`
	Input       int64   `json:"input_tokens"`
	Output      int64   `json:"output_tokens"`
	CachedInput int64   `json:"cached_input_tokens"`
	CacheWrite  int64   `json:"cache_write_tokens"`
	Reasoning   int64   `json:"reasoning_tokens"`
	Cost        dollars `json:"cost_usd"`
	Estimated   int64   `json:"estimated_requests"`
	Unpriced    int64   `json:"unpriced_requests"`
}

func (a *Admin) usage(r *request) error {
	report, err := a.parseUsage(r)
	if err != nil {
		return err
	}
	rows, err := a.usageRows(r.ctx, report)
	if err != nil {
		return err
	}
	if report.csv {
		return r.usageCSV(report.groupBy, rows)
	}
	return r.json(200, struct {
		page[usageRow]
		From moment `json:"from"`
		To   moment `json:"to"`
	}{newPage(rows, ""), moment(report.query.From), moment(report.query.To)})
}

func (a *Admin) parseUsage(r *request) (*usageReport, error) {
	query, err := r.query("group_by", "from", "to", "key", "model", "provider", "format")
	if err != nil {
		return nil, err
	}
	report := &usageReport{query: db.UsageQuery{Model: query["model"], Provider: query["provider"], Zone: zoneOf(a.config())}}
	if report.groupBy, err = parseGroups(query["group_by"]); err != nil {
		return nil, err
	}
	for _, g := range report.groupBy {
		if g == "tag" {
			g = "key"
		}
		if !slices.Contains(report.query.GroupBy, g) {
			report.query.GroupBy = append(report.query.GroupBy, g)
		}
	}
	if key := query["key"]; key != "" {
		k, err := a.findKey(r.ctx, key)
		if err != nil {
			return nil, err
		}
		report.query.Key = k.ID
	}
	if report.query.From, report.query.To, err = parseSpan(query["from"], query["to"], a.now(), report.query.Zone); err != nil {
		return nil, err
	}
	switch query["format"] {
	case "":
		report.csv = r.accepts("text/csv")
	case "csv":
		report.csv = true
	case "json":
	default:
		return nil, errInvalid("\"format\" must be json or csv.")
	}
	return report, nil
}

// parseGroups reads a comma-separated list of groups.
func parseGroups(text string) ([]string, error) {
	var out []string
	if text == "" {
		return nil, nil
	}
	for g := range strings.SplitSeq(text, ",") {
		g = strings.TrimSpace(g)
		if !slices.Contains(groups, g) {
			return nil, errInvalid("Usage can't be grouped by %s: only by %s.", quote(g), strings.Join(groups, ", "))
		}
		if !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return out, nil
}

var errOrder = errInvalid("\"from\" must lie before \"to\" (which is exclusive; without it, the end of this hour).")

// parseSpan reads from and to; what is empty makes it the last 30 days, today
// included.
func parseSpan(from, to string, now time.Time, zone *time.Location) (start, end time.Time, err error) {
	end = now.UTC().Truncate(time.Hour).Add(time.Hour)
	if to != "" {
		if end, err = parseHour("to", to, zone); err != nil {
			return start, end, err
		}
	}
	if from == "" {
		start = wholeHour(db.DayOf(end.Add(-time.Nanosecond).AddDate(0, 0, -29), zone).Start)
	} else if start, err = parseHour("from", from, zone); err != nil {
		return start, end, err
	}
	if !start.Before(end) {
		return start, end, errOrder
	}
	return start, end, nil
}

// parseHour reads a date (its begin in zone) or a whole hour.
func parseHour(name, text string, zone *time.Location) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return wholeHour(db.DayOf(time.Date(day.Year(), day.Month(), day.Day(), 12, 0, 0, 0, zone), zone).Start), nil
	}
	// A plus sign that was not escaped in the query has become a blank.
	t, err := time.Parse(time.RFC3339, strings.ReplaceAll(text, " ", "+"))
	if err != nil || !t.Equal(t.Truncate(time.Hour)) {
		return time.Time{}, errInvalid("%s must be a date (2027-01-31) or a whole hour in UTC (2027-01-31T18:00:00Z).", quote(name))
	}
	return t.UTC(), nil
}

// wholeHour rounds up to a whole hour of UTC. Where a day begins at half past an
// hour, the hour that it shares with the day before counts to that one.
func wholeHour(t time.Time) time.Time {
	if hour := t.UTC().Truncate(time.Hour); hour.Before(t) {
		return hour.Add(time.Hour)
	}
	return t.UTC()
}

// group tells rows apart.
type group struct {
	key, model, served, provider, tag string
	time                              time.Time
}

func (a *Admin) usageRows(ctx context.Context, report *usageReport) ([]usageRow, error) {
	found, err := a.store.Usage(ctx, report.query)
	if err != nil {
		return nil, err
	}
	keys, err := a.keysByID(ctx)
	if err != nil {
		return nil, err
	}
	by := func(name string) bool { return slices.Contains(report.groupBy, name) }
	sums := map[group]*db.Sums{}
	for _, row := range found {
		g := group{key: row.Key, model: row.Model, served: row.Served, provider: row.Provider, time: row.Time}
		tags := []string{""}
		if by("tag") {
			if k := keys[row.Key]; k != nil && len(k.Tags) > 0 {
				tags = k.Tags
			}
			if !by("key") {
				g.key = ""
			}
		}
		for _, g.tag = range tags {
			if sums[g] == nil {
				sums[g] = &db.Sums{}
			}
			sums[g].Add(row.Sums)
		}
	}
	order := make([]group, 0, len(sums))
	for g := range sums {
		order = append(order, g)
	}
	slices.SortFunc(order, func(a, b group) int { return compareGroups(a, b, sums) })
	rows := make([]usageRow, len(order))
	for i, g := range order {
		rows[i] = viewUsage(g, *sums[g], by, keys, report.query.Zone)
	}
	return rows, nil
}

// compareGroups puts rows into order: by time, then the dearest and busiest first.
func compareGroups(a, b group, sums map[group]*db.Sums) int {
	x, y := sums[a], sums[b]
	return cmp.Or(
		a.time.Compare(b.time), cmp.Compare(y.Cost, x.Cost), cmp.Compare(y.Requests, x.Requests),
		cmp.Compare(a.key, b.key), cmp.Compare(a.model, b.model), cmp.Compare(a.served, b.served),
		cmp.Compare(a.provider, b.provider), cmp.Compare(a.tag, b.tag),
	)
}

func viewUsage(g group, s db.Sums, by func(string) bool, keys map[string]*db.Key, zone *time.Location) usageRow {
	row := usageRow{
		Requests: s.Requests, Errors: s.Errors, Input: s.Usage.Input, Output: s.Usage.Output,
		CachedInput: s.Usage.CachedInput, CacheWrite: s.Usage.CacheWrite, Reasoning: s.Usage.Reasoning,
		Cost: dollars(s.Cost), Estimated: s.Estimated, Unpriced: s.Unpriced,
	}
	set := func(at **string, name, value string) {
		if by(name) {
			*at = &value
		}
	}
	name := ""
	if k := keys[g.key]; k != nil {
		name = k.Name
	}
	set(&row.Key, "key", g.key)
	set(&row.KeyName, "key", name)
	set(&row.Model, "model", g.model)
	set(&row.Served, "served_model", g.served)
	set(&row.Provider, "provider", g.provider)
	set(&row.Day, "day", g.time.In(zone).Format(time.DateOnly))
	set(&row.Hour, "hour", g.time.UTC().Format(timeFormat))
	set(&row.Tag, "tag", g.tag)
	return row
}

func (a *Admin) keysByID(ctx context.Context) (map[string]*db.Key, error) {
	all, err := a.store.AllKeys(ctx)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]*db.Key, len(all))
	for _, k := range all {
		keys[k.ID] = k
	}
	return keys, nil
}
