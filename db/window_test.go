package db

import (
	"math/rand/v2"
	"testing"
	"time"
)

func load(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Skipf("no zone database: %v", err)
	}
	return zone
}

// zones are chosen for their clock changes: at midnight forwards and backwards,
// just after midnight, half hours, whole days, none.
var zones = []string{
	"UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Africa/Cairo",
	"Atlantic/Azores", "America/St_Johns", "Asia/Beirut", "America/Havana", "Asia/Kolkata",
	"Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kwajalein", "Pacific/Chatham",
	"America/Scoresbysund", "Asia/Gaza", "America/Asuncion", "Asia/Manila", "America/Juneau",
	"Africa/Casablanca", "Asia/Tehran", "America/Toronto",
}

func TestDayWhereMidnightIsMissingOrTwice(t *testing.T) {
	tests := []struct {
		zone, at, start, end string
	}{
		{"UTC", "2026-03-07T12:00:00Z", "2026-03-07T00:00:00Z", "2026-03-08T00:00:00Z"},
		{"Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		{"Asia/Kolkata", "2026-03-07T18:29:59Z", "2026-03-06T18:30:00Z", "2026-03-07T18:30:00Z"},
		// 00:00 became 01:00: the day begins at 01:00.
		{"America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"},
		// 00:00 became 23:00 again: the day before has 25 hours.
		{"America/Sao_Paulo", "2018-02-18T02:30:00Z", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z"},
		// 24:00 became 23:00 again, and 00:00 became 01:00.
		{"Africa/Cairo", "2025-10-30T21:30:00Z", "2025-10-29T21:00:00Z", "2025-10-30T22:00:00Z"},
		{"Africa/Cairo", "2025-04-25T10:00:00Z", "2025-04-24T22:00:00Z", "2025-04-25T21:00:00Z"},
		// 01:00 became 00:00 again: the day begins at its first midnight.
		{"Atlantic/Azores", "2025-10-26T12:00:00Z", "2025-10-26T00:00:00Z", "2025-10-27T01:00:00Z"},
		// 00:01 became 23:01 again: the day that began goes on.
		{"America/St_Johns", "2010-11-07T03:00:00Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"},
		{"America/St_Johns", "2010-11-07T02:29:59Z", "2010-11-06T02:30:00Z", "2010-11-07T02:30:00Z"},
		// There was no 30 December.
		{"Pacific/Apia", "2011-12-31T00:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"},
		{"Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"},
	}
	for _, tt := range tests {
		at, _ := time.Parse(time.RFC3339, tt.at)
		w := DayOf(at, load(t, tt.zone))
		if got, want := w.Start.Format(time.RFC3339), tt.start; got != want {
			t.Errorf("%s: the day of %s begins at %s, want %s", tt.zone, tt.at, got, want)
		}
		if got, want := w.End.Format(time.RFC3339), tt.end; got != want {
			t.Errorf("%s: the day of %s ends at %s, want %s", tt.zone, tt.at, got, want)
		}
	}
}

func TestMonth(t *testing.T) {
	berlin := load(t, "Europe/Berlin")
	at := time.Date(2026, 12, 31, 23, 30, 0, 0, time.UTC)
	w := MonthOf(at, berlin)
	if want := (Window{time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC), time.Date(2027, 1, 31, 23, 0, 0, 0, time.UTC)}); w != want {
		t.Errorf("got %v, want %v", w, want)
	}
	if w := MonthOf(at, nil); !w.End.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("without a zone the month ends at %v, want midnight in UTC", w.End)
	}
	// On 1 November 2015 01:00 became 00:00 again: the month begins at its first midnight.
	w = MonthOf(time.Date(2015, 11, 15, 0, 0, 0, 0, time.UTC), load(t, "America/Havana"))
	if want := time.Date(2015, 11, 1, 4, 0, 0, 0, time.UTC); w.Start != want {
		t.Errorf("the month begins at %v, want %v", w.Start, want)
	}
}

// TestWindowsTile walks over the years: each window holds the moments it is
// asked with, and ends where the next begins.
func TestWindowsTile(t *testing.T) {
	kinds := []struct {
		name     string
		of       func(time.Time, *time.Location) Window
		from     int
		min, max time.Duration
	}{
		{"day", DayOf, 2009, 20 * time.Hour, 49 * time.Hour},
		{"month", MonthOf, 1900, 27 * 24 * time.Hour, 33 * 24 * time.Hour},
	}
	for _, name := range zones {
		zone := load(t, name)
		for _, kind := range kinds {
			last := kind.of(time.Date(kind.from, 1, 1, 12, 0, 0, 0, time.UTC), zone)
			for last.End.Year() < 2029 {
				next := kind.of(last.End, zone)
				if next.Start != last.End {
					t.Fatalf("%s %s: %v is followed by %v", name, kind.name, last, next)
				}
				if before := kind.of(last.End.Add(-1), zone); before != last {
					t.Fatalf("%s %s: the last moment of %v lies in %v", name, kind.name, last, before)
				}
				if length := next.End.Sub(next.Start); length < kind.min || length > kind.max {
					t.Fatalf("%s %s: %v is %v long", name, kind.name, next, length)
				}
				last = next
			}
		}
	}
}

func TestWindowsHoldTheirMoment(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	first, last := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).Unix(), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	for _, name := range zones {
		zone := load(t, name)
		for range 500 {
			at := time.Unix(first+r.Int64N(last-first), r.Int64N(1e9)).In(zone)
			minute, day, month := MinuteOf(at), DayOf(at, zone), MonthOf(at, zone)
			for _, w := range []Window{minute, day, month} {
				if !w.Contains(at) || w.Contains(w.End) || !w.Contains(w.Start) {
					t.Fatalf("%s: %v lies in [%v, %v)", name, at, w.Start, w.End)
				}
			}
			if day.Start.Before(month.Start) || day.End.After(month.End) {
				t.Fatalf("%s: the day of %v leaves its month", name, at)
			}
			if other := DayOf(day.Start, zone); other != day {
				t.Fatalf("%s: the day %v begins in %v", name, day, other)
			}
		}
	}
}

// TestLastDayOfLeapYear asks where ZoneBounds misleads: see dateStart.
func TestLastDayOfLeapYear(t *testing.T) {
	for _, name := range zones {
		zone := load(t, name)
		for _, year := range []int{2028, 2040, 2088} {
			start := time.Date(year, 12, 31, 0, 0, 0, 0, zone)
			want := Window{start.UTC(), start.AddDate(0, 0, 1).UTC()}
			for at := start; at.Before(want.End); at = at.Add(time.Hour) {
				if w := DayOf(at, zone); w != want {
					t.Fatalf("%s: %v lies in %v, want %v", name, at, w, want)
				}
			}
		}
	}
}

func TestWindowsAreMapKeys(t *testing.T) {
	now := time.Now()
	seen := map[Window]int{}
	for _, at := range []time.Time{now, now.UTC(), now.Round(0), now.In(time.FixedZone("x", 3600))} {
		seen[MinuteOf(at)]++
		seen[DayOf(at, time.UTC)]++
		seen[MonthOf(at, time.UTC)]++
	}
	if len(seen) != 3 {
		t.Errorf("one moment lies in %d windows, want 3: %v", len(seen), seen)
	}
}

func BenchmarkDayOf(b *testing.B) {
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		b.Skip(err)
	}
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for b.Loop() {
		DayOf(at, zone)
	}
}
