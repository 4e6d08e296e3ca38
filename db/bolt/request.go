package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

const secondsPerDay = secondsPerHour * hoursPerDay

// requestKey orders the log of requests: by start, then by place in the journal,
// which no two records share.
type requestKey [16]byte

func (n numbered) key() (k requestKey) {
	k.setNanos(n.rec.Start.UnixNano())
	binary.BigEndian.PutUint32(k[8:], uint32(n.end.seq))
	binary.BigEndian.PutUint32(k[12:], uint32(n.end.off))
	return k
}

// nanos is the start in Unix nanoseconds.
func (k requestKey) nanos() int64 { return int64(binary.BigEndian.Uint64(k[:]) ^ 1<<63) }

func (k *requestKey) setNanos(n int64) { binary.BigEndian.PutUint64(k[:], uint64(n)^1<<63) }

// beginOf is a key before those of requests that begin at t or later, and behind
// those of earlier ones.
func beginOf(t time.Time) (k requestKey) {
	k.setNanos(t.UnixNano())
	return k
}

func (k requestKey) compare(o requestKey) int { return bytes.Compare(k[:], o[:]) }

// addRequests appends records to the log of requests.
func addRequests(tx *bbolt.Tx, list []logged) error {
	slices.SortFunc(list, func(a, b logged) int { return a.key.compare(b.key) })
	root := tx.Bucket([]byte(bucketRequests))
	var b *bbolt.Bucket
	var day int64 // whose bucket b is
	for i := range list {
		one := &list[i]
		if of := floorDiv(one.key.nanos(), int64(24*time.Hour)); b == nil || of != day {
			var err error
			if b, err = root.CreateBucketIfNotExists(dayName(of)); err != nil {
				return err
			}
			day, b.FillPercent = of, 0.9 // records are nearly only ever appended
		}
		if err := b.Put(one.key[:], one.sealed); err != nil { // which bbolt keeps until the end
			return err
		}
	}
	return nil
}

// Requests implements [db.Reports].
func (d *DB) Requests(ctx context.Context, q db.RequestQuery) ([]db.Record, string, error) {
	before := requestKey(bytes.Repeat([]byte{0xFF}, len(requestKey{})))
	if q.Before != "" {
		b, err := hex.DecodeString(q.Before)
		if err != nil || len(b) != len(before) {
			return nil, "", fmt.Errorf("the cursor %q is not one of the log of requests", q.Before)
		}
		before = requestKey(b)
	}
	if !q.To.IsZero() {
		if to := beginOf(q.To); to.compare(before) < 0 {
			before = to
		}
	}
	p := &requestPage{q: q, limit: pageLimit(q.Limit), before: before, seen: before, left: math.MaxInt}
	if q.Most > 0 {
		p.left = q.Most
	}
	err := d.snapshot(math.MinInt64, math.MaxInt64, func(tx *bbolt.Tx, recent []numbered) error {
		slices.SortFunc(recent, func(a, b numbered) int { return b.key().compare(a.key()) })
		hours := d.hours(ctx, tx, p)
		may := func(hour int64) (bool, error) {
			if p.enough() {
				return false, errEnough
			}
			ok, err := hours.may(hour)
			if !ok {
				p.seen = hourBegin(hour)
			}
			return ok, err
		}
		err := eachRequest(ctx, tx, before, may, func(k requestKey, sealed []byte) (bool, error) {
			if p.enough() {
				return false, errEnough
			}
			for len(recent) > 0 && recent[0].key().compare(k) > 0 {
				if p.full(recent[0].key(), recent[0].entry) {
					return false, nil
				}
				recent = recent[1:]
			}
			if !q.From.IsZero() && k.compare(beginOf(q.From)) < 0 {
				return false, nil
			}
			p.left--
			p.seen = k
			if !p.mayMatch(sealed) || !p.mayHaveStatus(sealed) {
				return true, nil
			}
			value, err := unseal(bucketRequests, k[:], sealed)
			if err != nil {
				return false, err
			}
			e, err := decodeRecord(value, nil)
			if err != nil {
				return false, fmt.Errorf("record %x of %s: %w", k, bucketRequests, err)
			}
			return !p.full(k, &e), nil
		})
		enough := errors.Is(err, errEnough)
		if err != nil && !enough {
			return err
		}
		for _, n := range recent {
			if enough && n.key().compare(p.seen) < 0 || p.full(n.key(), n.entry) {
				break
			}
		}
		if enough && p.next == "" {
			p.next = hex.EncodeToString(p.seen[:])
		}
		return nil
	})
	if err != nil {
		return nil, "", storageError(err)
	}
	return p.recs, p.next, nil
}

// errEnough says that as much was looked at as was asked for.
var errEnough = errors.New("looked at enough")

