package bolt

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// How often Run does its work.
const (
	syncEvery  = time.Second
	foldEvery  = 3 * time.Second
	usedEvery  = 30 * time.Second
	sweepEvery = time.Hour
)

// Run syncs and folds the journal, writes down when keys were used, and deletes
// what is older than it is to be kept, until ctx ends; then it returns nil. What
// fails is told to Options.OnProblem and tried again.
func (d *DB) Run(ctx context.Context) error {
	sync, fold, used, sweep := time.NewTicker(syncEvery), time.NewTicker(foldEvery), time.NewTicker(usedEvery), time.NewTicker(sweepEvery)
	for _, t := range []*time.Ticker{sync, fold, used, sweep} {
		defer t.Stop()
	}
	d.tell(d.sweep())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sync.C:
			d.tell(d.syncJournal())
		case <-fold.C:
			_ = d.fold() // tells by itself, once
		case <-d.journal.crowded:
			if d.folding.failure() == nil { // else the next time is soon enough
				_ = d.fold()
			}
		case <-used.C:
			d.tell(d.flushUsed())
		case <-sweep.C:
			d.tell(d.sweep())
		}
	}
}

// tell reports what failed in the background.
func (d *DB) tell(err error) {
	if err != nil {
		d.problem(err)
	}
}

// syncJournal writes what could not be written and makes all of it durable.
func (d *DB) syncJournal() error {
	d.journal.tryAgain()
	return d.journal.sync()
}

// sweep deletes what is older than it is to be kept.
func (d *DB) sweep() error {
	now := d.now()
	for _, x := range []struct {
		bucket string
		keep   time.Duration
	}{
		{bucketRequests, time.Duration(d.keepRequests.Load())},
		{bucketRollups, time.Duration(d.keepRollups.Load())},
	} {
		if x.keep <= 0 {
			continue
		}
		// A day goes when all of it is too old.
		oldest := floorDiv(now.Add(-x.keep).Unix(), secondsPerDay)
		if err := d.dropDays(x.bucket, oldest); err != nil {
			return fmt.Errorf("delete old %s: %w", x.bucket, err)
		}
	}
	if keep := time.Duration(d.keepAudit.Load()); keep > 0 {
		if err := d.dropAudit(now.Add(-keep)); err != nil {
			return fmt.Errorf("delete old audit entries: %w", err)
		}
	}
	return nil
}

// dropDays deletes the days before oldest, one transaction each, so that no
// writer waits long.
func (d *DB) dropDays(bucket string, oldest int64) error {
	for {
		var name []byte
		err := d.view(func(tx *bbolt.Tx) error {
			first, _ := tx.Bucket([]byte(bucket)).Cursor().First()
			if day, ok := dayOfName(first); ok && day < oldest {
				name = append(name, first...)
			}
			return nil
		})
		if err != nil || name == nil {
			return err
		}
		err = d.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).DeleteBucket(name) })
		if err != nil {
			return err
		}
	}
}

// dropAudit deletes the entries before t, a thousand per transaction.
func (d *DB) dropAudit(t time.Time) error {
	for {
		var old [][]byte
		err := d.view(func(tx *bbolt.Tx) error {
			c := tx.Bucket([]byte(bucketAudit)).Cursor()
			for id, sealed := c.First(); id != nil && len(old) < 1000; id, sealed = c.Next() {
				value, err := unseal(bucketAudit, id, sealed)
				if err != nil {
					return err
				}
				var a db.Audit
				if err := json.Unmarshal(value, &a); err != nil {
					return fmt.Errorf("entry %d: %w", binary.BigEndian.Uint64(id), err)
				}
				if !a.Time.Before(t) {
					break
				}
				old = append(old, append([]byte(nil), id...))
			}
			return nil
		})
		if err != nil || len(old) == 0 {
			return err
		}
		err = d.update(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(bucketAudit))
			for _, id := range old {
				if err := b.Delete(id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

var _ db.Store = (*DB)(nil)
