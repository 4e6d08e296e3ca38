package auth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tokenhub/db"
)

func TestPassword(t *testing.T) {
	store, ctx := newTable(), t.Context()
	p := NewPassword(store, nil)
	if ok, err := p.Exists(ctx); ok || err != nil {
		t.Errorf("got %v, %v, want no password", ok, err)
	}
	if err := p.Check(ctx, "", addr(1)); !errors.Is(err, ErrNoPassword) {
		t.Errorf("got %v, want ErrNoPassword", err)
	}
	for _, text := range []string{"", "123456789", "ääääääääå", strings.Repeat("x", PasswordMax+1)} {
		if err := p.Set(ctx, text, db.Audit{}); !errors.Is(err, ErrPasswordSize) {
			t.Errorf("%q: got %v, want ErrPasswordSize", text, err)
		}
	}
	const text = "zehn Ömmes"
	if err := p.Set(ctx, text, db.Audit{Action: "admin.password"}); err != nil {
		t.Fatal(err)
	}
	if ok, err := p.Exists(ctx); !ok || err != nil {
		t.Errorf("got %v, %v, want a password", ok, err)
	}
	if strings.Contains(store.settings[PasswordSetting], text) || ValidPHC(store.settings[PasswordSetting]) != nil {
		t.Errorf("stored %q, want a hash", store.settings[PasswordSetting])
	}
	if err := p.Check(ctx, text, addr(1)); err != nil {
		t.Errorf("the right one: %v", err)
	}
	for _, wrong := range []string{"", text + " ", store.settings[PasswordSetting], strings.Repeat("x", PasswordMax+1)} {
		if err := p.Check(ctx, wrong, addr(1)); !errors.Is(err, ErrWrongPassword) {
			t.Errorf("%q: got %v, want ErrWrongPassword", wrong, err)
		}
	}
	phc, err := Hash("from the environment")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetHash(ctx, phc, db.Audit{}); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(ctx, "from the environment", addr(1)); err != nil {
		t.Errorf("a hash made elsewhere: %v", err)
	}
	if err := p.SetHash(ctx, "not a hash at all", db.Audit{}); err == nil {
		t.Error("took what is not a hash")
	}
	store.fail(db.ErrStorage)
	if err := p.Check(ctx, text, addr(1)); !errors.Is(err, db.ErrStorage) {
		t.Errorf("broken store: got %v, want its error", err)
	}
	if _, err := p.Exists(ctx); !errors.Is(err, db.ErrStorage) {
		t.Errorf("broken store: got %v, want its error", err)
	}
}

// Five wrong ones a minute from an address; a flood from everywhere has its
// pace, and the admin signs in within a second all the same.
func TestPasswordGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, h := newTable(), &hasher{cost: 25 * time.Millisecond}
		p := NewPassword(store, nil)
		p.check = h.check
		store.settings[PasswordSetting] = phcOf("the right one")
		for range signInsPerAddr {
			want(t, "right", p.Check(t.Context(), "the right one", addr(1)), "") // is not counted
			want(t, "wrong", p.Check(t.Context(), "wrong", addr(1)), ErrWrongPassword.Error())
		}
		want(t, "the sixth", p.Check(t.Context(), "wrong", addr(1)), "too many")
		want(t, "right from there", p.Check(t.Context(), "the right one", addr(1)), "too many")
		want(t, "right from elsewhere", p.Check(t.Context(), "the right one", addr(2)), "")
		time.Sleep(time.Minute)
		want(t, "a minute later", p.Check(t.Context(), "the right one", addr(1)), "")

		h.calls.Store(0)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if p.Check(ctx, "wrong", addr(100+i)) == nil {
						t.Error("a wrong one was right")
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		for range 10 {
			time.Sleep(2 * time.Second)
			begun := time.Now()
			want(t, "the admin", p.Check(ctx, "the right one", addr(2)), "")
			if d := time.Since(begun); d >= time.Second {
				t.Errorf("the admin waited %s", d)
			}
		}
		stop()
		wg.Wait()
		time.Sleep(time.Second)
		if n := h.perSecond(); n > 5 {
			t.Errorf("%d guesses in a second, want at most 5", n)
		}
		if n := h.atOnce(); n > 1 {
			t.Errorf("%d computations at once, want 1", n)
		}
	})
}

// A password that is changed while the old one is computed opens nothing.
func TestPasswordChangedInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, h := newTable(), &hasher{gate: make(chan struct{})}
		p := NewPassword(store, nil)
		p.check = h.check
		store.settings[PasswordSetting] = phcOf("old")
		done := make(chan error)
		go func() { done <- p.Check(t.Context(), "old", addr(1)) }()
		synctest.Wait()
		if err := store.PutSetting(t.Context(), PasswordSetting, phcOf("new"), db.Audit{}); err != nil {
			t.Fatal(err)
		}
		h.gate <- struct{}{}
		if err := <-done; !errors.Is(err, ErrWrongPassword) {
			t.Errorf("got %v, want ErrWrongPassword", err)
		}
	})
}
