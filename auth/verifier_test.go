package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tokenhub/db"
)

// want checks the kind of an outcome: "" for success, a Reason, "too many",
// "busy", or the text of another error.
func want(t testing.TB, what string, err error, kind string) {
	t.Helper()
	var refused *Refused
	var many *TooMany
	var busy *Busy
	got := ""
	switch {
	case errors.As(err, &refused):
		got = string(refused.Reason)
	case errors.As(err, &many):
		got = "too many"
		if many.RetryAfter <= 0 || many.RetryAfter > time.Minute {
			t.Errorf("%s: retry after %s, want within a minute", what, many.RetryAfter)
		}
	case errors.As(err, &busy):
		got = "busy"
	case err != nil:
		got = err.Error()
	}
	if got != kind {
		t.Errorf("%s: got %q (%v), want %q", what, got, err, kind)
	}
}

func TestVerify(t *testing.T) {
	store, h, ctx := newTable(), &hasher{}, t.Context()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	v := New(Options{Keys: store, Tokens: store, Now: func() time.Time { return now }, Check: h.check})
	text, id := store.mint(t)

	for range 3 {
		k, err := v.Verify(ctx, text, addr(1))
		want(t, "the right one", err, "")
		if err == nil && k != store.keys[id] {
			t.Errorf("got %+v, want the live record", k)
		}
	}
	if n := h.calls.Load(); n != 1 {
		t.Errorf("three times the right one: %d computations, want 1", n)
	}

	other, _, err := Mint(Key)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := Mint(Token)
	if err != nil {
		t.Fatal(err)
	}
	for text, reason := range map[string]Reason{
		"": Malformed, "th-": Malformed, text[1:]: Malformed, text + "x": Malformed,
		text[:20] + "_" + text[21:]: Malformed, token: Malformed, other: Unknown,
		guess(id): Wrong,
	} {
		_, err := v.Verify(ctx, text, addr(1))
		want(t, text, err, string(reason))
		var refused *Refused
		if errors.As(err, &refused) && reason == Wrong && refused.KeyID != id {
			t.Errorf("got ID %q, want %q", refused.KeyID, id)
		}
		if len(text) > 20 && strings.Contains(err.Error(), text[15:]) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
	if n := h.calls.Load(); n != 1 {
		t.Errorf("%d computations, want 1: none of these needs one", n)
	}

	// What the record says holds at once, and costs no new proof.
	for _, c := range []struct {
		change func(*db.Key)
		reason string
	}{
		{func(k *db.Key) { k.Disabled = true }, "disabled"},
		{func(k *db.Key) { k.Disabled = false; k.ExpiresAt = now }, "expired"},
		{func(k *db.Key) { k.ExpiresAt = now.Add(time.Second) }, ""},
		{func(k *db.Key) { k.Secrets[0].PHC = phcOf("another") }, "wrong"},
		{func(k *db.Key) { k.Secrets[0].PHC = phcOf(text) }, ""},
		{func(k *db.Key) { k.Secrets = nil }, "wrong"},
		{func(k *db.Key) { k.RevokedAt = now }, "revoked"},
	} {
		store.edit(id, c.change)
		_, err := v.Verify(ctx, text, addr(1))
		want(t, "after an edit", err, c.reason)
	}
	if n := h.calls.Load(); n != 2 {
		t.Errorf("%d computations, want 2: the second for another hash", n)
	}

	store.fail(fmt.Errorf("disk: %w", db.ErrStorage))
	_, err = v.Verify(ctx, text, addr(1))
	if !errors.Is(err, db.ErrStorage) || errors.As(err, new(*Refused)) {
		t.Errorf("broken store: got %v, want its error", err)
	}
}

func TestVerifyToken(t *testing.T) {
	store, h, ctx := newTable(), &hasher{}, t.Context()
	v := New(Options{Keys: store, Tokens: store, Check: h.check})
	text, id, err := Mint(Token)
	if err != nil {
		t.Fatal(err)
	}
	store.tokens[id] = &db.Token{ID: id, Secret: db.Secret{PHC: phcOf(text)}}
	key, _ := store.mint(t)
	for range 2 {
		tok, err := v.VerifyToken(ctx, text, addr(1))
		want(t, "the right one", err, "")
		if err == nil && tok != store.tokens[id] {
			t.Errorf("got %+v, want the live record", tok)
		}
	}
	_, err = v.VerifyToken(ctx, key, addr(1))
	want(t, "a key", err, "malformed")
	_, err = v.Verify(ctx, text, addr(1))
	want(t, "a token as a key", err, "malformed")
	_, err = v.VerifyToken(ctx, compose(Token, id, [32]byte{1}), addr(1))
	want(t, "a wrong one", err, "wrong")
	if n := h.calls.Load(); n != 1 {
		t.Errorf("%d computations, want 1", n)
	}
	store.tokens[id] = &db.Token{ID: id, Secret: db.Secret{PHC: phcOf(text)}, RevokedAt: time.Now()}
	_, err = v.VerifyToken(ctx, text, addr(1))
	want(t, "revoked", err, "revoked")
	delete(store.tokens, id)
	_, err = v.VerifyToken(ctx, text, addr(1))
	want(t, "unknown", err, "unknown")
}

// With the real argon2id, from minting to opening.
func TestVerifyForReal(t *testing.T) {
	store := newTable()
	text, id := store.mint(t)
	phc, err := Hash(text)
	if err != nil {
		t.Fatal(err)
	}
	store.edit(id, func(k *db.Key) { k.Secrets[0].PHC = phc })
	v := New(Options{Keys: store})
	_, err = v.Verify(t.Context(), guess(id), addr(1))
	want(t, "a wrong one", err, "wrong")
	for range 2 {
		_, err = v.Verify(t.Context(), text, addr(1))
		want(t, "the right one", err, "")
	}
	if s := v.Stats(); s.Computed != 2 || s.Wrong != 1 || s.Proofs != 1 || s.Refused != 1 || s.Running != 0 || s.Waiting != 0 {
		t.Errorf("got %+v", s)
	}
}

// 200 callers with each of several secrets at once: one computation for each.
func TestEachSecretIsComputedOnce(t *testing.T) {
	store, h := newTable(), &hasher{}
	v := New(Options{Keys: store, Check: h.check, Lanes: 2})
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range 8 {
		text, _ := store.mint(t)
		for range 200 {
			wg.Go(func() {
				for range 3 {
					if _, err := v.Verify(t.Context(), text, addr(1)); err != nil {
						failed.Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	if n := h.calls.Load(); n != 8 || failed.Load() != 0 {
		t.Errorf("got %d computations and %d refusals, want 8 and 0", n, failed.Load())
	}
	if s := v.Stats(); s.Proofs != 8 {
		t.Errorf("got %+v, want 8 proofs", s)
	}
	empty(t, v.lane)
}

// Equal wrong ones share a computation too, and each caller's address counts.
func TestEqualWrongOnesShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, h := newTable(), &hasher{cost: 25 * time.Millisecond}
		v := New(Options{Keys: store, Check: h.check})
		_, id := store.mint(t)
		text := guess(id)
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				_, err := v.Verify(t.Context(), text, addr(i))
				want(t, "wrong", err, "wrong")
			})
		}
		wg.Wait()
		// A program that repeats it costs nothing, and is stopped all the same.
		for range 5 {
			_, err := v.Verify(t.Context(), text, addr(1))
			want(t, "again", err, "wrong")
		}
		_, err := v.Verify(t.Context(), text, addr(1))
		want(t, "the eleventh", err, "too many")
		if n := h.calls.Load(); n != 1 {
			t.Errorf("got %d computations, want 1", n)
		}
		time.Sleep(time.Minute)
		_, err = v.Verify(t.Context(), text, addr(1))
		want(t, "a minute later", err, "wrong")
	})
}

// A caller that leaves takes nobody with it; when all have left, what has not
// started never does.
func TestLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, h := newTable(), &hasher{gate: make(chan struct{})}
		v := New(Options{Keys: store, Check: h.check, Lanes: 1})
		a, _ := store.mint(t)
		b, _ := store.mint(t)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		call := func(ctx context.Context, text string, kind error) {
			wg.Go(func() {
				if _, err := v.Verify(ctx, text, addr(1)); !errors.Is(err, kind) {
					t.Errorf("got %v, want %v", err, kind)
				}
			})
			synctest.Wait()
		}
		call(ctx, a, context.Canceled) // runs, first
		call(t.Context(), a, nil)      // joins it
		call(ctx, b, context.Canceled) // waits
		call(ctx, b, context.Canceled)
		if s := v.Stats(); s.Running != 1 || s.Waiting != 1 {
			t.Errorf("got %+v, want one running and one waiting", s)
		}
		cancel()
		synctest.Wait()
		if s := v.Stats(); s.Running != 1 || s.Waiting != 0 {
			t.Errorf("got %+v, want one running and none waiting", s)
		}
		h.gate <- struct{}{}
		wg.Wait()
		synctest.Wait()
		if n := h.calls.Load(); n != 1 {
			t.Errorf("got %d computations, want 1", n)
		}
		empty(t, v.lane)
		if _, err := v.Verify(t.Context(), a, addr(1)); err != nil {
			t.Errorf("the proof was lost: %v", err)
		}
	})
}

