package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// TestExplainSaysWhatDoDoes: random keys, providers in random condition, random
// calls; what is explained is what then happens.
func TestExplainSaysWhatDoDoes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	names := []string{"a", "b", "c"}
	urls := make([]string, len(names))
	for i := range names {
		urls[i] = newFake(t, good).URL + "/v1"
	}
	refusals := map[string]int{}
	for round := range 1500 {
		h := newHub(t, func(cfg *config.Config) {
			cfg.Routing.Strategy = strategies[r.IntN(len(strategies))]
			cfg.Routing.Auto = []string{"c-1", "house"}
			cfg.Models[0].Fallbacks = []string{"nowhere", "a-1"}
			for i := range cfg.Providers {
				cfg.Prices[i].Input = int64(r.IntN(5)) * 1_000_000
				if r.IntN(3) == 0 {
					cfg.Providers[i].MonthlyUSD = int64(r.IntN(60)) + 1
				}
				cfg.Models[0].Targets[i].Weight = 1 + r.IntN(3)
			}
			if r.IntN(3) == 0 {
				cfg.Prices = cfg.Prices[1:]
			}
		}, urls...)
		now := time.Now()
		for _, p := range h.g.state.Load().providers {
			for range r.IntN(4) {
				if r.IntN(2) == 0 {
					p.health.failed("m", now, now, "5xx", 0, false)
				} else {
					p.health.answered("m", now, now, time.Duration(r.IntN(1000))*time.Millisecond, false)
				}
			}
		}
		k := h.key.Clone()
		maybe := func(n int64) int64 {
			if r.IntN(4) > 0 {
				return 0
			}
			return 1 + r.Int64N(n)
		}
		k.Limits = db.Limits{RequestsPerMinute: maybe(3), TokensPerMinute: maybe(300), ConcurrentRequests: maybe(2), MaxTokensPerRequest: maybe(200),
			DailyTokens: maybe(300), MonthlyTokens: maybe(300), TotalTokens: maybe(300), DailyUSD: maybe(600), MonthlyUSD: maybe(600), TotalUSD: maybe(600)}
		if r.IntN(3) == 0 {
			k.Models = [][]string{{"house"}, {"b/*"}, {"a-*", "c-*"}, {"nothing"}}[r.IntN(4)]
		}
		if r.IntN(3) == 0 {
			k.Providers = []string{names[r.IntN(3)]}
		}
		k, err := h.store.PutKey(t.Context(), k, db.Audit{})
		if err != nil {
			t.Fatal(err)
		}
		q := Query{Key: k, Path: []string{"", "/v1/completions", "/v1/embeddings", "/v1/files"}[max(0, r.IntN(40)-36)],
			Model: []string{"house", "house", "house", "a-1", "b/x", "auto", "unknown", "c-1"}[r.IntN(8)], MaxTokens: int64(r.IntN(3) * r.IntN(150)), Time: now, Header: http.Header{}}
		if r.IntN(4) == 0 {
			q.Header.Set("X-Inferoute-Strategy", append(slices.Clone(strategies), "best")[r.IntN(6)])
		}
		if r.IntN(4) == 0 {
			q.Header.Set("X-Inferoute-Fallback", "b-1,c-1")
		}
		x, err := h.g.Explain(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		again, err := h.g.Explain(t.Context(), q)
		if err != nil || fmt.Sprint(again.Provider, again.Refusal) != fmt.Sprint(x.Provider, x.Refusal) {
			t.Fatalf("round %d: explaining changed something: %v, then %v (error %v)", round, x, again, err)
		}
		if len(h.store.Holds()) != 0 {
			t.Fatalf("round %d: explaining holds something", round)
		}
		if q.Path == "" {
			q.Path = "/v1/chat/completions"
		}
		call := q.call()
		call.From = netip.MustParseAddr("127.0.0.1")
		call.Header = append(call.Header, Header{"Authorization", "Bearer one"})
		got := h.do(t.Context(), call)
		want := reply{status: 200, provider: x.Provider}
		if x.Refusal != nil {
			want = reply{status: x.Refusal.Status, code: x.Refusal.Code}
			refusals[x.Refusal.Code]++
		}
		if got.status != want.status || got.provider != want.provider || got.code != want.code || x.Allowed != (x.Refusal == nil) {
			t.Fatalf("round %d: %v, explained %v (%+v)\nquery %+v\nkey %+v", round, got, want, x, q, k)
		}
		if x.Allowed {
			if i := slices.IndexFunc(x.Targets, func(o Option) bool { return o.Provider == x.Provider }); i < 0 || x.Targets[i].Reserves == nil {
				t.Fatalf("round %d: targets %+v, want the one of %s with what it reserves", round, x.Targets, x.Provider)
			}
		}
	}
	for _, code := range []string{"model_not_found", "model_not_allowed", "provider_not_allowed", "endpoint_not_allowed", "max_tokens_exceeded",
		"tokens_per_minute_exceeded", "daily_token_limit_reached", "daily_spend_limit_reached", "model_not_priced", "all_providers_failed", "invalid_strategy"} {
		if refusals[code] == 0 {
			t.Errorf("no round was refused by %s: %v", code, refusals)
		}
	}
}

func TestExplainShowsTheTargetsAndTheRoom(t *testing.T) {
	h := newHub(t, func(cfg *config.Config) { cfg.Models[0].Fallbacks = []string{"b-1"} }, newFake(t, good).URL+"/v1", newFake(t, good).URL+"/v1")
	key := h.addKey("lim", db.Limits{DailyUSD: 5_000_000, TokensPerMinute: 1000})
	now := time.Now()
	h.g.state.Load().byName["a"].health.failed("m", now, now, "429", time.Minute, false)
	x, err := h.g.Explain(t.Context(), Query{Key: key, Model: "house", MaxTokens: 100})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range x.Targets {
		got = append(got, fmt.Sprintf("%s %s for %s: %s, %s/%s, %d tokens $%s", o.Provider, o.Served, o.For, o.Status, o.Price.Input, o.Price.Output, o.Reserves.Tokens, o.Reserves.USD))
	}
	want := []string{"b m for house: unknown, 1/2, 112 tokens $0.000212", "b b-1 for b-1: unknown, 1/2, 112 tokens $0.000212", "a m for house: resting, 1/2, 112 tokens $0.000212"}
	if !slices.Equal(got, want) {
		t.Errorf("targets\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if x.Provider != "b" || x.Served != "m" || x.Strategy != "priority" || !x.Allowed {
		t.Errorf("%+v", x)
	}
	if len(x.Limits) != 2 || x.Limits[0].Limit != "tokens_per_minute" || x.Limits[0].Left != "1000" || x.Limits[1].Limit != "daily_usd" || x.Limits[1].Max != "5" || x.Limits[1].ResetsAt == nil {
		t.Errorf("limits %+v", x.Limits)
	}
	k := key.Clone()
	k.Disabled = true
	if x, err = h.g.Explain(t.Context(), Query{Key: k, Model: "house"}); err != nil || x.Allowed || x.Refusal.Status != 401 || !strings.Contains(x.Refusal.Message, "disabled") {
		t.Errorf("%+v, %v; want a refusal that says that the key is disabled", x, err)
	}
}
