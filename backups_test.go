package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tokenhub/config"
)

// copies writes a few bytes as its backup, or fails.
type copies struct{ err error }

func (c copies) Backup(_ context.Context, w io.Writer) error {
	if c.err != nil {
		return c.err
	}
	_, err := io.WriteString(w, "a backup")
	return err
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestScheduledBackups(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "backups")
	cfg := config.Backup{Every: 24 * time.Hour, Keep: 2, Dir: dir}
	now := time.Date(2026, 3, 1, 4, 5, 6, 0, time.UTC)
	make := func(want string) {
		t.Helper()
		file, err := scheduledBackup(t.Context(), cfg, copies{}, now)
		if err != nil || want == "" && file != "" || want != "" && file != filepath.Join(dir, want) {
			t.Fatalf("made %q, %v, want %q", file, err, want)
		}
	}
	make("tokenhub-20260301-040506.db")
	if info, err := os.Stat(filepath.Join(dir, "tokenhub-20260301-040506.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	now = now.Add(23 * time.Hour)
	make("") // not due; a restart asks again and gets the same
	now = now.Add(2 * time.Hour)
	make("tokenhub-20260302-050506.db")
	for _, other := range []string{"mine.db", "tokenhub-old.db", "tokenhub-20260101-000000.db.gz"} {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(25 * time.Hour)
	if file, err := scheduledBackup(t.Context(), cfg, copies{errors.New("disk full")}, now); err == nil || file != "" {
		t.Fatalf("%q %v", file, err)
	}
	make("tokenhub-20260303-060506.db")
	want := []string{"mine.db", "tokenhub-20260101-000000.db.gz", "tokenhub-20260302-050506.db", "tokenhub-20260303-060506.db", "tokenhub-old.db"}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// The clock is set back: a backup is made, and is not the one that goes.
	now = now.Add(-30 * 24 * time.Hour)
	make("tokenhub-20260201-060506.db")
	if !slices.Contains(names(t, dir), "tokenhub-20260201-060506.db") {
		t.Errorf("%q", names(t, dir))
	}
	// The ones from the future do not make it due again at once, which would
	// drive out all the others.
	make("")
	now = now.Add(25 * time.Hour)
	make("tokenhub-20260202-070506.db")
	cfg.Every = 0
	make("")
}

// Backups from the future, made while the clock was wrong, counted as the newest:
// as many as are kept left room for one real one, which each new one drove out.
func TestBackupsFromTheFutureGoFirst(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Backup{Every: 24 * time.Hour, Keep: 3, Dir: dir}
	for _, future := range []string{"tokenhub-20310101-000000.db", "tokenhub-20310102-000000.db", "tokenhub-20310103-000000.db"} {
		if err := os.WriteFile(filepath.Join(dir, future), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 3, 1, 4, 5, 6, 0, time.UTC)
	for _, want := range [][]string{
		{"tokenhub-20260301-040506.db", "tokenhub-20310102-000000.db", "tokenhub-20310103-000000.db"},
		{"tokenhub-20260301-040506.db", "tokenhub-20260302-040506.db", "tokenhub-20310103-000000.db"},
		{"tokenhub-20260301-040506.db", "tokenhub-20260302-040506.db", "tokenhub-20260303-040506.db"},
		{"tokenhub-20260302-040506.db", "tokenhub-20260303-040506.db", "tokenhub-20260304-040506.db"},
	} {
		if _, err := scheduledBackup(t.Context(), cfg, copies{}, now); err != nil {
			t.Fatal(err)
		}
		if got := names(t, dir); !slices.Equal(got, want) {
			t.Errorf("on %s: %q, want %q", now.Format(time.DateOnly), got, want)
		}
		now = now.Add(24 * time.Hour)
	}
}

// A backup that was killed leaves a part of one behind; it goes when the next one
// is made, unless somebody may still be writing it.
func TestTornBackupsAreRemoved(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	for name, age := range map[string]time.Duration{backupTorn + "old": 2 * time.Hour, backupTorn + "new": time.Minute, ".mine": 2 * time.Hour} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	file, err := scheduledBackup(t.Context(), config.Backup{Every: time.Hour, Keep: 1, Dir: dir}, copies{}, now)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{".mine", backupTorn + "new", filepath.Base(file)}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
