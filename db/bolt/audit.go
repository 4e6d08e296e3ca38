package bolt

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// putAudit appends an entry in the transaction of the change that it tells of.
func (d *DB) putAudit(tx *bbolt.Tx, a db.Audit) error {
	if a.Action == "" {
		return nil
	}
	b := tx.Bucket([]byte(bucketAudit))
	id, err := b.NextSequence()
	if err != nil {
		return err
	}
	a.ID = id
	if a.Time.IsZero() {
		a.Time = d.now()
	}
	b.FillPercent = 0.9 // entries are only ever appended
	return putJSON(tx, bucketAudit, binary.BigEndian.AppendUint64(nil, id), a)
}

// AddAudit implements [db.Reports].
func (d *DB) AddAudit(ctx context.Context, a db.Audit) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := d.update(func(tx *bbolt.Tx) error { return d.putAudit(tx, a) })
	if err != nil {
		return fmt.Errorf("write audit entry %s: %w", a.Action, err)
	}
	return nil
}

// AuditLog implements [db.Reports].
func (d *DB) AuditLog(ctx context.Context, q db.AuditQuery) (entries []db.Audit, next string, err error) {
	before := ^uint64(0)
	if q.Before != "" {
		before, err = strconv.ParseUint(q.Before, 10, 64)
		if err != nil {
			return nil, "", fmt.Errorf("the cursor %q is not one of the audit trail's", q.Before)
		}
	}
	limit := pageLimit(q.Limit)
	err = d.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(bucketAudit)).Cursor()
		for id, sealed := lastBefore(c, binary.BigEndian.AppendUint64(nil, before)); id != nil; id, sealed = c.Prev() {
			if err := ctx.Err(); err != nil {
				return err
			}
			value, err := unseal(bucketAudit, id, sealed)
			if err != nil {
				return err
			}
			var a db.Audit
			if err := json.Unmarshal(value, &a); err != nil {
				return fmt.Errorf("audit entry %x can't be read: %w", id, err)
			}
			if q.Target != "" && a.Target != q.Target {
				continue
			}
			if len(entries) == limit {
				next = strconv.FormatUint(entries[limit-1].ID, 10)
				return nil
			}
			entries = append(entries, a)
		}
		return nil
	})
	if err != nil {
		return nil, "", storageError(err)
	}
	return entries, next, nil
}

// pageLimit is the number of entries on a page when n was asked for.
func pageLimit(n int) int {
	if n <= 0 {
		return 100
	}
	return min(n, 500)
}

// lastBefore moves to the last entry whose key is below key.
func lastBefore(c *bbolt.Cursor, key []byte) (k, v []byte) {
	if k, _ := c.Seek(key); k == nil {
		return c.Last()
	}
	return c.Prev()
}
