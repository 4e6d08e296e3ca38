package ui

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// Gateway is what the admin side asks the running gateway. Nothing of it is
// called while a configuration is swapped in a way that it could see half of.
type Gateway interface {
	// Providers tells how the configured providers are doing, in the order of
	// the configuration. It asks nobody and does not wait.
	Providers(ctx context.Context) []ProviderState
	// Test makes one real, cheap call to a provider. A provider that fails is a
	// result, not an error.
	Test(ctx context.Context, provider string) (TestResult, error)
	// Explain says without calling anyone what would become of a request. What
	// it returns is sent as JSON.
	Explain(ctx context.Context, q ExplainQuery) (any, error)
}

// ProviderState is how one provider is doing.
type ProviderState struct {
	Name string
	// Status is "ok", "resting" (it kept failing and is tried last), or "unknown"
	// (nobody asked it yet).
	Status string
	// Models are those that it serves, as it lists them itself or as configured.
	Models []string
	// ModelsAt is when its own list was read; zero when it was not.
	ModelsAt time.Time
	// Running requests, and those that wait for a place among MaxConcurrency.
	Running, Waiting int
	// FirstByte is the recent time to the first byte, 0 = unknown; ErrorRate the
	// recent share of failures, 0 to 1.
	FirstByte time.Duration
	ErrorRate float64
	// LastError is the last failure in a few words, never a credential; empty = none.
	LastError   string
	LastErrorAt time.Time
	// RestsUntil is when a resting provider is probed again.
	RestsUntil time.Time
}

// TestResult is what became of one call to a provider.
type TestResult struct {
	OK bool
	// Model was asked; Status is what it answered, 0 = nothing.
	Model   string
	Status  int
	Latency time.Duration
	Usage   db.Usage
	// Cost is in micro-dollars, db.UnknownCost without a price.
	Cost int64
	// Error says in a sentence why it is not OK; never a credential.
	Error string
}

// ExplainQuery is a request that somebody thinks of making.
type ExplainQuery struct {
	Key   *db.Key
	Model string
	// MaxTokens is the output bound it would state; 0 = none.
	MaxTokens int64
	// Endpoint is the path, /v1/chat/completions unless it was said otherwise.
	Endpoint string
	Time     time.Time
}

// providerView is a provider on the wire.
type providerView struct {
	Name           string  `json:"name"`
	BaseURL        string  `json:"base_url"`
	Status         string  `json:"status"`
	Models         list    `json:"models"`
	ModelsAt       moment  `json:"models_at"`
	MaxConcurrency *int    `json:"max_concurrency"`
	Running        int     `json:"running"`
	Waiting        int     `json:"waiting"`
	FirstByteMS    *int64  `json:"first_byte_ms"`
	ErrorRate      float64 `json:"error_rate"`
	LastError      *string `json:"last_error"`
	LastErrorAt    moment  `json:"last_error_at"`
	RestsUntil     moment  `json:"rests_until"`
	// MonthlyUSD is the cap; SpentUSD and HeldUSD are this month's.
	MonthlyUSD *dollars `json:"monthly_usd"`
	SpentUSD   dollars  `json:"spent_usd"`
	HeldUSD    dollars  `json:"held_usd"`
}

func (a *Admin) listProviders(r *request) error {
	if _, err := r.query(); err != nil {
		return err
	}
	return r.json(200, newPage(a.providerViews(r.ctx), ""))
}

// providerViews returns the configured providers and how they are doing.
func (a *Admin) providerViews(ctx context.Context) []providerView {
	var states []ProviderState
	if a.gateway != nil {
		states = a.gateway.Providers(ctx)
	}
	now := a.now()
	var views []providerView
	for _, p := range a.config().Providers {
		state := ProviderState{Status: "unknown", Models: p.Models}
		if i := slices.IndexFunc(states, func(s ProviderState) bool { return s.Name == p.Name }); i >= 0 {
			state = states[i]
		}
		v := viewProvider(&p, &state)
		spent, held := a.store.ProviderSpend(ctx, p.Name, now)
		v.SpentUSD, v.HeldUSD = dollars(spent), dollars(held)
		views = append(views, v)
	}
	return views
}