// requestPage collects one page of the log of requests.
type requestPage struct {
	q      db.RequestQuery
	limit  int
	before requestKey
	last   requestKey // of recs
	seen   requestKey // what is behind it, and before the page, was looked at
	left   int        // how many records may still be looked at
	recs   []db.Record
	next   string
}

// enough reports whether the search is over although the page is not full. Each
// page gets on by one record or hour at least.
func (p *requestPage) enough() bool { return p.left <= 0 && p.seen != p.before }

// mayMatch reports whether a record, as it comes from the file, can be one that
// was asked for. Its texts stand in it as they are, and looking for one is quick.
func (p *requestPage) mayMatch(sealed []byte) bool {
	for _, text := range [...]string{p.q.Key, p.q.ID, p.q.Provider, p.q.Model} {
		if text != "" && len(text) <= maxText && !bytes.Contains(sealed, []byte(text)) {
			return false
		}
	}
	return true
}

// mayHaveStatus reports the same by the status, which stands behind numbers of
// few bytes each.
func (p *requestPage) mayHaveStatus(sealed []byte) bool {
	if p.q.Status == 0 || len(sealed) < sealSize+recordHead {
		return true // what is damaged is found when it is decoded
	}
	b := sealed[sealSize+recordHead:]
	var status int64
	for range statusAt + 1 {
		n, size := binary.Varint(b)
		if size <= 0 {
			return true
		}
		status, b = n, b[size:]
	}
	return hasStatus(int(status), p.q.Status)
}

// hasStatus reports whether a status is the one that is searched for, or of its
// class where that is one digit.
func hasStatus(status, wanted int) bool {
	if wanted < 10 {
		status /= 100
	}
	return wanted == 0 || status == wanted
}

// full takes e if it was asked for, and reports whether the page was full
// already.
func (p *requestPage) full(k requestKey, e *entry) bool {
	if p.next != "" {
		return true
	}
	if k.compare(p.before) >= 0 || !matches(&e.rec, &p.q) {
		return false
	}
	if len(p.recs) == p.limit {
		p.next = hex.EncodeToString(p.last[:])
		return true
	}
	p.recs, p.last = append(p.recs, e.rec), k
	return false
}

func matches(r *db.Record, q *db.RequestQuery) bool {
	switch {
	case q.Key != "" && r.KeyID != q.Key,
		q.Model != "" && r.Model != q.Model && r.Served != q.Model,
		q.Provider != "" && r.Provider != q.Provider,
		q.ID != "" && r.ID != q.ID,
		!q.From.IsZero() && r.Start.Before(q.From),
		!q.To.IsZero() && !r.Start.Before(q.To):
		return false
	}
	return hasStatus(r.Status, q.Status)
}

// eachRequest calls fn with the records before a key, the newest first, until it
// returns false. It passes over the hours that may refuses.
func eachRequest(ctx context.Context, tx *bbolt.Tx, before requestKey, may func(hour int64) (bool, error), fn func(k requestKey, sealed []byte) (bool, error)) error {
	root := tx.Bucket([]byte(bucketRequests))
	days := root.Cursor()
	for name, _ := days.Last(); name != nil; name, _ = days.Prev() {
		c := root.Bucket(name).Cursor()
		hour := int64(math.MaxInt64) // which was asked for
		for k, v := lastBefore(c, before[:]); k != nil; k, v = c.Prev() {
			if err := ctx.Err(); err != nil {
				return err
			}
			for k != nil && len(k) == len(before) && requestKey(k).hour() != hour {
				hour = requestKey(k).hour()
				ok, err := may(hour)
				if err != nil {
					return err
				}
				if !ok {
					begin := hourBegin(hour)
					k, v = lastBefore(c, begin[:])
				}
			}
			if k == nil {
				break
			}
			if len(k) != len(before) {
				return fmt.Errorf("record %x of %s: %w", k, bucketRequests, errRecord)
			}
			if more, err := fn(requestKey(k), v); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

// snapshot calls fn with the file and the records that are not in it yet: each
// record that was settled before is in exactly one of them. Records of requests
// that did not begin in the hours from one to another may be missing.
func (d *DB) snapshot(from, to int64, fn func(tx *bbolt.Tx, recent []numbered) error) error {
	// In this order: what is folded in between is then seen in the file, and
	// left out by its place.
	blocks, unwritten := d.journal.unfolded()
	return d.view(func(tx *bbolt.Tx) error {
		done, err := decodePosition(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaJournal)))
		if err != nil {
			return err
		}
		recent, err := records(blocks, done, from, to)
		if err != nil {
			return err
		}
		for i, e := range unwritten {
			// They get a place when they can be written; until then a late one.
			recent = append(recent, numbered{e, position{1<<32 - 1, int64(i)}})
		}
		return fn(tx, recent)
	})
}
