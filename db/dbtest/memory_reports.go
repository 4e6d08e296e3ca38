package dbtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"tokenhub/db"
)

// Usage implements [db.Reports].
func (m *Mem) Usage(ctx context.Context, q db.UsageQuery) ([]db.UsageRow, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []db.UsageRow
	for _, l := range m.data.Lines {
		hour := l.Record.Start.Truncate(time.Hour)
		if hour.Before(q.From) || !hour.Before(q.To) ||
			q.Key != "" && l.Record.KeyID != q.Key || q.Model != "" && l.Model != q.Model || q.Provider != "" && l.Record.Provider != q.Provider {
			continue
		}
		row, err := group(&l, hour, q)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(rows, func(r db.UsageRow) bool { return compareRows(r, row) == 0 }); i >= 0 {
			rows[i].Add(row.Sums)
		} else {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, compareRows)
	return rows, nil
}

// group returns the row that a line alone would be.
func group(l *line, hour time.Time, q db.UsageQuery) (db.UsageRow, error) {
	row := db.UsageRow{Sums: sums(&l.Record)}
	for _, by := range q.GroupBy {
		switch by {
		case "key":
			row.Key = l.Record.KeyID
		case "model":
			row.Model = l.Model
		case "served_model":
			row.Served = l.Served
		case "provider":
			row.Provider = l.Record.Provider
		case "day":
			if !slices.Contains(q.GroupBy, "hour") {
				row.Time = db.DayOf(hour, q.Zone).Start
			}
		case "hour":
			row.Time = hour
		default:
			return row, fmt.Errorf("usage can't be grouped by %q", by)
		}
	}
	return row, nil
}

// sums returns what one record adds to its row.
func sums(r *db.Record) db.Sums {
	s := db.Sums{Requests: 1, Usage: r.Usage}
	if r.Failed() {
		s.Errors = 1
	}
	if r.Cost == db.UnknownCost {
		s.Unpriced = 1
	} else {
		s.Cost = r.Cost
	}
	if r.Source == db.Estimated || r.Source == db.Aborted {
		s.Estimated = 1
	}
	return s
}

func compareRows(a, b db.UsageRow) int {
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Model, b.Model),
		cmp.Compare(a.Served, b.Served), cmp.Compare(a.Provider, b.Provider))
}

// Requests implements [db.Reports].
func (m *Mem) Requests(ctx context.Context, q db.RequestQuery) (recs []db.Record, next string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// The cursor is the index of the last line of the page before.
	order := make([]int, len(m.data.Lines))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(m.data.Lines[b].Record.Start.Compare(m.data.Lines[a].Record.Start), cmp.Compare(b, a))
	})
	if q.Before != "" {
		var last int
		if _, err := fmt.Sscanf(q.Before, "r%d", &last); err != nil || !slices.Contains(order, last) {
			return nil, "", fmt.Errorf("%q is not a cursor of the log of requests", q.Before)
		}
		order = order[slices.Index(order, last)+1:]
	}
	for _, i := range order {
		r := m.data.Lines[i].Record
		if !matches(&r, q) {
			continue
		}
		if len(recs) == page(q.Limit) {
			return recs, next, nil
		}
		recs = append(recs, r)
		next = fmt.Sprintf("r%d", i)
	}
	return recs, "", nil
}

func matches(r *db.Record, q db.RequestQuery) bool {
	return (q.Key == "" || r.KeyID == q.Key) &&
		(q.Model == "" || r.Model == q.Model || r.Served == q.Model) &&
		(q.Provider == "" || r.Provider == q.Provider) &&
		(q.ID == "" || r.ID == q.ID) &&
		(q.From.IsZero() || !r.Start.Before(q.From)) &&
		(q.To.IsZero() || r.Start.Before(q.To)) &&
		(q.Status == 0 || r.Status == q.Status || q.Status < 10 && r.Status/100 == q.Status)
}