func viewProvider(p *config.Provider, s *ProviderState) providerView {
	v := providerView{
		Name: p.Name, BaseURL: p.BaseURL, Status: s.Status, Models: list(s.Models), ModelsAt: moment(s.ModelsAt),
		Running: s.Running, Waiting: s.Waiting, ErrorRate: s.ErrorRate,
		LastErrorAt: moment(s.LastErrorAt), RestsUntil: moment(s.RestsUntil),
	}
	if p.MaxConcurrency > 0 {
		v.MaxConcurrency = &p.MaxConcurrency
	}
	if p.MonthlyUSD > 0 {
		most := dollars(p.MonthlyUSD)
		v.MonthlyUSD = &most
	}
	if s.FirstByte > 0 {
		ms := s.FirstByte.Milliseconds()
		v.FirstByteMS = &ms
	}
	if s.LastError != "" {
		v.LastError = &s.LastError
	}
	return v
}

// testView is the result of a test on the wire.
type testView struct {
	Provider  string `json:"provider"`
	OK        bool   `json:"ok"`
	Model     string `json:"model"`
	Status    *int   `json:"status"`
	LatencyMS int64  `json:"latency_ms"`
	db.Usage
	Cost  *dollars `json:"cost_usd"`
	Error *string  `json:"error"`
}

func (a *Admin) testProvider(r *request) error {
	if err := r.noBody(); err != nil {
		return err
	}
	v, err := a.tryProvider(r.ctx, r.param("name"))
	if err != nil {
		return err
	}
	return r.json(200, v)
}

// tryProvider makes one call to the provider of a name.
func (a *Admin) tryProvider(ctx context.Context, name string) (*testView, error) {
	known := providerNames(a.config())
	if !slices.Contains(known, name) {
		if len(known) == 0 {
			return nil, errMissing("No provider is configured yet: add a [[providers]] section to the configuration.")
		}
		return nil, errMissing("There is no provider %s. Configured are: %s.", quote(name), strings.Join(known, ", "))
	}
	if a.gateway == nil {
		return nil, errOffline("A test")
	}
	result, err := a.gateway.Test(ctx, name)
	if err != nil {
		return nil, err
	}
	v := &testView{Provider: name, OK: result.OK, Model: result.Model, LatencyMS: result.Latency.Milliseconds(), Usage: result.Usage}
	if result.Status != 0 {
		v.Status = &result.Status
	}
	if result.Cost != db.UnknownCost {
		cost := dollars(result.Cost)
		v.Cost = &cost
	}
	if result.Error != "" {
		v.Error = &result.Error
	}
	return v, nil
}

func (a *Admin) explain(r *request) error {
	query, err := r.query("key", "model", "max_tokens", "endpoint")
	if err != nil {
		return err
	}
	if query["key"] == "" || query["model"] == "" {
		return errInvalid("Say whose request it would be and for what: key=ID&model=NAME.")
	}
	q := ExplainQuery{Model: query["model"], Endpoint: query["endpoint"], Time: a.now()}
	if q.Endpoint == "" {
		q.Endpoint = "/v1/chat/completions"
	}
	if !strings.HasPrefix(q.Endpoint, "/v1/") {
		return errInvalid("\"endpoint\" must be a path under /v1, as /v1/chat/completions.")
	}
	if text := query["max_tokens"]; text != "" {
		if q.MaxTokens, err = strconv.ParseInt(text, 10, 64); err != nil || q.MaxTokens < 1 {
			return errInvalid("\"max_tokens\" must be a whole number of at least 1.")
		}
	}
	if q.Key, err = a.findKey(r.ctx, query["key"]); err != nil {
		return err
	}
	if a.gateway == nil {
		return errOffline("An explanation")
	}
	answer, err := a.gateway.Explain(r.ctx, q)
	if err != nil {
		return err
	}
	return r.json(200, answer)
}
