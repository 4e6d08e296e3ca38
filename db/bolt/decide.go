package bolt

import (
	"math"
	"math/bits"
	"time"

	"tokenhub/db"
)

// decide tells what a claim gets of what the key and its provider have left, or
// which limit is in the way.
func decide(l db.Limits, use db.KeyUsage, month db.WindowUse, c db.Claim) (tokens, cost int64, err *db.LimitError) {
	refuse := func(limit string, maximum, used, held, need int64, resets time.Time) *db.LimitError {
		return &db.LimitError{Limit: limit, Max: maximum, Used: used, Held: held, Need: need, Resets: resets, Minute: minuteState(l, use.Minute)}
	}
	if l.ConcurrentRequests > 0 && use.Running >= l.ConcurrentRequests {
		return 0, 0, refuse(db.LimitConcurrent, l.ConcurrentRequests, 0, use.Running, 1, time.Time{})
	}
	if l.RequestsPerMinute > 0 && use.Minute.Requests >= l.RequestsPerMinute {
		return 0, 0, refuse(db.LimitRPM, l.RequestsPerMinute, use.Minute.Requests, 0, 1, use.Minute.Resets)
	}
	output, least := c.Output, c.Output
	if c.OpenOutput {
		output, least = max(c.Output, 1), 1
	}
	for _, x := range [...]struct {
		name string
		max  int64
		w    *db.WindowUse
	}{
		{db.LimitTPM, l.TokensPerMinute, &use.Minute},
		{db.LimitDayTokens, l.DailyTokens, &use.Day},
		{db.LimitMonthTokens, l.MonthlyTokens, &use.Month},
		{db.LimitTotalTokens, l.TotalTokens, &use.Total},
	} {
		if x.max == 0 {
			continue
		}
		room := x.max - x.w.Tokens - x.w.HeldTokens
		if need := plus(c.Input, least); need > room {
			return 0, 0, refuse(x.name, x.max, x.w.Tokens, x.w.HeldTokens, need, x.w.Resets)
		}
		if c.OpenOutput {
			output = min(output, room-c.Input)
		}
	}
	fixed := plus(c.InputCost, c.FixedCost)
	for _, x := range [...]struct {
		name string
		max  int64
		w    *db.WindowUse
	}{
		{db.LimitDayUSD, l.DailyUSD, &use.Day},
		{db.LimitMonthUSD, l.MonthlyUSD, &use.Month},
		{db.LimitTotalUSD, l.TotalUSD, &use.Total},
		{db.LimitProviderUSD, c.ProviderLimit, &month},
	} {
		if x.max == 0 {
			continue
		}
		room := x.max - x.w.Cost - x.w.HeldCost
		if need := plus(fixed, outputCost(least, c.OutputPrice)); need > room {
			return 0, 0, refuse(x.name, x.max, x.w.Cost, x.w.HeldCost, need, x.w.Resets)
		}
		if c.OpenOutput && c.OutputPrice > 0 {
			output = min(output, affordable(room-fixed, c.OutputPrice))
		}
	}
	return plus(c.Input, output), plus(fixed, outputCost(output, c.OutputPrice)), nil
}

// plus adds without overflow.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// outputCost is what n output tokens cost at price per million, rounded up.
func outputCost(n, price int64) int64 {
	hi, lo := bits.Mul64(uint64(n), uint64(price))
	lo, carry := bits.Add64(lo, 999_999, 0)
	hi += carry
	if hi >= 1_000_000 {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, 1_000_000)
	return int64(min(q, math.MaxInt64))
}

// affordable is how many output tokens room pays for.
func affordable(room, price int64) int64 {
	hi, lo := bits.Mul64(uint64(room), 1_000_000)
	if hi >= uint64(price) {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, uint64(price))
	return int64(min(q, math.MaxInt64))
}

// minuteState tells what the limits per minute leave.
func minuteState(l db.Limits, m db.WindowUse) db.MinuteState {
	s := db.MinuteState{RequestLimit: l.RequestsPerMinute, TokenLimit: l.TokensPerMinute, Reset: m.Resets}
	if s.RequestLimit > 0 {
		s.RequestsLeft = max(s.RequestLimit-m.Requests, 0)
	}
	if s.TokenLimit > 0 {
		s.TokensLeft = max(s.TokenLimit-m.Tokens-m.HeldTokens, 0)
	}
	return s
}
