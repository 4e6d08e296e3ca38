package ui

import (
	"cmp"
	"context"
	"slices"
	"time"

	"tokenhub/db"
)

// overviewBody is what the first page shows.
type overviewBody struct {
	Today, Month db.Sums
	Chart        *chart
	Providers    []providerView
	// Near are the keys that have used up most of a budget, the fullest first;
	// NearMore is how many more there are.
	Near     []nearKey
	NearMore int
	// Keys is the number of keys that work.
	Keys    int
	Running int64
	At      time.Time
}

// nearKey is a key with the budget that it has nearly used up.
type nearKey struct {
	*db.Key
	Gauge gauge
}

// mostNear is how many keys near a limit are listed.
const mostNear = 8

func (a *Admin) overviewPage(r *request) error {
	now := a.now()
	zone := zoneOf(a.config())
	q := question{span: lastDays(30, now, zone), zone: zone}
	list, err := a.periods(r.ctx, q)
	if err != nil {
		return err
	}
	body := &overviewBody{At: now}
	for i := range list {
		for j := range list[i].sums {
			body.Month.Add(list[i].sums[j].Sums)
			if i == len(list)-1 {
				body.Today.Add(list[i].sums[j].Sums)
			}
		}
	}
	body.Chart = newChart(list, measures[2], false, zone, func(string) string { return "" })
	body.Chart.Series = nil
	body.Providers = a.providerViews(r.ctx)
	if err := a.nearLimits(r.ctx, now, body); err != nil {
		return err
	}
	return a.page(r, 200, "overview", "Overview", body)
}

// nearLimits finds the keys that have used up most of a budget.
func (a *Admin) nearLimits(ctx context.Context, now time.Time, body *overviewBody) error {
	all, err := a.store.AllKeys(ctx)
	if err != nil {
		return err
	}
	for _, k := range all {
		if k.StatusAt(now) != db.Active {
			continue
		}
		body.Keys++
		u, err := a.store.KeyUsage(ctx, k.ID, now)
		if err != nil {
			return err
		}
		body.Running += u.Running
		if g, ok := fullest(&k.Limits, &u); ok && g.Level() != "ok" {
			body.Near = append(body.Near, nearKey{k, g})
		}
	}
	slices.SortStableFunc(body.Near, func(x, y nearKey) int {
		return cmp.Compare(share(y.Gauge.Used, y.Gauge.Max), share(x.Gauge.Used, x.Gauge.Max))
	})
	if len(body.Near) > mostNear {
		body.NearMore = len(body.Near) - mostNear
		body.Near = body.Near[:mostNear]
	}
	return nil
}
