package db

import (
	"math"
	"math/bits"
	"time"
)

// Standing is what a claim is judged against: where its key and its provider
// stand in the windows of the claim's time.
type Standing struct {
	Key KeyUsage
	// Provider is the month of the provider that would serve.
	Provider WindowUse
	// Replaces says that the claim takes the place of an earlier reservation of
	// the same request, which is in Key and Provider no more. Such a request runs
	// already: it is not held against the limits of concurrency and of requests.
	Replaces bool
}

// Decide tells what a claim gets of what is left: a reservation without an ID,
// or the *[LimitError] of the first limit in the way. All engines decide by it.
//
// The order is concurrency, requests and tokens per minute, the budgets in tokens
// and then those in dollars (day, month, in all), the provider's cap. A limit is
// in the way when what is used, held and needed together is more than it allows.
func Decide(l *Limits, s *Standing, c *Claim) (Reservation, error) {
	d := decision{limits: l, standing: s}
	if !s.Replaces {
		if err := d.count(LimitConcurrent, l.ConcurrentRequests, 0, s.Key.Running, time.Time{}); err != nil {
			return Reservation{}, err
		}
		if err := d.count(LimitRPM, l.RequestsPerMinute, s.Key.Minute.Requests, 0, s.Key.Minute.Resets); err != nil {
			return Reservation{}, err
		}
	}

	// least is the output without which the request is not worth sending, output
	// what it gets.
	input, output := max(c.Input, 0), max(c.Output, 0)
	least := output
	if c.OpenOutput {
		output, least = max(output, 1), 1
	}

	need := plus(input, least)
	tokenBudgets := [...]budget{{LimitTPM, l.TokensPerMinute}, {LimitDayTokens, l.DailyTokens},
		{LimitMonthTokens, l.MonthlyTokens}, {LimitTotalTokens, l.TotalTokens}}
	for i, use := range [...]*WindowUse{&s.Key.Minute, &s.Key.Day, &s.Key.Month, &s.Key.Total} {
		b := tokenBudgets[i]
		if b.max <= 0 {
			continue
		}
		room := b.max - plus(use.Tokens, use.HeldTokens)
		if need > room {
			return Reservation{}, d.refuse(b.name, b.max, use.Tokens, use.HeldTokens, need, use.Resets)
		}
		if c.OpenOutput {
			output = min(output, room-input)
		}
	}

	price := max(c.OutputPrice, 0)
	fixed := plus(max(c.InputCost, 0), max(c.FixedCost, 0))
	need = plus(fixed, outputCost(least, price))
	moneyBudgets := [...]budget{{LimitDayUSD, l.DailyUSD}, {LimitMonthUSD, l.MonthlyUSD},
		{LimitTotalUSD, l.TotalUSD}, {LimitProviderUSD, c.ProviderLimit}}
	for i, use := range [...]*WindowUse{&s.Key.Day, &s.Key.Month, &s.Key.Total, &s.Provider} {
		b := moneyBudgets[i]
		if b.max <= 0 {
			continue
		}
		room := b.max - plus(use.Cost, use.HeldCost)
		if need > room {
			return Reservation{}, d.refuse(b.name, b.max, use.Cost, use.HeldCost, need, use.Resets)
		}
		if c.OpenOutput {
			output = min(output, affordable(room-fixed, price))
		}
	}

	tokens := plus(input, output)
	return Reservation{
		KeyID: c.KeyID, Provider: c.Provider, Time: c.Time,
		Tokens: tokens, Cost: plus(fixed, outputCost(output, price)),
		Minute: d.minute(1, tokens),
	}, nil
}

// Charge is what a finished request counts against limits: tokens, and
// micro-dollars, which are 0 when the cost is unknown.
func (r *Record) Charge() (tokens, cost int64) {
	return plus(max(r.Usage.Input, 0), max(r.Usage.Output, 0)), max(r.Cost, 0)
}

// budget is one limit on tokens or money. The window that it holds in stands
// apart from it: together they would move to the heap, with each claim.
type budget struct {
	name string
	max  int64
}

type decision struct {
	limits   *Limits
	standing *Standing
}

// count refuses when a limit on the number of requests leaves no room for one.
func (d decision) count(name string, limit, used, held int64, resets time.Time) error {
	if limit <= 0 || used+held < limit {
		return nil
	}
	return d.refuse(name, limit, used, held, 1, resets)
}

func (d decision) refuse(name string, limit, used, held, need int64, resets time.Time) error {
	var requests int64
	if d.standing.Replaces {
		requests = 1 // it keeps the reservation it has
	}
	return &LimitError{Limit: name, Max: limit, Used: used, Held: held, Need: need, Resets: resets, Minute: d.minute(requests, 0)}
}

// minute is what the limits per minute leave after so many requests and tokens more.
func (d decision) minute(requests, tokens int64) MinuteState {
	use := &d.standing.Key.Minute
	m := MinuteState{RequestLimit: d.limits.RequestsPerMinute, TokenLimit: d.limits.TokensPerMinute, Reset: use.Resets}
	m.RequestsLeft = max(0, m.RequestLimit-plus(use.Requests, requests))
	m.TokensLeft = max(0, m.TokenLimit-plus(plus(use.Tokens, use.HeldTokens), tokens))
	return m
}

// plus adds two numbers that are not negative; what does not fit becomes the
// largest number.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// outputCost is what n tokens cost at a price per million, in micro-dollars,
// rounded up.
func outputCost(n, price int64) int64 {
	hi, lo := bits.Mul64(uint64(n), uint64(price))
	lo, carry := bits.Add64(lo, 999_999, 0)
	return quotient(hi+carry, lo, 1_000_000)
}

// affordable is how many output tokens room micro-dollars pay for at a price per
// million: the largest n with outputCost(n, price) <= room.
func affordable(room, price int64) int64 {
	if price == 0 {
		return math.MaxInt64
	}
	hi, lo := bits.Mul64(uint64(room), 1_000_000)
	return quotient(hi, lo, uint64(price))
}

// quotient divides hi:lo, rounded down; what does not fit becomes the largest number.
func quotient(hi, lo, by uint64) int64 {
	if hi >= by {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, by)
	return int64(min(q, math.MaxInt64))
}