// What happens to the key while its secret is computed holds, and no proof
// stays behind.
func TestChangedInFlight(t *testing.T) {
	for reason, change := range map[string]func(*db.Key){
		"revoked":  func(k *db.Key) { k.RevokedAt = time.Now() },
		"disabled": func(k *db.Key) { k.Disabled = true },
		"wrong":    func(k *db.Key) { k.Secrets = []db.Secret{{PHC: phcOf("new")}} },
	} {
		synctest.Test(t, func(t *testing.T) {
			store, h := newTable(), &hasher{gate: make(chan struct{})}
			v := New(Options{Keys: store, Check: h.check})
			text, id := store.mint(t)
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					_, err := v.Verify(t.Context(), text, addr(1))
					want(t, "in flight", err, reason)
				})
			}
			synctest.Wait()
			store.edit(id, change)
			h.gate <- struct{}{}
			wg.Wait()
			if n := v.Stats().Proofs; n != 0 {
				t.Errorf("%s: %d proofs, want 0", reason, n)
			}
		})
	}
}

// After a rotation with grace both secrets open the key, each after one
// computation; when the grace is over the old one does not.
func TestGrace(t *testing.T) {
	store, h := newTable(), &hasher{}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	v := New(Options{Keys: store, Now: func() time.Time { return now }, Check: h.check})
	old, id := store.mint(t)
	_, err := v.Verify(t.Context(), old, addr(1))
	want(t, "before", err, "")
	text := guess(id) // the new secret
	store.edit(id, func(k *db.Key) {
		k.Secrets[0].Until = now.Add(time.Hour)
		k.Secrets = append([]db.Secret{{PHC: phcOf(text)}}, k.Secrets...)
	})
	for range 2 {
		for _, s := range []string{old, text} {
			_, err := v.Verify(t.Context(), s, addr(1))
			want(t, "in grace", err, "")
		}
	}
	if n := h.calls.Load(); n != 2 {
		t.Errorf("got %d computations, want 2", n)
	}
	now = now.Add(time.Hour)
	_, err = v.Verify(t.Context(), old, addr(1))
	want(t, "old one after the grace", err, "wrong")
	_, err = v.Verify(t.Context(), text, addr(1))
	want(t, "new one after the grace", err, "")

	// In a new process, the old one first.
	now = now.Add(-time.Minute)
	v = New(Options{Keys: store, Now: func() time.Time { return now }, Check: h.check})
	for _, s := range []string{old, text} {
		_, err := v.Verify(t.Context(), s, addr(1))
		want(t, "in grace, new process", err, "")
	}
}

