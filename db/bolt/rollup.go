package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// rollupKey names one row of the roll-ups.
type rollupKey struct {
	hour                         int64 // Unix time / 3600
	key, model, served, provider string
}

const (
	secondsPerHour = 3600
	hoursPerDay    = 24
)

// floorDiv divides towards minus infinity, so that hours and days before 1970
// are whole ones too.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// dayName is the name of a day's bucket; names sort as the days do. The day is
// one of those that an int32 can count.
func dayName(day int64) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(day)^1<<31)
}

// dayOfName is the inverse of dayName.
func dayOfName(name []byte) (int64, bool) {
	if len(name) != 4 {
		return 0, false
	}
	return int64(int32(binary.BigEndian.Uint32(name) ^ 1<<31)), true
}

// encode returns the row's key inside the bucket of its day: the hour first, so
// that a report reads only the hours that it is about.
func (k rollupKey) encode(b []byte) []byte {
	b = append(b, byte(k.hour-floorDiv(k.hour, hoursPerDay)*hoursPerDay))
	for _, s := range [...]string{k.key, k.model, k.served, k.provider} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// rawRow is a row's key cut into its parts, which are valid as long as the
// transaction.
type rawRow struct {
	hour                         int64
	key, model, served, provider []byte
}

var errRollup = errors.New("damaged roll-up")

func parseRow(day int64, b []byte) (r rawRow, err error) {
	if len(b) == 0 || b[0] >= hoursPerDay {
		return r, errRollup
	}
	r.hour = day*hoursPerDay + int64(b[0])
	b = b[1:]
	for _, p := range [...]*[]byte{&r.key, &r.model, &r.served, &r.provider} {
		n, size := binary.Uvarint(b)
		if size <= 0 || uint64(len(b)-size) < n {
			return r, errRollup
		}
		*p, b = b[size:size+int(n)], b[size+int(n):]
	}
	if len(b) != 0 {
		return r, errRollup
	}
	return r, nil
}

// sumFields lists the numbers of s in the order in which they are stored.
func sumFields(s *db.Sums) [10]*int64 {
	return [...]*int64{&s.Requests, &s.Errors, &s.Usage.Input, &s.Usage.Output, &s.Usage.CachedInput,
		&s.Usage.CacheWrite, &s.Usage.Reasoning, &s.Cost, &s.Unpriced, &s.Estimated}
}

func encodeSums(s *db.Sums) []byte {
	b := make([]byte, 0, 40)
	for _, n := range sumFields(s) {
		b = binary.AppendVarint(b, *n)
	}
	return b
}

func decodeSums(b []byte) (s db.Sums, err error) {
	for _, p := range sumFields(&s) {
		n, size := binary.Varint(b)
		if size <= 0 {
			return s, errRollup
		}
		*p, b = n, b[size:]
	}
	if len(b) != 0 {
		return s, errRollup
	}
	return s, nil
}

// sums returns what one record adds to its row.
func (e *entry) sums() db.Sums {
	s := db.Sums{Requests: 1, Usage: e.rec.Usage}
	if e.rec.Failed() {
		s.Errors = 1
	}
	if e.rec.Cost == db.UnknownCost {
		s.Unpriced = 1
	} else {
		s.Cost = e.rec.Cost
	}
	if e.rec.Source == db.Estimated || e.rec.Source == db.Aborted {
		s.Estimated = 1
	}
	return s
}

// rollupKey returns the row that e counts in.
func (e *entry) rollupKey() rollupKey {
	model, served := e.rolledNames()
	return rollupKey{floorDiv(e.rec.Start.Unix(), secondsPerHour), e.rec.KeyID, model, served, e.rec.Provider}
}

// addRollups adds sums to the rows of the file.
func addRollups(tx *bbolt.Tx, rows map[rollupKey]*db.Sums) error {
	root := tx.Bucket([]byte(bucketRollups))
	var name []byte
	for k, add := range rows {
		b, err := root.CreateBucketIfNotExists(dayName(floorDiv(k.hour, hoursPerDay)))
		if err != nil {
			return err
		}
		name = k.encode(name[:0])
		total := *add
		if sealed := b.Get(name); sealed != nil {
			value, err := unseal(bucketRollups, name, sealed)
			if err != nil {
				return err
			}
			old, err := decodeSums(value)
			if err != nil {
				return err
			}
			total.Add(old)
		}
		if err := b.Put(bytes.Clone(name), seal(encodeSums(&total))); err != nil {
			return err
		}
	}
	return nil
}

// eachRollup calls fn with the rows of the hours [from, to), and with the sums
// still sealed: most reports skip most rows. With a key, which stands behind the
// hour, it goes from hour to hour and reads the rows of that key alone.
func eachRollup(ctx context.Context, tx *bbolt.Tx, from, to int64, key string, fn func(r rawRow, sealed []byte) error) error {
	root := tx.Bucket([]byte(bucketRollups))
	days := root.Cursor()
	first := max(floorDiv(from, hoursPerDay), math.MinInt32) // as far back as names go
	from = max(from, first*hoursPerDay)
	for name, _ := days.Seek(dayName(first)); name != nil; name, _ = days.Next() {
		day, ok := dayOfName(name)
		if !ok {
			return errRollup
		}
		if day*hoursPerDay >= to {
			return nil
		}
		c := root.Bucket(name).Cursor()
		start, end := max(from-day*hoursPerDay, 0), min(to-day*hoursPerDay, hoursPerDay)
		if key == "" {
			if err := eachRow(ctx, c, day, []byte{byte(start)}, nil, end, fn); err != nil {
				return err
			}
			continue
		}
		for hour := start; hour < end; hour++ {
			prefix := rowsOfKey([]byte{byte(hour)}, key)
			if err := eachRow(ctx, c, day, prefix, prefix, end, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// rowsOfKey appends to an hour what the rows of a key in it begin with.
func rowsOfKey(hour []byte, key string) []byte {
	return append(binary.AppendUvarint(hour, uint64(len(key))), key...)
}

// eachRow calls fn with the rows of a day from start on, as long as they have the
// prefix and lie before the hour end of the day.
func eachRow(ctx context.Context, c *bbolt.Cursor, day int64, start, prefix []byte, end int64, fn func(r rawRow, sealed []byte) error) error {
	for k, v := c.Seek(start); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := parseRow(day, k)
		if err != nil {
			return fmt.Errorf("row %x of %s: %w", k, time.Unix(day*hoursPerDay*secondsPerHour, 0).UTC().Format(time.DateOnly), err)
		}
		if r.hour >= day*hoursPerDay+end {
			return nil
		}
		if err := fn(r, v); err != nil {
			return err
		}
	}
	return nil
}
