package db

import "time"

// Window is a span of time in which a limit counts: [Start, End). Both are UTC
// without a monotonic reading, so that windows compare with == and serve as map
// keys.
type Window struct {
	Start, End time.Time
}

// Contains reports whether t lies in the window.
func (w Window) Contains(t time.Time) bool { return !t.Before(w.Start) && t.Before(w.End) }

// MinuteOf returns the minute that t lies in.
func MinuteOf(t time.Time) Window {
	start := t.UTC().Truncate(time.Minute)
	return Window{start, start.Add(time.Minute)}
}

// DayOf returns the calendar day of zone that t lies in; nil is UTC.
//
// A day begins at the first moment whose date is that day or a later one. So days
// follow each other without gap or overlap also where a clock change skips
// midnight, repeats it, or steps back over it: the minutes after midnight that
// bear the old date once more belong to the day that has begun.
//
// It costs some microseconds: who asks for each request keeps the last answer and
// tries [Window.Contains] first.
func DayOf(t time.Time, zone *time.Location) Window {
	y, m, d := t.In(orUTC(zone)).Date()
	return windowOf(t, zone, func(n int) time.Time { return time.Date(y, m, d+n, 0, 0, 0, 0, time.UTC) })
}

// MonthOf returns the calendar month of zone that t lies in; nil is UTC. It
// begins with its first day: see [DayOf].
func MonthOf(t time.Time, zone *time.Location) Window {
	y, m, _ := t.In(orUTC(zone)).Date()
	return windowOf(t, zone, func(n int) time.Time { return time.Date(y, m+time.Month(n), 1, 0, 0, 0, 0, time.UTC) })
}

// windowOf returns the window that t lies in; date(n) is the first date of the
// n-th window after the one of t's own date, as midnight in UTC.
func windowOf(t time.Time, zone *time.Location, date func(n int) time.Time) Window {
	zone = orUTC(zone)
	start := dateStart(date(0), zone)
	// More than one step is needed only after a clock that stepped back over midnight.
	for n := 1; ; n++ {
		end := dateStart(date(n), zone)
		if t.Before(end) {
			return Window{start, end}
		}
		start = end
	}
}

// dateStart returns the first moment in zone whose date is that of midnight (a
// date in UTC) or a later one. [time.Date] does not say which moment it takes
// where midnight does not exist or exists twice.
func dateStart(midnight time.Time, zone *time.Location) time.Time {
	// No zone was ever 36 hours from UTC, so the date is an earlier one here.
	at := midnight.Add(-36 * time.Hour)
	for {
		local := at.In(zone)
		_, offset := local.Zone()
		start := midnight.Add(-time.Duration(offset) * time.Second)
		if start.Before(at) {
			start = at
		}
		_, change := local.ZoneBounds()
		if !change.IsZero() && !change.After(at) {
			// Go 1.26 gives an end that has passed already on 31 December of leap
			// years. Look again an hour later.
			change = at.Add(time.Hour)
		}
		if change.IsZero() || start.Before(change) {
			return start.UTC()
		}
		at = change.UTC()
	}
}

func orUTC(zone *time.Location) *time.Location {
	if zone == nil {
		return time.UTC
	}
	return zone
}
