package ui

import (
	"strconv"

	"tokenhub/db"
)

// maxWhole is the largest whole number that every reader of JSON keeps exactly.
const maxWhole = 1<<53 - 1

// limitsView is a key's limits on the wire; those that are not set are left out.
type limitsView struct {
	RequestsPerMinute   int64   `json:"requests_per_minute,omitempty"`
	TokensPerMinute     int64   `json:"tokens_per_minute,omitempty"`
	ConcurrentRequests  int64   `json:"concurrent_requests,omitempty"`
	MaxTokensPerRequest int64   `json:"max_tokens_per_request,omitempty"`
	DailyTokens         int64   `json:"daily_tokens,omitempty"`
	MonthlyTokens       int64   `json:"monthly_tokens,omitempty"`
	TotalTokens         int64   `json:"total_tokens,omitempty"`
	DailyUSD            dollars `json:"daily_usd,omitempty"`
	MonthlyUSD          dollars `json:"monthly_usd,omitempty"`
	TotalUSD            dollars `json:"total_usd,omitempty"`
}

func viewLimits(l db.Limits) limitsView {
	return limitsView{
		RequestsPerMinute: l.RequestsPerMinute, TokensPerMinute: l.TokensPerMinute,
		ConcurrentRequests: l.ConcurrentRequests, MaxTokensPerRequest: l.MaxTokensPerRequest,
		DailyTokens: l.DailyTokens, MonthlyTokens: l.MonthlyTokens, TotalTokens: l.TotalTokens,
		DailyUSD: dollars(l.DailyUSD), MonthlyUSD: dollars(l.MonthlyUSD), TotalUSD: dollars(l.TotalUSD),
	}
}

// limitNamed returns where the limit of a name is kept, and whether it is an
// amount of money; nil for a name that is none.
func limitNamed(l *db.Limits, name string) (at *int64, usd bool) {
	switch name {
	case "requests_per_minute":
		return &l.RequestsPerMinute, false
	case "tokens_per_minute":
		return &l.TokensPerMinute, false
	case "concurrent_requests":
		return &l.ConcurrentRequests, false
	case "max_tokens_per_request":
		return &l.MaxTokensPerRequest, false
	case "daily_tokens":
		return &l.DailyTokens, false
	case "monthly_tokens":
		return &l.MonthlyTokens, false
	case "total_tokens":
		return &l.TotalTokens, false
	case "daily_usd":
		return &l.DailyUSD, true
	case "monthly_usd":
		return &l.MonthlyUSD, true
	case "total_usd":
		return &l.TotalUSD, true
	}
	return nil, false
}

// editLimits merges the object f into l: what is absent stays, null removes.
func editLimits(l *db.Limits, f field) error {
	if f.isNull() {
		*l = db.Limits{}
		return nil
	}
	fields, err := parseObject(f.raw, f.name)
	if err != nil {
		return err
	}
	for _, f := range fields {
		at, usd := limitNamed(l, f.name)
		if at == nil {
			return errInvalid("There is no limit %s.", quote(f.name))
		}
		if f.isNull() {
			*at = 0
			continue
		}
		text, err := f.number()
		if err != nil {
			return err
		}
		if usd {
			*at, err = parseDollars(f.name, text)
		} else {
			*at, err = parseWhole(f.name, text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parseWhole reads the text of a JSON number as a whole number of at least 1.
func parseWhole(name, text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || n < 0 || n > maxWhole:
		return 0, errInvalid("%s must be a whole number from 1 to %d.", quote(name), int64(maxWhole))
	case n == 0:
		return 0, errZero(name)
	}
	return n, nil
}
