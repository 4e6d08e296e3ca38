package bolt

import (
	"context"
	"errors"
	"math"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// hours tells by the roll-ups, which are small, in which hours of the log of
// requests there may be records that are searched for, so that a search does
// not read the others.
type hours struct {
	ctx      context.Context
	rollups  *bbolt.Bucket
	q        *db.RequestQuery
	complete bool // there are roll-ups of all that the log has
	left     *int // see requestPage
}

// hourCost is how many records could be looked at in the time that it takes to
// find an hour's roll-ups and to pass over it.
const hourCost = 100

func (d *DB) hours(ctx context.Context, tx *bbolt.Tx, p *requestPage) hours {
	requests, rollups := time.Duration(d.keepRequests.Load()), time.Duration(d.keepRollups.Load())
	return hours{ctx: ctx, rollups: tx.Bucket([]byte(bucketRollups)), q: &p.q, left: &p.left,
		complete: rollups <= 0 || requests > 0 && requests <= rollups}
}

// everyHour refuses none.
func everyHour(int64) (bool, error) { return true, nil }

var errFound = errors.New("there is one")

// may reports whether the log of an hour may hold what is searched for.
func (h hours) may(hour int64) (bool, error) {
	failed := h.q.Status >= 400 || h.q.Status == 4 || h.q.Status == 5
	if !h.complete || h.q.Key == "" && h.q.Model == "" && h.q.Provider == "" && !failed {
		return true, nil
	}
	day := floorDiv(hour, hoursPerDay)
	b := h.rollups.Bucket(dayName(day))
	if b == nil {
		return true, nil
	}
	*h.left -= hourCost
	start := []byte{byte(hour - day*hoursPerDay)}
	prefix := start
	if h.q.Key != "" {
		start = rowsOfKey(start, h.q.Key)
		prefix = start
	}
	err := eachRow(h.ctx, b.Cursor(), day, start, prefix, hoursPerDay, func(r rawRow, sealed []byte) error {
		*h.left--
		switch {
		case h.q.Provider != "" && string(r.provider) != h.q.Provider,
			h.q.Model != "" && !counts(r.model, h.q.Model) && !counts(r.served, h.q.Model):
			return nil
		case failed:
			value, err := unseal(bucketRollups, r.key, sealed)
			if err != nil {
				return err
			}
			sums, err := decodeSums(value)
			if err != nil || sums.Errors == 0 {
				return err
			}
		}
		return errFound
	})
	if errors.Is(err, errFound) {
		return true, nil
	}
	return false, err
}

// counts reports whether a row of this name may count requests for a model.
func counts(name []byte, model string) bool {
	return string(name) == model || string(name) == db.OtherModel
}

const nanosPerHour = secondsPerHour * int64(time.Second)

// hour is the hour in which the request began.
func (k requestKey) hour() int64 { return floorDiv(k.nanos(), nanosPerHour) }

// hourBegin is a key before those of an hour, and behind those of earlier ones.
func hourBegin(hour int64) (k requestKey) {
	if hour <= math.MinInt64/nanosPerHour {
		return k
	}
	k.setNanos(hour * nanosPerHour)
	return k
}
