package proxy

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"tokenhub/db"
)

// keyObject is what GET /v1/key shows the holder of a key.
type keyObject struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Prefix     string         `json:"prefix"`
	Status     db.Status      `json:"status"`
	CreatedAt  string         `json:"created_at"`
	ExpiresAt  *string        `json:"expires_at"`
	Models     []string       `json:"models"`
	Providers  []string       `json:"providers"`
	Endpoints  string         `json:"endpoints"`
	AllowedIPs []string       `json:"allowed_ips"`
	Limits     map[string]any `json:"limits"`
	Usage      map[string]any `json:"usage"`
	Timezone   string         `json:"timezone"`
}

// ownKey answers GET /v1/key.
func (f *flight) ownKey(ctx context.Context) (*Response, error) {
	defer f.finish()
	use, err := f.g.store.KeyUsage(ctx, f.key.ID, f.g.now())
	if err != nil {
		return nil, &Error{Code: "storage_unavailable", RetryAfter: retrySoon, Err: err,
			Message: "The server can't read its store at the moment. Try again soon."}
	}
	k := f.key
	o := keyObject{ID: k.ID, Name: k.Name, Prefix: k.Prefix(), Status: k.StatusAt(f.g.now()),
		CreatedAt: timestamp(k.CreatedAt), Models: list(k.Models), Providers: list(k.Providers),
		Endpoints: k.Endpoints, AllowedIPs: list(k.AllowedIPs), Limits: limitsObject(k.Limits),
		Timezone: f.st.cfg.Timezone.String(),
		Usage: map[string]any{"minute": windowObject(use.Minute), "day": windowObject(use.Day),
			"month": windowObject(use.Month), "total": windowObject(use.Total), "running": use.Running}}
	if !k.ExpiresAt.IsZero() {
		at := timestamp(k.ExpiresAt)
		o.ExpiresAt = &at
	}
	return f.own(o)
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// list is names as JSON shows them: an empty list, never null.
func list(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}

// windowObject shows one window's use; resets_at is null for the total.
func windowObject(w db.WindowUse) map[string]any {
	o := map[string]any{"requests": w.Requests, "tokens": w.Tokens, "usd": usd(w.Cost), "resets_at": nil}
	if !w.Resets.IsZero() {
		o["resets_at"] = timestamp(w.Resets)
	}
	return o
}

// limitsObject shows the limits that are set.
func limitsObject(l db.Limits) map[string]any {
	o := map[string]any{}
	for name, n := range map[string]int64{"requests_per_minute": l.RequestsPerMinute, "tokens_per_minute": l.TokensPerMinute,
		"concurrent_requests": l.ConcurrentRequests, "max_tokens_per_request": l.MaxTokensPerRequest,
		"daily_tokens": l.DailyTokens, "monthly_tokens": l.MonthlyTokens, "total_tokens": l.TotalTokens} {
		if n > 0 {
			o[name] = n
		}
	}
	for name, n := range map[string]int64{"daily_usd": l.DailyUSD, "monthly_usd": l.MonthlyUSD, "total_usd": l.TotalUSD} {
		if n > 0 {
			o[name] = usd(n)
		}
	}
	return o
}

// usd is an amount as an exact JSON number of dollars.
func usd(micro int64) json.Number {
	sign := ""
	if micro < 0 {
		sign, micro = "-", -micro
	}
	text := strings.TrimRight(strings.TrimRight(dollars(micro), "0"), ".")
	return json.Number(sign + text)
}
