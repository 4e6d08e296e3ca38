package dbtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"tokenhub/db"
)

// million is the price of output at one micro-dollar per token.
const million = 1_000_000

// fixture is what one test of the suite works with.
type fixture struct {
	*testing.T
	Harness
	// now is a moment in the middle of a minute, hour, day and month, UTC.
	now time.Time
	// made counts keys and records, for their IDs.
	made int
}

// text renders v for comparison: as JSON, so that equal times are equal.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// same fails the test where two values differ.
func (f *fixture) same(what string, got, want any) {
	f.Helper()
	if g, w := text(got), text(want); g != w {
		f.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// ok fails the test at an error.
func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// is fails the test at another outcome than want.
func (f *fixture) is(what string, err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Fatalf("%s: got %v, want %v", what, err, want)
	}
}

// id returns an ID of 10 characters that was not used yet.
func (f *fixture) id() string {
	f.made++
	return fmt.Sprintf("id%08d", f.made)
}

// key stores a new key with limits and returns its ID.
func (f *fixture) key(l db.Limits) string {
	f.Helper()
	k := &db.Key{ID: f.id(), Name: "key", CreatedAt: f.now, Endpoints: db.Inference, Limits: l}
	_, err := f.Store.PutKey(f.Context(), k, db.Audit{Time: f.now, Actor: "cli", Action: "key.create", Target: k.ID})
	f.ok(err)
	return k.ID
}

// limit changes the limits of a key.
func (f *fixture) limit(id string, l db.Limits) {
	f.Helper()
	k, err := f.Store.Key(f.Context(), id)
	f.ok(err)
	k = k.Clone()
	k.Limits = l
	_, err = f.Store.PutKey(f.Context(), k, db.Audit{Time: f.now, Actor: "cli", Action: "key.update", Target: id})
	f.ok(err)
}

// claim is one request of key at f.now: input 3, output 7 tokens, cost 20
// micro-dollars, at the provider "p".
func (f *fixture) claim(key string) db.Claim {
	return db.Claim{KeyID: key, Time: f.now, Input: 3, Output: 7, InputCost: 4, OutputPrice: 2 * million, FixedCost: 2, Provider: "p"}
}

// reserve fails the test when c is refused.
func (f *fixture) reserve(c db.Claim) db.Reservation {
	f.Helper()
	r, err := f.Store.Reserve(f.Context(), c)
	if err != nil {
		f.Fatalf("reserve %+v: %v", c, err)
	}
	if r.ID == 0 || r.KeyID != c.KeyID || r.Provider != c.Provider || !r.Time.Equal(c.Time) {
		f.Fatalf("claim %+v got %+v", c, r)
	}
	return r
}

// refused fails the test when c is not refused by a limit, and checks that
// the refusal left no trace.
func (f *fixture) refused(c db.Claim, limit string) *db.LimitError {
	f.Helper()
	before := f.use(c.KeyID, c.Time)
	r, err := f.Store.Reserve(f.Context(), c)
	var refusal *db.LimitError
	if !errors.As(err, &refusal) || refusal.Limit != limit {
		f.Fatalf("claim %+v got %+v, %v; want a refusal by %s", c, r, err, limit)
	}
	f.same("usage after a refusal", f.use(c.KeyID, c.Time), before)
	return refusal
}

// record is a good answer to what r reserved: 2 input and 5 output tokens, 11
// micro-dollars.
func (f *fixture) record(r db.Reservation) *db.Record {
	f.made++
	return &db.Record{
		ID: fmt.Sprintf("req_%06d", f.made), Start: r.Time, Latency: 900 * time.Millisecond, FirstByte: 150 * time.Millisecond,
		KeyID: r.KeyID, Model: "house", Served: "gpt", Provider: r.Provider, Endpoint: "POST /v1/chat/completions", Status: 200, Stream: true,
		Usage: db.Usage{Input: 2, Output: 5, CachedInput: 1, Reasoning: 3}, Cost: 11, Source: db.FromProvider, Attempt: 1,
	}
}

// settle settles r with what record says, after edit.
func (f *fixture) settle(r db.Reservation, edit func(*db.Record)) *db.Record {
	f.Helper()
	rec := f.record(r)
	if edit != nil {
		edit(rec)
	}
	f.ok(f.Store.Settle(f.Context(), r, rec))
	return rec
}

// use returns where a key stands at t.
func (f *fixture) use(id string, t time.Time) db.KeyUsage {
	f.Helper()
	u, err := f.Store.KeyUsage(f.Context(), id, t)
	f.ok(err)
	return u
}

// window returns where a window stands: what is used, what is held.
func window(requests, tokens, cost, heldTokens, heldCost int64, resets time.Time) db.WindowUse {
	return db.WindowUse{Requests: requests, Tokens: tokens, Cost: cost, HeldTokens: heldTokens, HeldCost: heldCost, Resets: resets}
}

// usage returns where a key stands at t when all of its windows stand equal.
func (f *fixture) usage(t time.Time, running, requests, tokens, cost, heldTokens, heldCost int64) db.KeyUsage {
	return db.KeyUsage{
		Minute:  window(requests, tokens, cost, heldTokens, heldCost, db.MinuteOf(t).End),
		Day:     window(requests, tokens, cost, heldTokens, heldCost, db.DayOf(t, f.Zone).End),
		Month:   window(requests, tokens, cost, heldTokens, heldCost, db.MonthOf(t, f.Zone).End),
		Total:   window(requests, tokens, cost, heldTokens, heldCost, time.Time{}),
		Running: running,
	}
}

// spend checks what was spent and is held at a provider in the month of t.
func (f *fixture) spend(provider string, t time.Time, spent, held int64) {
	f.Helper()
	gotSpent, gotHeld := f.Store.ProviderSpend(f.Context(), provider, t)
	if gotSpent != spent || gotHeld != held {
		f.Fatalf("provider %s: %d spent and %d held, want %d and %d", provider, gotSpent, gotHeld, spent, held)
	}
}

// restart closes and opens the engine.
func (f *fixture) restart() {
	f.Helper()
	f.Store = f.Reopen(f.T)
}
