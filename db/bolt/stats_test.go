package bolt

import (
	"testing"
	"time"

	"tokenhub/db"
)

func TestStats(t *testing.T) {
	now := time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)
	d := openDB(t, Options{Now: func() time.Time { return now }})
	putKey(t, d, "k", db.Limits{})
	before := d.Stats()
	if before.DatabaseBytes == 0 || before.JournalBytes == 0 {
		t.Errorf("sizes of an empty store: %+v", before)
	}
	settle(t, d, record("r1", "k", now, 10, 5, 100))
	if _, err := d.Reserve(t.Context(), claim("k", now, 10, 5)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(3 * time.Second)
	s := d.Stats()
	if s.Holds != 1 || s.Unfolded != 1 || s.Unwritten != 0 || s.Lost != 0 || s.JournalBytes <= before.JournalBytes {
		t.Errorf("%+v after %+v, want 1 hold, 1 unfolded record and a longer journal", s, before)
	}
	if s.Lag <= 0 || s.Lag > 3*time.Second {
		t.Errorf("the journal lags by %v, want at most 3 s", s.Lag)
	}
	if err := d.fold(); err != nil {
		t.Fatal(err)
	}
	if s := d.Stats(); s.Unfolded != 0 || s.Lag != 0 {
		t.Errorf("after a fold: %+v", s)
	}
}
