package ui

import (
	"context"
	"errors"
	"net/url"
	"time"

	"tokenhub/db"
)

// testTime bounds the test of a provider from a page.
const testTime = time.Minute

// providersBody is what the page about providers shows.
type providersBody struct {
	Providers []providerCard
	// Tested is the result of a test that was just made, nil for none.
	Tested *testView
	// Running says that there is a gateway which knows.
	Running bool
	File    string
}

// providerCard is one provider with its cap.
type providerCard struct {
	providerView
	Path  string
	Gauge gauge
	Usage db.Sums
}

func (a *Admin) providersPage(r *request) error { return a.showProviders(r, nil) }

func (a *Admin) showProviders(r *request, tested *testView) error {
	zone := zoneOf(a.config())
	list, err := a.periods(r.ctx, question{span: lastDays(30, a.now(), zone), zone: zone, by: "provider"})
	if err != nil {
		return err
	}
	used := map[string]db.Sums{}
	for _, s := range together(list) {
		used[s.name] = s.Sums
	}
	body := &providersBody{Tested: tested, Running: a.gateway != nil, File: a.config().File}
	for _, v := range a.providerViews(r.ctx) {
		card := providerCard{providerView: v, Path: url.PathEscape(v.Name), Usage: used[v.Name]}
		if v.MonthlyUSD != nil {
			card.Gauge = gauge{"Spend this month", int64(v.SpentUSD), min(int64(v.HeldUSD), int64(*v.MonthlyUSD)), int64(*v.MonthlyUSD), true, db.MonthOf(a.now(), zone).End}
		}
		body.Providers = append(body.Providers, card)
	}
	return a.page(r, 200, "providers", "Providers", body)
}

func (a *Admin) testForm(r *request) error {
	name := r.param("name")
	// A provider may take longer than a page.
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	defer cancel()
	var stop context.CancelFunc
	r.ctx, stop = context.WithTimeout(context.Background(), testTime+pageTime)
	defer stop()
	v, err := a.tryProvider(ctx, name)
	if err != nil {
		if !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		text := "No answer within a minute."
		v = &testView{Provider: name, Error: &text}
	}
	return a.showProviders(r, v)
}
