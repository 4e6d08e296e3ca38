package auth

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// create begins a session; nothing stands in its way.
func create(s *Sessions) string {
	id, _ := s.Create(s.Generation())
	return id
}

// A sign-in with the old password that a change of it overtook left a session.
func TestSessionOfAnOldPassword(t *testing.T) {
	s := NewSessions(nil)
	generation := s.Generation()
	s.DeleteAll()
	if id, ok := s.Create(generation); ok || id != "" || len(s.live) != 0 {
		t.Errorf("got a session %q, %v", id, ok)
	}
	if id, ok := s.Create(s.Generation()); !ok || !s.Check(id) {
		t.Error("nobody can sign in any more")
	}
}

func TestSessions(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now := start
	s := NewSessions(func() time.Time { return now })
	id := create(s)
	if len(id) != 43 || !s.Check(id) {
		t.Fatalf("a new session %q of %d characters does not live", id, len(id))
	}
	if s.Check("") || s.Check(id[1:]) || s.Check(random()) {
		t.Error("an ID that was never made lives")
	}
	// Used all the time it lives for seven days.
	for now.Sub(start) < SessionMax-11*time.Hour {
		now = now.Add(11 * time.Hour)
		if !s.Check(id) {
			t.Fatalf("dead after %s", now.Sub(start))
		}
	}
	now = start.Add(SessionMax - time.Nanosecond)
	if !s.Check(id) {
		t.Error("dead before seven days")
	}
	now = start.Add(SessionMax)
	if s.Check(id) {
		t.Error("lives after seven days")
	}
	// Unused for twelve hours.
	id = create(s)
	now = now.Add(SessionIdle - time.Nanosecond)
	if !s.Check(id) {
		t.Error("dead before twelve hours")
	}
	now = now.Add(SessionIdle)
	if s.Check(id) {
		t.Error("lives after twelve idle hours")
	}
	if len(s.live) != 0 {
		t.Errorf("%d dead sessions kept", len(s.live))
	}

	a, b := create(s), create(s)
	s.Delete(a)
	s.Delete("never made")
	if s.Check(a) || !s.Check(b) {
		t.Error("Delete ended the wrong one")
	}
	s.DeleteAll()
	if s.Check(b) {
		t.Error("DeleteAll left one")
	}
}

// TestSessionsIdleWhileTheyAreLookedAfter: a page that was left open asked for
// what is new every few seconds, and its session never ended for want of use.
func TestSessionsIdleWhileTheyAreLookedAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := NewSessions(func() time.Time { return now })
	id, _ := s.Create(s.Generation())
	now = now.Add(SessionIdle - time.Nanosecond)
	if !s.Peek(id) {
		t.Error("dead before twelve hours")
	}
	now = now.Add(time.Nanosecond)
	if s.Peek(id) || s.Check(id) {
		t.Error("lives after twelve idle hours")
	}
	if s.Peek("") || s.Peek(random()) {
		t.Error("an ID that was never made lives")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := NewSessions(func() time.Time { return now })
	used, unused := create(s), create(s)
	for range sessionsMax - 2 {
		now = now.Add(time.Second)
		create(s)
	}
	s.Check(used)
	create(s)
	if len(s.live) != sessionsMax || !s.Check(used) || s.Check(unused) {
		t.Errorf("%d sessions; want the one that was unused for longest to go", len(s.live))
	}
	now = now.Add(SessionIdle)
	create(s)
	if len(s.live) != 1 {
		t.Errorf("%d sessions; want those that are over to go first", len(s.live))
	}
}

func TestSetup(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	s, token := NewSetup(clock)
	ok := func() error { return nil }
	if len(token) != 43 || !s.Valid(token) || s.Valid("") || s.Valid(random()) {
		t.Fatal("only the token itself should be valid")
	}
	if err := s.Spend(random(), ok); !errors.Is(err, ErrSetup) {
		t.Errorf("another token: got %v, want ErrSetup", err)
	}
	if err := s.Spend(token, func() error { return ErrPasswordSize }); !errors.Is(err, ErrPasswordSize) || !s.Valid(token) {
		t.Errorf("a failed attempt: got %v, want its error and the link still valid", err)
	}
	var wg sync.WaitGroup
	var through atomic.Int64
	for range 20 {
		wg.Go(func() {
			if s.Spend(token, ok) == nil {
				through.Add(1)
			}
		})
	}
	wg.Wait()
	if through.Load() != 1 || s.Valid(token) {
		t.Errorf("%d got through, want 1", through.Load())
	}

	s, token = NewSetup(clock)
	now = now.Add(SetupLife - time.Nanosecond)
	if !s.Valid(token) {
		t.Error("not valid for an hour")
	}
	now = now.Add(time.Nanosecond)
	if s.Valid(token) || s.Spend(token, func() error { return fmt.Errorf("ran") }) != ErrSetup {
		t.Error("valid after an hour")
	}
	s, token = NewSetup(clock)
	s.Close()
	if s.Valid(token) {
		t.Error("valid after Close")
	}
}
