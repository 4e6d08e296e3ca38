package ui

import (
	"time"

	"tokenhub/db"
)

// gauge is where a key, or a provider, stands against one limit.
type gauge struct {
	// Label names the limit for people.
	Label string
	// Used and Held count against Max; micro-dollars if USD.
	Used, Held, Max int64
	USD             bool
	// Resets is when it begins anew; zero for never.
	Resets time.Time
}

// Share is how much of the limit is used and held, from 0 to 1.
func (g gauge) Share() float64 { return min(1, share(g.Used, g.Max)+share(g.Held, g.Max)) }

// Width is the length of the bar, of 100.
func (g gauge) Width() float64 { return float64(int(g.Share()*1000)) / 10 }

// Level says how near the limit is: ok, near or full.
func (g gauge) Level() string {
	switch s := share(g.Used, g.Max); {
	case s >= 1:
		return "full"
	case s >= near:
		return "near"
	}
	return "ok"
}

// near is the share from which on a limit is nearly used up.
const near = 0.8

// gauges returns where a key stands against each limit that counts something.
func gauges(l *db.Limits, u *db.KeyUsage) []gauge {
	var list []gauge
	add := func(label string, most, used, held int64, usd bool, resets time.Time) {
		if most > 0 {
			list = append(list, gauge{label, used, min(held, most), most, usd, resets})
		}
	}
	tokens := func(label string, most int64, w *db.WindowUse) {
		add(label, most, w.Tokens, w.HeldTokens, false, w.Resets)
	}
	dollars := func(label string, most int64, w *db.WindowUse) {
		add(label, most, w.Cost, w.HeldCost, true, w.Resets)
	}
	add("Requests this minute", l.RequestsPerMinute, u.Minute.Requests, 0, false, u.Minute.Resets)
	tokens("Tokens this minute", l.TokensPerMinute, &u.Minute)
	add("Requests at once", l.ConcurrentRequests, u.Running, 0, false, time.Time{})
	tokens("Tokens today", l.DailyTokens, &u.Day)
	tokens("Tokens this month", l.MonthlyTokens, &u.Month)
	tokens("Tokens in all", l.TotalTokens, &u.Total)
	dollars("Spend today", l.DailyUSD, &u.Day)
	dollars("Spend this month", l.MonthlyUSD, &u.Month)
	dollars("Spend in all", l.TotalUSD, &u.Total)
	return list
}

// fullest returns the budget of a key that is used up most; false when it has
// none. Limits per minute and at once, which come and go, are not budgets.
func fullest(l *db.Limits, u *db.KeyUsage) (gauge, bool) {
	budgets := *l
	budgets.RequestsPerMinute, budgets.TokensPerMinute, budgets.ConcurrentRequests = 0, 0, 0
	if !budgets.Any() {
		return gauge{}, false
	}
	list := gauges(&budgets, u)
	most := list[0]
	for _, g := range list {
		if g.Share() > most.Share() {
			most = g
		}
	}
	return most, true
}
