package ui

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// A flood of wrong passwords or tokens does not fill the log, and the log says
// what it left out.
func TestWarningsAreBounded(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	a := &Admin{log: zerolog.New(&out), now: func() time.Time { return now }}
	for range 1000 {
		a.warn().Str("from", "x").Msg("flood")
	}
	if n := strings.Count(out.String(), "flood"); n != warningsPerSecond {
		t.Errorf("%d of 1,000 in one second are logged, want %d", n, warningsPerSecond)
	}
	now = now.Add(time.Second)
	for range 2 {
		a.warn().Msg("later")
	}
	if n := strings.Count(out.String(), `"left_out":980`); n != 1 {
		t.Errorf("what was left out is told %d times, want once: %s", n, out.String())
	}
}
