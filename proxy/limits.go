package proxy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"tokenhub/db"
)

// retrySoon is the Retry-After of what may be over in a moment.
const retrySoon = time.Second

// limitError tells the caller which limit was in the way, in whole numbers.
func limitError(e *db.LimitError, now time.Time) *Error {
	out := &Error{Code: limitCodes[e.Limit], Minute: e.Minute, Err: e}
	name := strings.ReplaceAll(e.Limit, "_", " ")
	switch e.Limit {
	case db.LimitConcurrent:
		out.RetryAfter = retrySoon
		out.Message = fmt.Sprintf("This API key may have %d concurrent requests, and %d are running. Wait until one has ended.", e.Max, e.Held)
	case db.LimitRPM:
		out.RetryAfter = max(retrySoon, e.Resets.Sub(now)) // the minute may be over by now
		out.Message = fmt.Sprintf("This API key may make %d requests per minute; %d were made in this minute. It begins anew at %s.", e.Max, e.Used, clock(e.Resets))
	case db.LimitTPM:
		out.RetryAfter = max(retrySoon, e.Resets.Sub(now)) // the minute may be over by now
		out.Message = fmt.Sprintf("This API key may use %d tokens per minute; %d are used and %d held by running requests, and this one may need %d. The minute ends at %s.", e.Max, e.Used, e.Held, e.Need, clock(e.Resets))
	case db.LimitDayUSD, db.LimitMonthUSD, db.LimitTotalUSD:
		out.Message = fmt.Sprintf("The limit %s of this API key is $%s; $%s are used and $%s held by running requests, and this one may need $%s. %s",
			name, dollars(e.Max), dollars(e.Used), dollars(e.Held), dollars(e.Need), resets(e.Resets))
	default:
		out.Message = fmt.Sprintf("The limit %s of this API key is %d; %d are used and %d held by running requests, and this one may need %d. %s",
			name, e.Max, e.Used, e.Held, e.Need, resets(e.Resets))
	}
	if e.Need > e.Max {
		out.Message += " Even with none of it used this request would not fit: make it smaller, or have the limit raised."
	}
	return out
}

// limitCodes are the codes of the limits.
var limitCodes = map[string]string{
	db.LimitConcurrent:  "concurrent_requests_exceeded",
	db.LimitRPM:         "requests_per_minute_exceeded",
	db.LimitTPM:         "tokens_per_minute_exceeded",
	db.LimitDayTokens:   "daily_token_limit_reached",
	db.LimitMonthTokens: "monthly_token_limit_reached",
	db.LimitTotalTokens: "total_token_limit_reached",
	db.LimitDayUSD:      "daily_spend_limit_reached",
	db.LimitMonthUSD:    "monthly_spend_limit_reached",
	db.LimitTotalUSD:    "total_spend_limit_reached",
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func resets(t time.Time) string {
	if t.IsZero() {
		return "It does not reset; its owner can raise it."
	}
	return "It resets at " + clock(t) + "."
}

// dollars writes micro-dollars with at least two decimals, none of them lost.
func dollars(micro int64) string {
	text := fmt.Sprintf("%d.%06d", micro/1_000_000, micro%1_000_000)
	return text[:len(text)-4] + strings.TrimRight(text[len(text)-4:], "0")
}

// rateHeaders writes where a key stands in the minute, for the kinds that it
// limits, in place of the provider's own.
func rateHeaders(h *Headers, m db.MinuteState) {
	if m.RequestLimit == 0 && m.TokenLimit == 0 {
		return
	}
	numbers := [...]int64{m.Reset.Unix(), m.RequestLimit, max(0, m.RequestsLeft), m.TokenLimit, max(0, m.TokensLeft)}
	var ends [len(numbers)]int
	buf := make([]byte, 0, 20*len(numbers))
	for i, n := range numbers {
		buf = strconv.AppendInt(buf, n, 10)
		ends[i] = len(buf)
	}
	text, from := string(buf), 0 // one piece of memory for all of them
	var values [len(numbers)]string
	for i, to := range ends {
		values[i], from = text[from:to], to
	}
	if m.RequestLimit > 0 {
		h.Set("X-Ratelimit-Limit-Requests", values[1])
		h.Set("X-Ratelimit-Remaining-Requests", values[2])
		h.Set("X-Ratelimit-Reset-Requests", values[0])
	}
	if m.TokenLimit > 0 {
		h.Set("X-Ratelimit-Limit-Tokens", values[3])
		h.Set("X-Ratelimit-Remaining-Tokens", values[4])
		h.Set("X-Ratelimit-Reset-Tokens", values[0])
	}
}

// minuteOf works out the state of the minute from a key's usage, for answers
// that reserved nothing.
func minuteOf(l db.Limits, u db.KeyUsage) db.MinuteState {
	return db.MinuteState{
		RequestLimit: l.RequestsPerMinute, RequestsLeft: max(0, l.RequestsPerMinute-u.Minute.Requests),
		TokenLimit: l.TokensPerMinute, TokensLeft: max(0, l.TokensPerMinute-u.Minute.Tokens-u.Minute.HeldTokens),
		Reset: u.Minute.Resets,
	}
}

// retryAfter writes a wait in whole seconds, rounded up, at least 1.
func retryAfter(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}
