package bolt

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"
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
//
// Each of the three has a goroutine of its own: a fold may wait for a backup, and a
// sweep may take minutes, while the journal is to be synced each second.
func (d *DB) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { each(ctx, syncEvery, func() { d.tell(d.syncJournal()) }) })
	wg.Go(func() {
		d.tell(d.sweep(ctx))
		each(ctx, sweepEvery, func() { d.tell(d.sweep(ctx)) })
	})
	d.keepFolded(ctx)
	wg.Wait()
	return nil
}

// each calls fn again and again until ctx ends.
func each(ctx context.Context, every time.Duration, fn func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			fn()
		}
	}
}

// keepFolded folds the journal and writes down when keys were used.
func (d *DB) keepFolded(ctx context.Context) {
	fold, used := time.NewTicker(foldEvery), time.NewTicker(usedEvery)
	defer fold.Stop()
	defer used.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-fold.C:
			_ = d.fold() // tells by itself, once
		case <-d.journal.crowded:
			if d.folding.failure() == nil { // else the next time is soon enough
				_ = d.fold()
			}
		case <-used.C:
			d.tell(d.flushUsed())
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

// sweep deletes what is older than it is to be kept. When ctx ends the rest is
// left for the next time.
func (d *DB) sweep(ctx context.Context) error {
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
		if err := d.dropDays(ctx, x.bucket, oldest); err != nil {
			return fmt.Errorf("delete old %s: %w", x.bucket, err)
		}
	}
	if keep := time.Duration(d.keepAudit.Load()); keep > 0 {
		if err := d.dropAudit(ctx, now.Add(-keep)); err != nil {
			return fmt.Errorf("delete old audit entries: %w", err)
		}
	}
	return nil
}

// sweepStep is how many records one transaction deletes, so that no writer waits
// long for it.
const sweepStep = 10_000

// dropDays deletes the days before oldest, step by step.
func (d *DB) dropDays(ctx context.Context, bucket string, oldest int64) error {
	for ctx.Err() == nil {
		more := false
		err := d.view(func(tx *bbolt.Tx) error {
			first, _ := tx.Bucket([]byte(bucket)).Cursor().First()
			day, ok := dayOfName(first)
			more = ok && day < oldest
			return nil
		})
		if err != nil || !more {
			return err
		}
		err = d.update(func(tx *bbolt.Tx) error { return dropFirst(tx.Bucket([]byte(bucket))) })
		if err != nil {
			return err
		}
	}
	return nil
}

// dropFirst deletes the first records of the first day, and the day with the last
// of them.
func dropFirst(days *bbolt.Bucket) error {
	name, _ := days.Cursor().First()
	day := days.Bucket(name)
	if day == nil {
		return days.DeleteBucket(name) // which says what it is instead
	}
	var old [][]byte
	c := day.Cursor()
	id, _ := c.First()
	for ; id != nil && len(old) < sweepStep; id, _ = c.Next() {
		old = append(old, id)
	}
	if id == nil {
		return days.DeleteBucket(name)
	}
	for _, id := range old {
		if err := day.Delete(id); err != nil {
			return err
		}
	}
	return nil
}

// dropAudit deletes the entries before t, a thousand per transaction.
func (d *DB) dropAudit(ctx context.Context, t time.Time) error {
	for ctx.Err() == nil {
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
	return nil
}

var _ db.Store = (*DB)(nil)
