package bolt

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// syncedFile tells of each Sync.
type syncedFile struct {
	journalFile
	synced chan<- struct{}
}

func (f *syncedFile) Sync() error {
	err := f.journalFile.Sync()
	select {
	case f.synced <- struct{}{}:
	default:
	}
	return err
}

// One goroutine did all that Run does: while a fold waited for another writer, a
// power cut took all usage since it had begun, not the last second's.
func TestSyncDuringFold(t *testing.T) {
	synced := make(chan struct{}, 1)
	d := openDB(t, Options{openFile: func(path string) (journalFile, error) {
		f, err := openFile(path)
		return &syncedFile{f, synced}, err
	}})
	putKey(t, d, "k", db.Limits{})
	settle(t, d, record("req_1", "k", noon, 1, 0, 1))
	tx, err := d.file.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	d.journal.crowded <- struct{}{}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	select {
	case <-synced:
	case <-time.After(20 * time.Second):
		t.Error("nothing was synced while a fold took long")
	}
	if d.folding.mu.TryLock() {
		t.Error("no fold is on its way")
		d.folding.mu.Unlock()
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: got %v", err)
	}
	if n := d.Stats().Unfolded; n != 0 {
		t.Errorf("Run ended before the fold did: %d records are left", n)
	}
}

// A day of millions of records was deleted in one transaction, for which each
// writer waited: a revocation too.
func TestLargeDayGoesInSteps(t *testing.T) {
	d := openDB(t, Options{Now: func() time.Time { return noon }, KeepRequests: 24 * time.Hour})
	const days, records = 2, 2*sweepStep + 1
	today := floorDiv(noon.Unix(), secondsPerDay)
	err := d.update(func(tx *bbolt.Tx) error {
		root := tx.Bucket([]byte(bucketRequests))
		for day := range int64(days) {
			b, err := root.CreateBucket(dayName(today - 10 - day))
			if err != nil {
				return err
			}
			for i := range uint64(records) {
				if err := b.Put(binary.BigEndian.AppendUint64(nil, i), []byte("old")); err != nil {
					return err
				}
			}
		}
		_, err := root.CreateBucket(dayName(today))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	look := func() (left int, writes int) {
		err := d.view(func(tx *bbolt.Tx) error {
			writes = tx.ID()
			return tx.Bucket([]byte(bucketRequests)).ForEachBucket(func([]byte) error { left++; return nil })
		})
		if err != nil {
			t.Fatal(err)
		}
		return left, writes
	}
	_, before := look()
	if err := d.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, after := look(); left != 1 || after-before != days*3 {
		t.Errorf("%d days are left after %d transactions, want today alone after %d", left, after-before, days*3)
	}
}
