package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

const secondsPerDay = secondsPerHour * hoursPerDay

// requestKey orders the log of requests: by start, then by place in the journal,
// which no two records share.
type requestKey [16]byte

func (n numbered) key() (k requestKey) {
	binary.BigEndian.PutUint64(k[:], uint64(n.rec.Start.UnixNano())^1<<63)
	binary.BigEndian.PutUint32(k[8:], uint32(n.end.seq))
	binary.BigEndian.PutUint32(k[12:], uint32(n.end.off))
	return k
}

func (k requestKey) compare(o requestKey) int { return bytes.Compare(k[:], o[:]) }

// addRequests appends records to the log of requests.
func addRequests(tx *bbolt.Tx, list []numbered) error {
	slices.SortFunc(list, func(a, b numbered) int { return a.key().compare(b.key()) })
	root := tx.Bucket([]byte(bucketRequests))
	for _, n := range list {
		b, err := root.CreateBucketIfNotExists(dayName(floorDiv(n.rec.Start.Unix(), secondsPerDay)))
		if err != nil {
			return err
		}
		b.FillPercent = 0.9 // records are nearly only ever appended
		k := n.key()
		if err := b.Put(k[:], seal(appendRecord(nil, n.entry))); err != nil {
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
	p := &requestPage{q: q, limit: pageLimit(q.Limit), before: before}
	err := d.snapshot(func(tx *bbolt.Tx, recent []numbered) error {
		slices.SortFunc(recent, func(a, b numbered) int { return b.key().compare(a.key()) })
		err := eachRequest(ctx, tx, before, func(k requestKey, sealed []byte) (bool, error) {
			for len(recent) > 0 && recent[0].key().compare(k) > 0 {
				if p.full(recent[0].key(), recent[0].entry) {
					return false, nil
				}
				recent = recent[1:]
			}
			if !p.mayMatch(sealed) {
				return true, nil
			}
			value, err := unseal(bucketRequests, k[:], sealed)
			if err != nil {
				return false, err
			}
			e, err := decodeRecord(value)
			if err != nil {
				return false, fmt.Errorf("record %x of %s: %w", k, bucketRequests, err)
			}
			return !p.full(k, &e), nil
		})
		for _, n := range recent {
			if err != nil || p.full(n.key(), n.entry) {
				break
			}
		}
		return err
	})
	if err != nil {
		return nil, "", storageError(err)
	}
	return p.recs, p.next, nil
}

// requestPage collects one page of the log of requests.
type requestPage struct {
	q      db.RequestQuery
	limit  int
	before requestKey
	last   requestKey
	recs   []db.Record
	next   string
}

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
		q.ID != "" && r.ID != q.ID:
		return false
	case q.Status > 0 && q.Status < 10:
		return r.Status/100 == q.Status
	case q.Status != 0:
		return r.Status == q.Status
	}
	return true
}

// eachRequest calls fn with the records before a key, the newest first, until it
// returns false.
func eachRequest(ctx context.Context, tx *bbolt.Tx, before requestKey, fn func(k requestKey, sealed []byte) (bool, error)) error {
	root := tx.Bucket([]byte(bucketRequests))
	days := root.Cursor()
	for name, _ := days.Last(); name != nil; name, _ = days.Prev() {
		c := root.Bucket(name).Cursor()
		for k, v := lastBefore(c, before[:]); k != nil; k, v = c.Prev() {
			if err := ctx.Err(); err != nil {
				return err
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
// record that was settled before is in exactly one of them.
func (d *DB) snapshot(fn func(tx *bbolt.Tx, recent []numbered) error) error {
	// In this order: what is folded in between is then seen in the file, and
	// left out by its place.
	pending, unwritten := d.journal.unfolded()
	return d.view(func(tx *bbolt.Tx) error {
		done, err := decodePosition(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaJournal)))
		if err != nil {
			return err
		}
		recent := make([]numbered, 0, len(pending)+len(unwritten))
		for _, p := range pending {
			if p.end.compare(done) > 0 {
				recent = append(recent, p)
			}
		}
		for i, e := range unwritten {
			// They get a place when they can be written; until then a late one.
			recent = append(recent, numbered{e, position{1<<32 - 1, int64(i)}})
		}
		return fn(tx, recent)
	})
}
