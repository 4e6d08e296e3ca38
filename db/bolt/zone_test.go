package bolt

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"tokenhub/db"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// With keep_rollups = "7d" a change of the time zone on the 25th left a week of the
// month: what was used before could be used again.
func TestZoneChangeWithShortRetention(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	dir := filepath.Join(t.TempDir(), "data")
	o := Options{Dir: dir, Now: func() time.Time { return now }, KeepRollups: 7 * 24 * time.Hour}
	d := openDB(t, o)
	putKey(t, d, "k", db.Limits{MonthlyTokens: 1000})
	for day := range 25 {
		now = time.Date(2026, 3, 1+day, 12, 0, 0, 0, time.UTC)
		settle(t, d, record(fmt.Sprint("req_", day), "k", now, 10, 0, 1))
	}
	if err := d.fold(); err != nil {
		t.Fatal(err)
	}
	if err := d.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	check := func(d *DB) {
		t.Helper()
		u, err := d.KeyUsage(t.Context(), "k", now)
		spent, _ := d.ProviderSpend(t.Context(), "openai", now)
		if err != nil || u.Month.Requests != 25 || u.Month.Tokens != 250 || u.Month.Cost != 25 || spent != 25 {
			t.Errorf("the month: got %+v and %d spent, %v; want 25 requests, 250 tokens, 25 and 25", u.Month, spent, err)
		}
		if u.Day.Tokens != 10 { // its roll-ups are there
			t.Errorf("the day: got %+v, want 10 tokens", u.Day)
		}
	}
	check(d)
	if err := d.SetZone(zone(t, "Asia/Tokyo")); err != nil {
		t.Fatal(err)
	}
	check(d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	o.Zone = zone(t, "America/Sao_Paulo")
	check(openDB(t, o))
}

// In the hours in which it is another month in the old zone than in the new one, the
// month before is the one that counts: it was forgotten but for a week.
func TestZoneChangeBetweenMonths(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	tokyo := zone(t, "Asia/Tokyo")
	d := openDB(t, Options{Dir: filepath.Join(t.TempDir(), "data"), Now: func() time.Time { return now }, Zone: tokyo, KeepRollups: 7 * 24 * time.Hour})
	putKey(t, d, "k", db.Limits{MonthlyTokens: 1000})
	for day := range 31 { // the last one is of April in Tokyo
		now = time.Date(2026, 3, 1+day, 12, 0, 0, 0, time.UTC)
		if day == 30 {
			now = now.Add(5 * time.Hour)
		}
		settle(t, d, record(fmt.Sprint("req_", day), "k", now, 10, 0, 1))
	}
	if err := d.fold(); err != nil {
		t.Fatal(err)
	}
	if err := d.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u, err := d.KeyUsage(t.Context(), "k", now); err != nil || u.Month.Tokens != 10 {
		t.Errorf("in Tokyo %+v, %v", u.Month, err)
	}
	if err := d.SetZone(time.UTC); err != nil {
		t.Fatal(err)
	}
	if u, err := d.KeyUsage(t.Context(), "k", now); err != nil || u.Month.Tokens < 300 {
		t.Errorf("in UTC %+v, %v; want March", u.Month, err)
	}
}

// A roll-up's hour in which a day begins, as in zones that are half an hour off,
// was left out of the day.
func TestZoneOfHalfHours(t *testing.T) {
	now := time.Date(2026, 3, 14, 20, 0, 0, 0, time.UTC) // in Kolkata the 15th, since 18:30 UTC
	d := openDB(t, Options{Now: func() time.Time { return now }})
	putKey(t, d, "k", db.Limits{DailyTokens: 100})
	settle(t, d, record("req_1", "k", now.Add(-3*time.Hour), 1, 0, 1))
	settle(t, d, record("req_2", "k", now.Add(-75*time.Minute), 10, 0, 1))
	settle(t, d, record("req_3", "k", now.Add(-time.Minute), 20, 0, 1))
	if err := d.SetZone(zone(t, "Asia/Kolkata")); err != nil {
		t.Fatal(err)
	}
	if u, err := d.KeyUsage(t.Context(), "k", now); err != nil || u.Day.Tokens != 30 {
		t.Errorf("got %+v, %v, want 30 tokens since 18:30", u.Day, err)
	}
}

// A command that only looks, under another configuration than the server's, had
// the windows counted anew, to the hour, and by the server once more.
func TestKeepZone(t *testing.T) {
	now := time.Date(2026, 3, 14, 18, 0, 0, 0, time.UTC)
	tokyo := zone(t, "Asia/Tokyo")
	o := Options{Dir: filepath.Join(t.TempDir(), "data"), Now: func() time.Time { return now }, Zone: tokyo}
	d := openDB(t, o)
	putKey(t, d, "k", db.Limits{})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the look leaves no trace
		look := o
		look.Zone, look.KeepZone = time.UTC, true
		d = openDB(t, look)
		u, err := d.KeyUsage(t.Context(), "k", now)
		if want := db.DayOf(now, tokyo).End; err != nil || !u.Day.Resets.Equal(want) {
			t.Errorf("the day ends at %v, %v, want %v as in Tokyo", u.Day.Resets, err, want)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
