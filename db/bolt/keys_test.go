package bolt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tokenhub/db"
)

// openDB opens dir and closes it at the end of the test.
func openDB(t *testing.T, o Options) *DB {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "data")
	}
	if o.OnProblem == nil {
		o.OnProblem = func(err error) { t.Logf("problem: %v", err) }
	}
	d, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// putKey creates a key with limits.
func putKey(t *testing.T, d *DB, id string, l db.Limits) *db.Key {
	t.Helper()
	k, err := d.PutKey(context.Background(), &db.Key{ID: id, Name: "key " + id, Endpoints: db.Inference, Limits: l,
		CreatedAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}, db.Audit{Actor: "cli", Action: "key.create", Target: id})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysSurviveReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d := openDB(t, Options{Dir: dir})
	k := putKey(t, d, "aaaaaaaaaa", db.Limits{DailyTokens: 7})
	used := time.Date(2026, 3, 2, 1, 2, 3, 4, time.UTC)
	d.TouchKey(k.ID, used)
	d.TouchKey(k.ID, used.Add(-time.Hour))
	if err := d.PutSetting(t.Context(), "admin.password", "x", db.Audit{Action: "admin.password"}); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.PutKey(t.Context(), k, db.Audit{}); !errors.Is(err, db.ErrStorage) {
		t.Errorf("PutKey on a closed store: got %v, want ErrStorage", err)
	}
	d = openDB(t, Options{Dir: dir})
	got, err := d.Key(t.Context(), k.ID)
	if err != nil || got.Limits.DailyTokens != 7 || got.Revision != 1 || !got.CreatedAt.Equal(k.CreatedAt) {
		t.Errorf("after reopen: got %+v, %v", got, err)
	}
	if !d.LastUsed(k.ID).Equal(used) {
		t.Errorf("last used: got %v, want %v", d.LastUsed(k.ID), used)
	}
	if v, err := d.Setting(t.Context(), "admin.password"); v != "x" || err != nil {
		t.Errorf("setting: got %q, %v", v, err)
	}
	entries, _, err := d.AuditLog(t.Context(), db.AuditQuery{})
	if err != nil || len(entries) != 2 || entries[0].Action != "admin.password" || entries[1].ID != 1 {
		t.Errorf("audit: got %+v, %v", entries, err)
	}
	for _, name := range []string{DatabaseName, lockName} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v, want 0600", name, info.Mode(), err)
		}
	}
}

func TestLocked(t *testing.T) {
	d := openDB(t, Options{})
	_, err := Open(t.Context(), Options{Dir: d.dir})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "(pid ") {
		t.Errorf("second Open: got %v, want ErrLocked with the holder's pid", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	openDB(t, Options{Dir: d.dir})
}
