package bolt

import (
	"errors"
	"slices"
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

// The number of lost records fell to zero with the next record that could be
// written: Prometheus saw no increase, and nobody was alerted.
func TestLostRecordsStayCounted(t *testing.T) {
	disk := &badDisk{}
	disk.room.Store(1 << 40)
	d := openDB(t, Options{openFile: disk.open})
	putKey(t, d, "k", db.Limits{})
	disk.room.Store(0)
	if err := d.Note(t.Context(), record("req_1", "k", noon, 1, 0, 1)); !errors.Is(err, db.ErrStorage) {
		t.Fatalf("a note on a full disk: got %v", err)
	}
	d.journal.unwritten = slices.Repeat(d.journal.unwritten, maxUnwritten)
	if err := d.Note(t.Context(), record("req_2", "k", noon, 1, 0, 1)); !errors.Is(err, errDropped) {
		t.Fatalf("one record too many: got %v", err)
	}
	d.journal.unwritten = d.journal.unwritten[:1]
	if n := d.Stats().Lost; n != 1 {
		t.Errorf("got %d lost records, want 1", n)
	}
	disk.room.Store(1 << 40)
	if err := d.syncJournal(); err != nil {
		t.Fatal(err)
	}
	if s := d.Stats(); s.Lost != 1 || s.Unwritten != 0 {
		t.Errorf("with room again: got %d lost records and %d unwritten ones, want 1 and 0", s.Lost, s.Unwritten)
	}
}
