package e2e

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"tokenhub/db"
	"tokenhub/db/bolt"
)

// pastModel is a model that was used in the past, with its price per million
// tokens in micro-dollars.
type pastModel struct {
	asked, served, provider string
	input, output           int64
	share                   int
}

var pastModels = []pastModel{
	{"gpt-4o-mini", "gpt-4o-mini-2024-07-18", "openai", 150_000, 600_000, 34},
	{"claude-sonnet-4-5", "claude-sonnet-4-5", "anthropic", 3_000_000, 15_000_000, 22},
	{"house", "qwen3:14b", "ollama", 0, 0, 26},
	{"gpt-4o", "gpt-4o-2024-11-20", "openai", 2_500_000, 10_000_000, 8},
	{"text-embedding-3-small", "text-embedding-3-small", "openai", 20_000, 0, 6},
	{"llama3.1:8b", "llama3.1:8b", "ollama", 0, 0, 4},
}

// pastConfig configures providers with which the past happened.
const pastConfig = `
[[providers]]
name        = "openai"
base_url    = "http://127.0.0.1:1/v1"
models      = ["gpt-4o-mini", "gpt-4o", "text-embedding-3-small"]
monthly_usd = 60.0
[[providers]]
name     = "anthropic"
base_url = "http://127.0.0.1:1/anthropic/v1"
models   = ["claude-*"]
[[providers]]
name            = "ollama"
base_url        = "http://127.0.0.1:1/ollama/v1"
models          = ["qwen3:14b", "llama3.1:8b"]
max_concurrency = 2
[[models]]
name    = "house"
targets = [ { provider = "ollama", model = "qwen3:14b" } ]
[log]
level = "error"
`

// makePast writes a data folder below dir in which keys were used for a month,
// always the same.
func makePast(t *testing.T, dir string) {
	t.Helper()
	store, err := bolt.Open(t.Context(), bolt.Options{Dir: filepath.Join(dir, "data"), Zone: time.UTC, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	keys := []*db.Key{
		{Name: "Open WebUI", Tags: []string{"home"}, Limits: db.Limits{MonthlyUSD: 30_000_000, RequestsPerMinute: 120, ConcurrentRequests: 8}},
		{Name: "Anna’s laptop", Tags: []string{"family"}, Models: []string{"gpt-4o*", "claude-*"}, Limits: db.Limits{MonthlyUSD: 12_000_000, DailyTokens: 400_000}},
		{Name: "Claude Code", Tags: []string{"work"}, Models: []string{"claude-*"}, Limits: db.Limits{DailyUSD: 8_000_000, MonthlyUSD: 60_000_000}},
		{Name: "Home Assistant", Tags: []string{"home"}, Models: []string{"house"}, AllowedIPs: []string{"192.168.1.0/24"}},
		{Name: "Kids", Tags: []string{"family"}, Models: []string{"gpt-4o-mini", "house"}, Limits: db.Limits{DailyTokens: 60_000, MaxTokensPerRequest: 2048}},
		{Name: "Paperless index", Tags: []string{"home"}, Models: []string{"text-embedding-*"}},
		{Name: "Trial for Ben", ExpiresAt: now.AddDate(0, 0, -3), Limits: db.Limits{TotalUSD: 2_000_000}},
		{Name: "Old phone", Disabled: true},
	}
	for i, k := range keys {
		k.ID, k.Endpoints, k.CreatedAt = fmt.Sprintf("Demo%06d", i+1), db.Inference, now.AddDate(0, 0, -40+i*2)
		k.Secrets = []db.Secret{{PHC: "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$c29tZWhhc2hzb21laGFzaHNvbWVoYXNoc29tZWhhc2g"}}
		if _, err := store.PutKey(t.Context(), k, db.Audit{Time: k.CreatedAt, Actor: "admin", From: "192.168.1.20", Action: "key.create", Target: k.ID, TargetName: k.Name, After: fmt.Sprintf(`{"name":%q}`, k.Name)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, tok := range []*db.Token{{Name: "Grafana", ReadOnly: true}, {Name: "Deploy script"}} {
		tok.ID, tok.CreatedAt, tok.Secret = fmt.Sprintf("Tokn%06d", i+1), now.AddDate(0, 0, -20+i), keys[0].Secrets[0]
		if _, err := store.PutToken(t.Context(), tok, db.Audit{Time: tok.CreatedAt, Actor: "admin", From: "192.168.1.20", Action: "token.create", Target: tok.ID, TargetName: tok.Name}); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for day := 29; day >= 0; day-- {
		n := 40 + r.IntN(40) + (29-day)*2
		if weekday := now.AddDate(0, 0, -day).Weekday(); weekday == time.Saturday || weekday == time.Sunday {
			n /= 2
		}
		for range n {
			at := now.AddDate(0, 0, -day).Truncate(24 * time.Hour).Add(time.Duration(7*3600+r.IntN(15*3600)) * time.Second)
			if at.After(now) {
				at = now.Add(-time.Duration(r.IntN(3*3600)) * time.Second)
			}
			use(t, store, r, keys[r.IntN(6)], at)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// use makes one request of the past.
func use(t *testing.T, store *bolt.DB, r *rand.Rand, k *db.Key, at time.Time) {
	t.Helper()
	m := pastModels[0]
	for pick := r.IntN(100); ; {
		m = pastModels[r.IntN(len(pastModels))]
		if pick -= m.share; pick < 0 {
			break
		}
	}
	res, err := store.Reserve(t.Context(), db.Claim{KeyID: k.ID, Time: at, Provider: m.provider})
	if err != nil { // a limit of its own
		return
	}
	usage := db.Usage{Input: 200 + r.Int64N(4000), Output: 50 + r.Int64N(900)}
	usage.CachedInput = usage.Input / (2 + r.Int64N(9))
	rec := &db.Record{ID: fmt.Sprintf("req_%026d", r.Int64()), Start: at, KeyID: k.ID, Model: m.asked, Served: m.served, Provider: m.provider,
		Endpoint: "POST /v1/chat/completions", Status: 200, Stream: r.IntN(3) > 0, Usage: usage, Source: db.FromProvider, Attempt: 1,
		FirstByte: time.Duration(120+r.IntN(900)) * time.Millisecond, Cost: (usage.Input*m.input + usage.Output*m.output) / 1_000_000}
	rec.Latency = rec.FirstByte + time.Duration(usage.Output)*8*time.Millisecond
	switch r.IntN(40) {
	case 0:
		rec.Status, rec.Usage, rec.Cost, rec.Source = 429, db.Usage{}, 0, ""
	case 1:
		rec.Status, rec.Usage, rec.Cost, rec.Source = 500, db.Usage{}, 0, ""
	case 2:
		rec.Error, rec.Broken, rec.Source = "canceled", true, db.Aborted
	}
	store.TouchKey(k.ID, at)
	if err := store.Settle(t.Context(), res, rec); err != nil {
		t.Fatal(err)
	}
}