// A damaged hash is our fault, never a 401, and no way around pace and count.
func TestDamagedHash(t *testing.T) {
	store, h := newTable(), &hasher{}
	v := New(Options{Keys: store, Check: h.check})
	text, id := store.mint(t)
	store.edit(id, func(k *db.Key) { k.Secrets = append([]db.Secret{{PHC: "damaged"}}, k.Secrets...) })
	_, err := v.Verify(t.Context(), guess(id), addr(1))
	if !errors.Is(err, db.ErrStorage) || errors.As(err, new(*Refused)) {
		t.Errorf("got %v, want a storage error", err)
	}
	if n := v.failures.score("th-"+id, Origin(addr(1)), time.Now()); n != 2 {
		t.Errorf("counted %d, want once for the ID and once for the address", n)
	}
	_, err = v.Verify(t.Context(), text, addr(1))
	want(t, "the right one", err, "")
}

// Proofs of what is not live any more don't pile up.
func TestProofsAreBounded(t *testing.T) {
	store, h := newTable(), &hasher{}
	v := New(Options{Keys: store, Check: h.check})
	var ids []string
	for round := range 10 {
		for range 50 {
			text, id := store.mint(t)
			ids = append(ids, id)
			if _, err := v.Verify(t.Context(), text, addr(1)); err != nil {
				t.Fatal(err)
			}
		}
		if n := v.Stats().Proofs; n > 50+64 {
			t.Fatalf("round %d: %d proofs for 50 live keys", round, n)
		}
		for _, id := range ids {
			if round%2 == 0 {
				store.edit(id, func(k *db.Key) { k.RevokedAt = time.Now() })
			} else {
				delete(store.keys, id)
			}
		}
		ids = nil
	}
	// Dead ones go when others come.
	text, _ := store.mint(t)
	for range 64 {
		if _, err := v.Verify(t.Context(), text, addr(1)); err != nil {
			t.Fatal(err)
		}
		text, _ = store.mint(t)
	}
	if n := v.Stats().Proofs; n != 64 {
		t.Errorf("got %d proofs, want those of the 64 live keys", n)
	}
	// One key that is rotated all the time keeps one proof.
	text, id := store.mint(t)
	before := v.Stats().Proofs
	for range 100 {
		if _, err := v.Verify(t.Context(), text, addr(1)); err != nil {
			t.Fatal(err)
		}
		text = guess(id)
		store.edit(id, func(k *db.Key) { k.Secrets = []db.Secret{{PHC: phcOf(text)}} })
	}
	if n := v.Stats().Proofs; n > before+1 {
		t.Errorf("got %d proofs, want at most %d", n, before+1)
	}
}

func BenchmarkVerify(b *testing.B) {
	store, h := newTable(), &hasher{}
	v := New(Options{Keys: frozen{store}, Check: h.check})
	text, _ := store.mint(b)
	if _, err := v.Verify(b.Context(), text, addr(1)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), text, addr(1)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestVerifyAllocatesNothing(t *testing.T) {
	store, h := newTable(), &hasher{}
	v := New(Options{Keys: frozen{store}, Check: h.check})
	text, _ := store.mint(t)
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := v.Verify(ctx, text, addr(1)); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// frozen reads a table that nobody writes any more, without its lock.
type frozen struct{ *table }

func (f frozen) Key(_ context.Context, id string) (*db.Key, error) {
	if k := f.keys[id]; k != nil {
		return k, nil
	}
	return nil, db.ErrNotFound
}
