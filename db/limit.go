package db

import (
	"fmt"
	"time"
)

// Limits are what a key may use. Zero means no limit; a set one is at least 1.
type Limits struct {
	RequestsPerMinute   int64 `json:"requests_per_minute,omitempty"`
	TokensPerMinute     int64 `json:"tokens_per_minute,omitempty"`
	ConcurrentRequests  int64 `json:"concurrent_requests,omitempty"`
	MaxTokensPerRequest int64 `json:"max_tokens_per_request,omitempty"`
	DailyTokens         int64 `json:"daily_tokens,omitempty"`
	MonthlyTokens       int64 `json:"monthly_tokens,omitempty"`
	TotalTokens         int64 `json:"total_tokens,omitempty"`
	// Micro-dollars.
	DailyUSD   int64 `json:"daily_usd,omitempty"`
	MonthlyUSD int64 `json:"monthly_usd,omitempty"`
	TotalUSD   int64 `json:"total_usd,omitempty"`
}

// Any reports whether there is any limit that the ledger has to hold.
func (l Limits) Any() bool { l.MaxTokensPerRequest = 0; return l != Limits{} }

// Tokens reports whether a token limit is set, per request included.
func (l Limits) Tokens() bool {
	return l.TokensPerMinute|l.MaxTokensPerRequest|l.DailyTokens|l.MonthlyTokens|l.TotalTokens != 0
}

// USD reports whether a budget in dollars is set.
func (l Limits) USD() bool { return l.DailyUSD|l.MonthlyUSD|l.TotalUSD != 0 }

// Claim is the worst case of one request.
type Claim struct {
	KeyID string
	Time  time.Time
	// Input and Output are tokens. With OpenOutput the request states no bound:
	// the smaller of Output and the room left is reserved, at least 1.
	Input, Output int64
	OpenOutput    bool
	// InputCost is the price of Input in micro-dollars, OutputPrice that of a
	// million output tokens in micro-dollars, FixedCost what a call costs besides.
	InputCost, OutputPrice, FixedCost int64
	// Provider would serve it; ProviderLimit is its monthly cap in micro-dollars, 0 = none.
	Provider      string
	ProviderLimit int64
	// Replaces is the ID of the request's earlier reservation, 0 = none.
	Replaces uint64
}

// Reservation is what a claim got. It is a value: keep it, and give it to
// Settle or Release.
type Reservation struct {
	ID       uint64
	KeyID    string
	Provider string
	Time     time.Time
	// Tokens and Cost are what is held.
	Tokens, Cost int64
	// Minute is where the key stands in the minute, this request included; for
	// the X-RateLimit headers.
	Minute MinuteState
}

// MinuteState is what is left of the limits per minute.
type MinuteState struct {
	// The limits, 0 = none, and what is left of them.
	RequestLimit, RequestsLeft int64
	TokenLimit, TokensLeft     int64
	// Reset is when the minute ends.
	Reset time.Time
}

// The names of limits, as they stand in LimitError.Limit and in the API.
const (
	LimitRPM         = "requests_per_minute"
	LimitTPM         = "tokens_per_minute"
	LimitConcurrent  = "concurrent_requests"
	LimitDayTokens   = "daily_tokens"
	LimitMonthTokens = "monthly_tokens"
	LimitTotalTokens = "total_tokens"
	LimitDayUSD      = "daily_usd"
	LimitMonthUSD    = "monthly_usd"
	LimitTotalUSD    = "total_usd"
	LimitProviderUSD = "provider_monthly_usd"
)

// LimitError says which limit refused a claim, with the numbers that the
// caller is told.
type LimitError struct {
	// Limit is one of the Limit names.
	Limit string
	// Max is the limit, Used what is settled, Held what running requests hold,
	// Need what this claim asked for at least. Micro-dollars for USD limits.
	Max, Used, Held, Need int64
	// Resets is when the window ends; zero for totals and concurrency.
	Resets time.Time
	// Minute is for the X-RateLimit headers.
	Minute MinuteState
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s: limit %d, used %d, held %d, needed %d", e.Limit, e.Max, e.Used, e.Held, e.Need)
}

// WindowUse is what a key used in one window.
type WindowUse struct {
	Requests, Tokens int64
	// Cost is in micro-dollars. Held tokens and cost are not in these.
	Cost                 int64
	HeldTokens, HeldCost int64
	// Resets is when the window ends; zero for the total.
	Resets time.Time
}

// KeyUsage is where a key stands.
type KeyUsage struct {
	Minute, Day, Month, Total WindowUse
	// Running is the number of requests that hold a reservation.
	Running int64
}
