package proxy

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// at is the moment in which the tests of the health begin.
var at = time.Date(2027, 3, 17, 10, 0, 0, 0, time.UTC)

func TestRestGrowsWithEachProbeThatFails(t *testing.T) {
	h, now := newHealth(), at
	for range restAfter {
		h.failed("m", now, now, "connect", 0, false)
	}
	for _, want := range []time.Duration{firstRest, 2 * firstRest, 4 * firstRest, 8 * firstRest, longestRest, longestRest} {
		if got := h.look("m", now).until.Sub(now); got != want {
			t.Fatalf("it rests %v, want %v", got, want)
		}
		now = now.Add(want)
		probe, ok := h.enter("m", now, false)
		if !probe || !ok {
			t.Fatalf("after %v it is not probed", want)
		}
		if h.failed("m", now, now, "connect", 0, true) != unchanged {
			t.Fatal("that a probe failed is news")
		}
	}
	now = now.Add(longestRest)
	h.enter("m", now, false)
	if h.answered("m", now, now, time.Second, true) != recovered {
		t.Fatal("it did not recover")
	}
	// It breaks off: nothing was complete yet, so it rests at once.
	if h.failed("m", now, now, "broken", 0, false) != beganToRest {
		t.Error("one that breaks off each answer does not rest")
	}
	now = now.Add(longestRest)
	h.enter("m", now, false)
	h.answered("m", now, now, time.Second, true)
	h.completed("m", now)
	for range restAfter - 1 {
		if h.failed("m", now, now, "5xx", 0, false) != unchanged {
			t.Fatal("a complete answer did not end the row of failures")
		}
	}
	if h.failed("m", now, now, "5xx", 0, false) != beganToRest || h.look("m", now).until.Sub(now) != firstRest {
		t.Error("the rest does not begin anew at its shortest")
	}
}

func TestWishOfTheProviderIsRespected(t *testing.T) {
	h := newHealth()
	if h.failed("m", at, at, "429", 40*time.Second, false) != beganToRest {
		t.Fatal("a provider that asked to be left alone does not rest")
	}
	// Answers to what was sent before it asked don't end the rest.
	if h.answered("m", at.Add(-time.Second), at.Add(time.Second), time.Second, false) != unchanged {
		t.Error("an older answer ended the rest")
	}
	if !h.look("m", at.Add(39*time.Second)).resting || h.look("m", at.Add(40*time.Second)).resting {
		t.Error("it does not rest for the 40 seconds that it asked for")
	}
	if c := h.look("other", at); c.resting || c.known {
		t.Error("another model of the provider rests too")
	}
}

func TestWishOf(t *testing.T) {
	for _, c := range []struct {
		status int
		name   string
		value  string
		want   time.Duration
	}{
		{429, "Retry-After", "7", 7 * time.Second},
		{503, "Retry-After", "7", 7 * time.Second},
		{500, "Retry-After", "7", 0},
		{200, "Retry-After", "7", 0},
		{429, "Retry-After", "0.25", 250 * time.Millisecond},
		{429, "Retry-After-Ms", "1500", 1500 * time.Millisecond},
		{429, "Retry-After", "86400", longestWish},
		{429, "Retry-After", "1e300", longestWish},
		{429, "Retry-After", "NaN", 0},
		{429, "Retry-After", "-5", 0},
		{429, "Retry-After", "soon", 0},
		{429, "Retry-After", at.Add(30 * time.Second).Format(http.TimeFormat), 30 * time.Second},
		{429, "Retry-After", at.Add(-30 * time.Second).Format(http.TimeFormat), 0},
		{429, "X-Other", "1", 0},
	} {
		if got := wishOf(c.status, Headers{{c.name, c.value}}, at); got != c.want {
			t.Errorf("%d %s: %s: %v, want %v", c.status, c.name, c.value, got, c.want)
		}
	}
}

func TestHealthOfNamesIsBounded(t *testing.T) {
	h := newHealth()
	h.failed("busy", at, at, "5xx", time.Hour, false)
	for i := range 3 * mostCircuits {
		now := at.Add(time.Duration(i+1) * time.Second)
		h.failed(fmt.Sprint("m", i), now, now, "5xx", 0, false)
		h.failed("busy", now, now, "5xx", time.Hour, false)
	}
	if len(h.circuits) != mostCircuits {
		t.Errorf("%d circuits are kept, want %d", len(h.circuits), mostCircuits)
	}
	if !h.look("busy", at).resting {
		t.Error("one that is in use was forgotten")
	}
}

func TestShareOfFailures(t *testing.T) {
	h := newHealth()
	if got := h.all.share(at); got != 0 {
		t.Errorf("share %v of nothing, want 0", got)
	}
	for range 3 {
		h.answered("m", at, at, time.Second, false)
	}
	h.failed("m", at, at, "5xx", 0, false)
	if got := h.all.share(at.Add(time.Minute)); got != 0.25 {
		t.Errorf("share %v, want 0.25", got)
	}
	if got := h.all.share(at.Add(time.Hour)); got != 0 {
		t.Errorf("share %v after an hour, want 0", got)
	}
}
