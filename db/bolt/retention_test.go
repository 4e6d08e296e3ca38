package bolt

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"tokenhub/db"
)

func TestRetention(t *testing.T) {
	now := noon
	d := openDB(t, Options{Now: func() time.Time { return now }})
	putKey(t, d, "k", db.Limits{})
	for day := range 10 {
		now = noon.AddDate(0, 0, day)
		settle(t, d, record(fmt.Sprint("req_", day), "k", now, 1, 0, 1))
		if err := d.AddAudit(t.Context(), db.Audit{Action: "config.reload"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.fold(); err != nil {
		t.Fatal(err)
	}
	count := func() (requests, rollups, audit int) {
		t.Helper()
		recs, _, err := d.Requests(t.Context(), db.RequestQuery{})
		entries, _, err2 := d.AuditLog(t.Context(), db.AuditQuery{})
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		return len(recs), int(total(t, d).Requests), len(entries)
	}
	if err := d.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, u, a := count(); r != 10 || u != 10 || a != 11 {
		t.Errorf("kept for ever: got %d, %d, %d, want 10, 10, 11", r, u, a)
	}
	d.SetRetention(2*24*time.Hour, 5*24*time.Hour, 3*24*time.Hour)
	if err := d.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Days go when the whole of them is too old; audit entries to the moment.
	if r, u, a := count(); r != 3 || u != 6 || a != 4 {
		t.Errorf("after the sweep: got %d, %d, %d, want 3, 6, 4", r, u, a)
	}
	if use, _ := d.KeyUsage(t.Context(), "k", now); use.Total.Requests != 10 {
		t.Errorf("the total shrank: got %d, want 10", use.Total.Requests)
	}
	if err := d.AddAudit(t.Context(), db.Audit{Action: "x"}); err != nil {
		t.Fatal(err)
	}
	if e, _, _ := d.AuditLog(t.Context(), db.AuditQuery{Limit: 1}); e[0].ID != 12 {
		t.Errorf("audit numbers began anew: got %d, want 12", e[0].ID)
	}
}

func TestRunFoldsAndSweeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	synctest.Test(t, func(t *testing.T) {
		d, err := Open(t.Context(), Options{Dir: dir, KeepRequests: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		putKey(t, d, "k", db.Limits{})
		settle(t, d, record("req_1", "k", time.Now(), 1, 0, 1))
		d.TouchKey("k", time.Now())
		go d.Run(t.Context())
		time.Sleep(40*time.Second + time.Second/2) // between two ticks
		synctest.Wait()
		if n := d.Stats().Unfolded; n != 0 {
			t.Errorf("got %d records that are not folded", n)
		}
		d.journal.mu.Lock()
		if d.journal.dirty {
			t.Error("the journal was not synced")
		}
		d.journal.mu.Unlock()
		if e := d.keys.entry("k"); e.used.saved.Load() == 0 {
			t.Error("the last use was not written down")
		}
		time.Sleep(50 * time.Hour)
		synctest.Wait()
		if recs, _, err := d.Requests(t.Context(), db.RequestQuery{}); err != nil || len(recs) != 0 {
			t.Errorf("got %d requests, %v, want none after their time", len(recs), err)
		}
	})
}

func TestZoneChange(t *testing.T) {
	tokyo, err := time.LoadLocation("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	// In Tokyo it is the 15th since 15:00 UTC of the 14th.
	now := time.Date(2026, 3, 14, 18, 0, 0, 0, time.UTC)
	dir := filepath.Join(t.TempDir(), "data")
	o := Options{Dir: dir, Now: func() time.Time { return now }}
	d := openDB(t, o)
	putKey(t, d, "k", db.Limits{DailyTokens: 100})
	settle(t, d, record("req_1", "k", now.Add(-6*time.Hour), 10, 0, 1))
	settle(t, d, record("req_2", "k", now.Add(-2*time.Hour), 20, 0, 2))
	running, err := d.Reserve(t.Context(), claim("k", now, 30, 0))
	if err != nil {
		t.Fatal(err)
	}
	check := func(d *DB, used, held int64) {
		t.Helper()
		u, err := d.KeyUsage(t.Context(), "k", now)
		spent, _ := d.ProviderSpend(t.Context(), "openai", now)
		if err != nil || u.Day.Tokens != used || u.Day.HeldTokens != held || u.Total.Tokens < 30 || u.Month.Cost != spent || spent < 3 {
			t.Errorf("got %+v, %v, spent %d; want %d used and %d held today", u, err, spent, used, held)
		}
	}
	check(d, 30, 30)
	if err := d.SetZone(tokyo); err != nil {
		t.Fatal(err)
	}
	check(d, 20, 30)
	if err := d.Settle(t.Context(), running, record("req_3", "k", now, 5, 0, 1)); err != nil {
		t.Fatal(err)
	}
	check(d, 25, 0)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	o.Zone = tokyo
	d = openDB(t, o)
	check(d, 25, 0)
	d.Close()
	o.Zone = time.UTC
	d = openDB(t, o)
	check(d, 35, 0)
}
