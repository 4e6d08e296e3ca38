package main

import (
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/config"
	"tokenhub/db"
)

// A command without a server, run where another configuration is found, moved the
// days and months of all limits into that one's time zone.
func TestOfflineKeepsTheTimeZone(t *testing.T) {
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Defaults()
	cfg.DataDir, cfg.Timezone = filepath.Join(t.TempDir(), "data"), tokyo
	store, err := openStore(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.PutKey(t.Context(), &db.Key{ID: "0123456789", Name: "k", Endpoints: db.Inference}, db.Audit{}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Timezone = time.UTC
	p := &program{getenv: func(string) string { return "" }, stdout: io.Discard, stderr: io.Discard}
	look, err := p.openOffline(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 14, 18, 0, 0, 0, time.UTC)
	u, err := look.(*offline).store.KeyUsage(t.Context(), "0123456789", now)
	if want := db.DayOf(now, tokyo).End; err != nil || !u.Day.Resets.Equal(want) {
		t.Errorf("the day ends at %v, %v, want %v as in Tokyo", u.Day.Resets, err, want)
	}
	if err := look.Close(); err != nil {
		t.Error(err)
	}
}
