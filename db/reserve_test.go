package db

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"
)

const million = 1_000_000

var noon = time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)

// standing is where a key stands at noon that used nothing.
func standing() Standing {
	return Standing{
		Key: KeyUsage{
			Minute: WindowUse{Resets: MinuteOf(noon).End},
			Day:    WindowUse{Resets: DayOf(noon, nil).End},
			Month:  WindowUse{Resets: MonthOf(noon, nil).End},
		},
		Provider: WindowUse{Resets: MonthOf(noon, nil).End},
	}
}

// use adds what was used and is held to all windows.
func (s *Standing) use(tokens, cost, heldTokens, heldCost int64) {
	for _, w := range []*WindowUse{&s.Key.Minute, &s.Key.Day, &s.Key.Month, &s.Key.Total, &s.Provider} {
		w.Tokens += tokens
		w.Cost += cost
		w.HeldTokens += heldTokens
		w.HeldCost += heldCost
	}
}

func TestDecide(t *testing.T) {
	minute, day, month := MinuteOf(noon).End, DayOf(noon, nil).End, MonthOf(noon, nil).End
	tests := []struct {
		name         string
		limits       Limits
		stand        func(*Standing)
		claim        Claim
		tokens, cost int64
		refused      LimitError // without Minute
	}{
		{name: "no limits", claim: Claim{Input: 10, Output: 20, InputCost: 3, OutputPrice: 2 * million, FixedCost: 1}, tokens: 30, cost: 44},
		{name: "no limits, open", claim: Claim{Input: 10, Output: 4096, OpenOutput: true}, tokens: 4106},
		{name: "open without an output", claim: Claim{Input: 10, OpenOutput: true}, tokens: 11},
		{name: "nothing", claim: Claim{}},
		{name: "negative numbers are none", claim: Claim{Input: -1, Output: -1, InputCost: -1, OutputPrice: -1, FixedCost: -1}},
		{name: "cost is rounded up", claim: Claim{Output: 1, OutputPrice: 1}, tokens: 1, cost: 1},

		{name: "one runs of two", limits: Limits{ConcurrentRequests: 2}, stand: func(s *Standing) { s.Key.Running = 1 }},
		{name: "two run of two", limits: Limits{ConcurrentRequests: 2}, stand: func(s *Standing) { s.Key.Running = 2 },
			refused: LimitError{Limit: LimitConcurrent, Max: 2, Held: 2, Need: 1}},
		{name: "the last of the minute", limits: Limits{RequestsPerMinute: 3}, stand: func(s *Standing) { s.Key.Minute.Requests = 2 }},
		{name: "the minute is full", limits: Limits{RequestsPerMinute: 3}, stand: func(s *Standing) { s.Key.Minute.Requests = 3 },
			refused: LimitError{Limit: LimitRPM, Max: 3, Used: 3, Need: 1, Resets: minute}},
		{name: "a running request goes on above lowered limits", limits: Limits{RequestsPerMinute: 3, ConcurrentRequests: 1},
			stand: func(s *Standing) { s.Replaces = true; s.Key.Minute.Requests = 7; s.Key.Running = 4 }},

		{name: "tokens just fit", limits: Limits{TokensPerMinute: 100}, stand: func(s *Standing) { s.use(40, 0, 30, 0) },
			claim: Claim{Input: 10, Output: 20}, tokens: 30},
		{name: "tokens of the minute", limits: Limits{TokensPerMinute: 100}, stand: func(s *Standing) { s.use(40, 0, 30, 0) },
			claim:   Claim{Input: 11, Output: 20},
			refused: LimitError{Limit: LimitTPM, Max: 100, Used: 40, Held: 30, Need: 31, Resets: minute}},
		{name: "tokens of the day", limits: Limits{DailyTokens: 100}, claim: Claim{Input: 101},
			refused: LimitError{Limit: LimitDayTokens, Max: 100, Need: 101, Resets: day}},
		{name: "tokens of the month", limits: Limits{MonthlyTokens: 100, DailyTokens: 200}, claim: Claim{Input: 101},
			refused: LimitError{Limit: LimitMonthTokens, Max: 100, Need: 101, Resets: month}},
		{name: "tokens in all", limits: Limits{TotalTokens: 100}, stand: func(s *Standing) { s.use(120, 0, 0, 0) }, claim: Claim{Input: 1},
			refused: LimitError{Limit: LimitTotalTokens, Max: 100, Used: 120, Need: 1}},
		{name: "open takes the room", limits: Limits{DailyTokens: 100, TotalTokens: 50}, stand: func(s *Standing) { s.use(5, 0, 5, 0) },
			claim: Claim{Input: 10, Output: 4096, OpenOutput: true}, tokens: 40},
		{name: "open takes the last", limits: Limits{DailyTokens: 11}, claim: Claim{Input: 10, Output: 4096, OpenOutput: true}, tokens: 11},
		{name: "open without room for an answer", limits: Limits{DailyTokens: 10}, claim: Claim{Input: 10, Output: 4096, OpenOutput: true},
			refused: LimitError{Limit: LimitDayTokens, Max: 10, Need: 11, Resets: day}},

		{name: "dollars just fit", limits: Limits{DailyUSD: 100}, stand: func(s *Standing) { s.use(0, 40, 0, 30) },
			claim: Claim{Input: 7, InputCost: 10, FixedCost: 5, Output: 5, OutputPrice: 3 * million}, tokens: 12, cost: 30},
		{name: "dollars of the day", limits: Limits{DailyUSD: 100}, stand: func(s *Standing) { s.use(0, 40, 0, 30) },
			claim:   Claim{InputCost: 11, FixedCost: 5, Output: 5, OutputPrice: 3 * million},
			refused: LimitError{Limit: LimitDayUSD, Max: 100, Used: 40, Held: 30, Need: 31, Resets: day}},
		{name: "dollars of the month", limits: Limits{MonthlyUSD: 100}, claim: Claim{InputCost: 101},
			refused: LimitError{Limit: LimitMonthUSD, Max: 100, Need: 101, Resets: month}},
		{name: "dollars in all", limits: Limits{TotalUSD: 100}, claim: Claim{FixedCost: 101},
			refused: LimitError{Limit: LimitTotalUSD, Max: 100, Need: 101}},
		{name: "open takes what the dollars pay", limits: Limits{TotalUSD: 100}, stand: func(s *Standing) { s.use(0, 30, 0, 20) },
			claim: Claim{Input: 5, InputCost: 9, FixedCost: 1, Output: 4096, OutputPrice: 7 * million, OpenOutput: true}, tokens: 10, cost: 45},
		{name: "open at a price below a micro-dollar", limits: Limits{TotalUSD: 10},
			claim: Claim{Output: math.MaxInt64, OutputPrice: 3, OpenOutput: true}, tokens: 3_333_333, cost: 10},
		{name: "open with dollars for none", limits: Limits{TotalUSD: 16},
			claim:   Claim{InputCost: 9, FixedCost: 1, Output: 4096, OutputPrice: 7 * million, OpenOutput: true},
			refused: LimitError{Limit: LimitTotalUSD, Max: 16, Need: 17}},
		{name: "tokens bind more than dollars", limits: Limits{TotalUSD: 100, DailyTokens: 12},
			claim: Claim{Input: 10, Output: 4096, OutputPrice: 7 * million, OpenOutput: true}, tokens: 12, cost: 14},
		{name: "a free model has room in a budget that is used up", limits: Limits{TotalUSD: 100}, stand: func(s *Standing) { s.use(0, 100, 0, 0) },
			claim: Claim{Input: 10, Output: 10}, tokens: 20},

		{name: "the cap of the provider", claim: Claim{InputCost: 6, ProviderLimit: 10},
			stand:   func(s *Standing) { s.Provider.Cost, s.Provider.HeldCost = 3, 2 },
			refused: LimitError{Limit: LimitProviderUSD, Max: 10, Used: 3, Held: 2, Need: 6, Resets: month}},
		{name: "open takes what the cap pays", claim: Claim{Output: 4096, OutputPrice: million, OpenOutput: true, ProviderLimit: 10},
			stand: func(s *Standing) { s.Provider.Cost, s.Provider.HeldCost = 3, 2 }, tokens: 5, cost: 5},

		{name: "huge output", limits: Limits{DailyTokens: 100}, claim: Claim{Input: 1, Output: math.MaxInt64},
			refused: LimitError{Limit: LimitDayTokens, Max: 100, Need: math.MaxInt64, Resets: day}},
		{name: "huge output without limits", claim: Claim{Input: 1, Output: math.MaxInt64, OutputPrice: math.MaxInt64},
			tokens: math.MaxInt64, cost: math.MaxInt64},
		{name: "huge cost", limits: Limits{DailyUSD: 100}, claim: Claim{Output: math.MaxInt64, OutputPrice: math.MaxInt64, FixedCost: 1},
			refused: LimitError{Limit: LimitDayUSD, Max: 100, Need: math.MaxInt64, Resets: day}},
		{name: "huge holds", limits: Limits{DailyTokens: 100}, claim: Claim{Input: 1}, stand: func(s *Standing) { s.use(10, 0, math.MaxInt64-5, 0) },
			refused: LimitError{Limit: LimitDayTokens, Max: 100, Used: 10, Held: math.MaxInt64 - 5, Need: 1, Resets: day}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := standing()
			if tt.stand != nil {
				tt.stand(&s)
			}
			tt.claim.KeyID, tt.claim.Provider, tt.claim.Time = "k", "p", noon
			r, err := Decide(&tt.limits, &s, &tt.claim)
			if tt.refused.Limit != "" {
				var got *LimitError
				if !errors.As(err, &got) {
					t.Fatalf("got %+v, %v; want a refusal by %s", r, err, tt.refused.Limit)
				}
				tt.refused.Minute = got.Minute
				if *got != tt.refused {
					t.Fatalf("got %+v, want %+v", *got, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Tokens != tt.tokens || r.Cost != tt.cost {
				t.Errorf("got %d tokens and %d micro-dollars, want %d and %d", r.Tokens, r.Cost, tt.tokens, tt.cost)
			}
			if r.KeyID != "k" || r.Provider != "p" || !r.Time.Equal(noon) || r.ID != 0 {
				t.Errorf("got %+v, want the claim's key, provider and time, and no ID", r)
			}
		})
	}
}

// TestDecideOrder makes all limits refuse, and lifts them one by one.
func TestDecideOrder(t *testing.T) {
	l := Limits{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	c := Claim{Input: 1, Output: 1, InputCost: 1, OutputPrice: million, ProviderLimit: 1}
	s := standing()
	s.Key.Running, s.Key.Minute.Requests = 1, 1
	for _, step := range []struct {
		limit string
		lift  *int64
	}{
		{LimitConcurrent, &l.ConcurrentRequests},
		{LimitRPM, &l.RequestsPerMinute},
		{LimitTPM, &l.TokensPerMinute},
		{LimitDayTokens, &l.DailyTokens},
		{LimitMonthTokens, &l.MonthlyTokens},
		{LimitTotalTokens, &l.TotalTokens},
		{LimitDayUSD, &l.DailyUSD},
		{LimitMonthUSD, &l.MonthlyUSD},
		{LimitTotalUSD, &l.TotalUSD},
		{LimitProviderUSD, &c.ProviderLimit},
	} {
		_, err := Decide(&l, &s, &c)
		var got *LimitError
		if !errors.As(err, &got) || got.Limit != step.limit {
			t.Fatalf("got %v, want %s", err, step.limit)
		}
		*step.lift = 0
	}
	if _, err := Decide(&l, &s, &c); err != nil {
		t.Errorf("got %v without limits", err)
	}
}

func TestDecideMinute(t *testing.T) {
	l := Limits{RequestsPerMinute: 10, TokensPerMinute: 100, DailyTokens: 1000}
	s := standing()
	s.Key.Minute.Requests, s.Key.Minute.Tokens, s.Key.Minute.HeldTokens = 4, 20, 30
	reset := MinuteOf(noon).End

	r, err := Decide(&l, &s, &Claim{Input: 5, Output: 10})
	if want := (MinuteState{10, 5, 100, 35, reset}); err != nil || r.Minute != want {
		t.Errorf("got %+v, %v, want %+v", r.Minute, err, want)
	}
	_, err = Decide(&l, &s, &Claim{Input: 51})
	if got, want := err.(*LimitError).Minute, (MinuteState{10, 6, 100, 50, reset}); got != want {
		t.Errorf("refused: got %+v, want %+v", got, want)
	}
	s.Replaces = true
	_, err = Decide(&l, &s, &Claim{Input: 51})
	if got, want := err.(*LimitError).Minute, (MinuteState{10, 5, 100, 50, reset}); got != want {
		t.Errorf("refused a second attempt: got %+v, want %+v", got, want)
	}
	s.Key.Minute.Requests, s.Key.Minute.Tokens = 40, 200
	_, err = Decide(&l, &s, &Claim{Input: 51})
	if got, want := err.(*LimitError).Minute, (MinuteState{10, 0, 100, 0, reset}); got != want {
		t.Errorf("above the limits: got %+v, want %+v", got, want)
	}
	r, err = Decide(&Limits{}, &s, &Claim{Input: 51})
	if want := (MinuteState{Reset: reset}); err != nil || r.Minute != want {
		t.Errorf("without limits: got %+v, %v, want %+v", r.Minute, err, want)
	}
}

// TestDecideUsesBudgetsUp runs requests against budgets until one is refused:
// what they hold never passes a limit, and nearly all of it can be used.
func TestDecideUsesBudgetsUp(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	for range 300 {
		l := Limits{TotalTokens: 2000 + r.Int64N(100_000), TotalUSD: 2000 + r.Int64N(100_000)}
		if r.IntN(3) == 0 {
			l.TotalUSD = 0
		} else if r.IntN(2) == 0 {
			l.TotalTokens = 0
		}
		price := r.Int64N(4 * million)
		largest := max(l.TotalTokens, l.TotalUSD)
		if l.TotalTokens > 0 && l.TotalUSD > 0 {
			largest = min(l.TotalTokens, l.TotalUSD)
		}
		s := standing()
		for refused := false; !refused; {
			input := 1 + r.Int64N(largest/50)
			c := Claim{Input: input, InputCost: input / 4, Output: r.Int64N(1000), OutputPrice: price, OpenOutput: r.IntN(4) > 0}
			if !c.OpenOutput {
				c.Output = r.Int64N(20)
			}
			got, err := Decide(&l, &s, &c)
			if refused = err != nil; !refused {
				s.use(0, 0, got.Tokens, got.Cost)
				if got.Tokens < c.Input || c.OpenOutput && got.Tokens == c.Input {
					t.Fatalf("%+v got %+v", c, got)
				}
				if r.IntN(2) == 0 { // it ends, cheaper than it might
					tokens, cost := r.Int64N(got.Tokens+1), r.Int64N(got.Cost+1)
					s.use(tokens, cost, -got.Tokens, -got.Cost)
				}
			}
			tokens, cost := s.Key.Total.Tokens+s.Key.Total.HeldTokens, s.Key.Total.Cost+s.Key.Total.HeldCost
			if l.TotalTokens > 0 && tokens > l.TotalTokens || l.TotalUSD > 0 && cost > l.TotalUSD {
				t.Fatalf("%+v: %d tokens and %d micro-dollars are used or held", l, tokens, cost)
			}
			if refused && tokens < l.TotalTokens*95/100 && (l.TotalUSD == 0 || cost < l.TotalUSD*95/100) {
				t.Fatalf("%+v: refused at %d tokens and %d micro-dollars: %v", l, tokens, cost, err)
			}
		}
	}
}

// TestPrices compares with exact arithmetic.
func TestPrices(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	number := func() int64 { return r.Int64() >> r.IntN(63) }
	clamp := func(x *big.Int) int64 {
		if !x.IsInt64() {
			return math.MaxInt64
		}
		return x.Int64()
	}
	for range 100_000 {
		n, price := number(), number()
		exact := new(big.Int).Mul(big.NewInt(n), big.NewInt(price))
		exact.Add(exact, big.NewInt(999_999)).Quo(exact, big.NewInt(million))
		if got, want := outputCost(n, price), clamp(exact); got != want {
			t.Fatalf("%d tokens at %d cost %d, want %d", n, price, got, want)
		}
		if price > 0 {
			exact.Mul(big.NewInt(n), big.NewInt(million)).Quo(exact, big.NewInt(price))
			if got, want := affordable(n, price), clamp(exact); got != want {
				t.Fatalf("%d pay for %d at %d, want %d", n, got, price, want)
			}
		}
	}
	if got := affordable(0, 0); got != math.MaxInt64 {
		t.Errorf("nothing pays for %d free tokens", got)
	}
}

func TestCharge(t *testing.T) {
	tests := []struct {
		rec          Record
		tokens, cost int64
	}{
		{Record{Usage: Usage{Input: 3, Output: 4, CachedInput: 2, Reasoning: 1}, Cost: 9}, 7, 9},
		{Record{Usage: Usage{Input: 3}, Cost: UnknownCost}, 3, 0},
		{Record{Usage: Usage{Input: -3, Output: 4}}, 4, 0},
		{Record{Usage: Usage{Input: math.MaxInt64, Output: 4}}, math.MaxInt64, 0},
	}
	for _, tt := range tests {
		if tokens, cost := tt.rec.Charge(); tokens != tt.tokens || cost != tt.cost {
			t.Errorf("%+v: got %d, %d, want %d, %d", tt.rec, tokens, cost, tt.tokens, tt.cost)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	l := Limits{10, 1000, 10, 0, 10_000, 10_000, 0, 10_000, 10_000, 0}
	s := standing()
	c := Claim{Input: 10, Output: 10, InputCost: 3, OutputPrice: 3 * million, ProviderLimit: 1000}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decide(&l, &s, &c); err != nil {
			b.Fatal(err)
		}
	}
}
