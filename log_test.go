package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tokenhub/config"
)

// written notes each write, and fails if it is told to.
type written struct {
	mu     sync.Mutex
	parts  []string
	broken bool
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parts = append(w.parts, string(p))
	if w.broken {
		return 0, errors.New("nobody reads")
	}
	return len(p), nil
}

func (w *written) got() (text string, writes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.parts, ""), len(w.parts)
}

// Lines that come together are written together, in their order, each once, soon;
// a warning at once.
func TestLogLinesAreGathered(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		synctest.Test(t, func(t *testing.T) {
			w := &written{}
			log, flush := newLog(config.Log{Level: "info", Format: format}, w)
			lines := func() (n int) {
				text, _ := w.got()
				return strings.Count(text, "\n")
			}
			for i := range 100 {
				log.Info().Int("n", i).Msg("request")
			}
			if _, writes := w.got(); writes != 0 {
				t.Errorf("%s: %d writes at once", format, writes)
			}
			time.Sleep(2 * linesWait)
			synctest.Wait()
			if _, writes := w.got(); lines() != 100 || writes != 1 {
				t.Errorf("%s: %d lines in %d writes", format, lines(), writes)
			}
			log.Info().Msg("before")
			log.Warn().Msg("a warning")
			if text, _ := w.got(); lines() != 102 || strings.Index(text, "before") > strings.Index(text, "a warning") {
				t.Errorf("%s: a warning waits, or what is before it", format)
			}
			log.Info().Msg("last")
			flush()
			flush()
			for i := range 1000 {
				log.Info().Str("long", strings.Repeat("x", 1000)).Int("n", i).Msg("request")
			}
			if text, _ := w.got(); lines() < 1000 || len(text) < 1000*1000-maxLines {
				t.Errorf("%s: of 1,000 long lines %d are written", format, lines()-103)
			}
			time.Sleep(2 * linesWait)
			synctest.Wait()
			if lines() != 1103 {
				t.Errorf("%s: %d lines in the end", format, lines())
			}
		})
	}
}

// Many goroutines log at once, to somebody who is gone in the end.
func TestLogInManyHands(t *testing.T) {
	w := &written{}
	log, flush := newLog(config.Log{Level: "info", Format: "json"}, w)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				log.Info().Str("id", fmt.Sprintf("%d-%d", i, n)).Msg("x")
			}
		})
	}
	wg.Wait()
	flush()
	text, _ := w.got()
	seen := map[string]bool{}
	for line := range bytes.Lines([]byte(text)) {
		seen[string(line)] = true
	}
	if len(seen) != 8*500 {
		t.Errorf("%d different lines of %d", len(seen), 8*500)
	}
	w.broken = true
	log.Error().Msg("lost")
	log.Info().Msg("lost, too")
	flush()
}

// Times in the log are those of the standard library's format, whatever was
// written before.
func TestStampIsTheTime(t *testing.T) {
	s := &stamp{}
	begun := time.Date(2027, 3, 17, 23, 59, 58, 0, time.FixedZone("", 3600))
	for i := range 3000 {
		now := begun.Add(time.Duration(i) * 997 * time.Microsecond)
		if got, want := string(s.at(now)), now.Format(`"`+timeFormat+`"`); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}
