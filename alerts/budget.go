package alerts

import (
	"fmt"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// budget is one limit with what was used of it.
type budget struct {
	owner, name string // of the key or provider: its ID, and how people call it
	limit       string
	max, used   int64
	usd         bool
	ends        time.Time // of the window; zero = never
}

// budgeted reports whether a key has any budget.
func budgeted(k *db.Key) bool {
	l := k.Limits
	return l.DailyTokens > 0 || l.MonthlyTokens > 0 || l.TotalTokens > 0 || l.DailyUSD > 0 || l.MonthlyUSD > 0 || l.TotalUSD > 0
}

// budgets are those of a key.
func budgets(k *db.Key, u db.KeyUsage) []budget {
	if !budgeted(k) {
		return nil
	}
	l := k.Limits
	list := make([]budget, 0, 6)
	for _, b := range [...]budget{
		{limit: db.LimitDayTokens, max: l.DailyTokens, used: u.Day.Tokens, ends: u.Day.Resets},
		{limit: db.LimitMonthTokens, max: l.MonthlyTokens, used: u.Month.Tokens, ends: u.Month.Resets},
		{limit: db.LimitTotalTokens, max: l.TotalTokens, used: u.Total.Tokens},
		{limit: db.LimitDayUSD, max: l.DailyUSD, used: u.Day.Cost, usd: true, ends: u.Day.Resets},
		{limit: db.LimitMonthUSD, max: l.MonthlyUSD, used: u.Month.Cost, usd: true, ends: u.Month.Resets},
		{limit: db.LimitTotalUSD, max: l.TotalUSD, used: u.Total.Cost, usd: true},
	} {
		if b.max > 0 {
			b.owner, b.name = k.ID, fmt.Sprintf("the API key %q (%s)", k.Name, k.Prefix())
			list = append(list, b)
		}
	}
	return list
}

// budgetOfProvider is the cap on spending at a provider.
func budgetOfProvider(name string, most, spent int64, month db.Window) budget {
	return budget{owner: "provider " + name, name: fmt.Sprintf("the provider %q", name), limit: "monthly_usd",
		max: most, used: spent, usd: true, ends: month.End}
}

// message is what people read.
func (b budget) message(percent int) string {
	amount := func(n int64) string {
		if b.usd {
			return "$" + config.FormatUSD(n)
		}
		return fmt.Sprintf("%d tokens", n)
	}
	text := fmt.Sprintf("TokenHub: %s has used %d %% of its limit %s", b.name, percent, b.limit)
	if percent >= 100 {
		text = fmt.Sprintf("TokenHub: %s has used up its limit %s", b.name, b.limit)
	}
	text += fmt.Sprintf(": %s of %s.", amount(b.used), amount(b.max))
	if !b.ends.IsZero() {
		text += " It resets at " + b.ends.UTC().Format(time.RFC3339) + "."
	}
	return text
}
