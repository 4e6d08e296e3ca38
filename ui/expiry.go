package ui

import (
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// zoneOf returns where a day begins.
func zoneOf(cfg *config.Config) *time.Location {
	if cfg.Timezone == nil {
		return time.UTC
	}
	return cfg.Timezone
}

// farthest is the last moment that RFC 3339 can write.
var farthest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// parseExpiry reads when a key expires: an RFC 3339 time; a date, which means the
// end of that day in zone; or a duration from now on, as 90d or 12h. Fractions of
// a millisecond are cut.
func parseExpiry(text string, now time.Time, zone *time.Location) (time.Time, error) {
	var at time.Time
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		at = t
	} else if day, err := time.Parse(time.DateOnly, text); err == nil {
		// Noon is in the day whatever the zone does to its midnight.
		at = db.DayOf(time.Date(day.Year(), day.Month(), day.Day(), 12, 0, 0, 0, zone), zone).End
	} else if d, err := config.ParseDuration(text); err == nil && d > 0 {
		at = now.Add(d)
	} else {
		return time.Time{}, errInvalid("\"expires_at\" must be a time (2027-01-31T18:00:00Z), a date (2027-01-31: the end of that day) or a duration from now (90d, 12h).")
	}
	at = at.UTC().Truncate(time.Millisecond)
	if at.Year() < 1970 || at.After(farthest) {
		return time.Time{}, errInvalid("\"expires_at\" must lie in the years 1970 to 9999.")
	}
	return at, nil
}

// maxGrace is how long a rotated secret may live on.
const maxGrace = 30 * 24 * time.Hour

// parseGrace reads how long the old secret lives on after a rotation.
func parseGrace(text string) (time.Duration, error) {
	if text == "" || text == "0" {
		return 0, nil
	}
	d, err := config.ParseDuration(text)
	if err != nil {
		return 0, errInvalid("\"grace\" must be a duration like 30m, 24h or 7d.")
	}
	if d > maxGrace {
		return 0, errInvalid("\"grace\" may be at most 30d.")
	}
	return d, nil
}
