// Package bolt is the engine that keeps everything in one folder on the local
// disk: a bbolt file, tokenhub.db, and the usage journal beside it. It
// implements [db.Store] for a single process; the folder is locked while it is
// open.
//
//	store, err := bolt.Open(ctx, bolt.Options{Dir: "data", OnProblem: logIt})
//	if err != nil {
//		return err // one line that says what to do
//	}
//	group.Go(func() error { return store.Run(ctx) })
//	...
//	err = store.Close() // after the last Settle
//
// # What is where
//
// Keys, tokens, settings and the audit trail are written to the file first, each
// change in one transaction with its audit entry, and to memory after; all reads
// on a request's path are from memory.
//
// Reservations live in memory alone. A settlement is applied to the counters in
// memory and appended to the journal with one write, so that it survives the
// process from the moment Settle returns; the journal is synced once a second,
// so that a power cut costs at most that. Every few seconds the journal is
// folded: one transaction stores the roll-ups, the log of requests, the counters
// of limits, and the place in the journal up to which they were counted. Each
// record is therefore counted exactly once, whenever the process ends.
//
// # When the disk fails
//
// While the journal can't be written, settlements are kept in memory (up to
// 100,000 of them) and written as soon as that is possible again; until then
// [DB.Ready] says why, and claims on keys with any limit are refused with
// db.ErrStorage. A write that was cut off is removed at the next Open; damage
// elsewhere in a journal file costs the damaged records alone, is told to
// Options.OnProblem, and the file is kept as *.damaged. A database file that is
// empty, foreign, newer, cut short or damaged is refused, never repaired.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// DatabaseName is the name of the database file inside the data folder.
const DatabaseName = "tokenhub.db"

// Options say where the data is and how long it is kept.
type Options struct {
	// Dir is the data folder. It is made with mode 0700 when it is missing, and
	// refused when others than its owner may enter it.
	Dir string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Zone is where days and months of limits begin; nil means UTC.
	Zone *time.Location
	// KeepZone has the zone stay in which the file counts, whatever Zone is: for
	// who only looks, and may have another configuration than the server.
	KeepZone bool
	// KeepRequests, KeepRollups and KeepAudit say how long the log of requests,
	// the roll-ups and the audit trail are kept; 0 means for ever.
	KeepRequests, KeepRollups, KeepAudit time.Duration
	// OnProblem is told what went wrong in the background or was repaired at
	// Open. It must be quick, must not call the store, and may be called from
	// several goroutines; nil means that nobody listens.
	OnProblem func(error)
	// Version is that of the program; it is noted in the file.
	Version string

	// Seams for tests; nil means the real ones.
	migrations []migration
	openFile   func(path string) (journalFile, error)
	readFile   func(path string) (readableFile, error)
}

// DB is an open data folder. All methods are safe for concurrent use.
type DB struct {
	dir     string
	now     func() time.Time
	problem func(error)
	lock    *folderLock
	file    *bbolt.DB

	// The retention in nanoseconds, and the zone: both may change on a reload.
	keepRequests, keepRollups, keepAudit atomic.Int64
	zone                                 atomic.Pointer[time.Location]

	// change is held by whoever writes a key, token or setting, from the check of
	// its revision until the watchers were told.
	change sync.Mutex

	keys     keyTable
	tokens   tokenTable
	settings settingTable
	ledger   ledger
	journal  journal
	folding  folding

	closeOnce sync.Once
	closeErr  error
}

// Open locks the folder, verifies the database, migrates it when it is older,
// and loads what is read often into memory. It starts nothing: see [DB.Run].
//
// The error is one line that says what to do; it is [ErrLocked] when another
// process has the folder open.
func Open(ctx context.Context, o Options) (*DB, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.OnProblem == nil {
		o.OnProblem = func(error) {}
	}
	if o.migrations == nil {
		o.migrations = migrations()
	}
	if o.readFile == nil {
		o.readFile = openReadable
	}
	if err := prepareFolder(o.Dir); err != nil {
		return nil, err
	}
	lock, err := lockFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	d := &DB{dir: o.Dir, now: o.Now, problem: o.OnProblem, lock: lock}
	d.folding.files.open = o.readFile
	d.zone.Store(o.Zone)
	d.SetRetention(o.KeepRequests, o.KeepRollups, o.KeepAudit)
	if err := d.open(ctx, o); err != nil {
		if d.file != nil {
			d.file.Close()
		}
		lock.release()
		return nil, err
	}
	return d, nil
}

// open does the part of Open that happens under the folder's lock.
func (d *DB) open(ctx context.Context, o Options) error {
	if err := removeLeftovers(o.Dir); err != nil {
		return err
	}
	path := filepath.Join(o.Dir, DatabaseName)
	_, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := refuseOrphans(o.Dir); err != nil {
			return err
		}
		if err := createDatabase(path, o, d.now()); err != nil {
			return fmt.Errorf("create %s: %w", path, err)
		}
	case err != nil:
		return err
	}
	return guard(path, func(opened func(*os.File)) error {
		file, err := openVerified(path, false, opened)
		if err != nil {
			return err
		}
		d.file = file
		if err := migrate(file, o.migrations, o.Version); err != nil {
			return err
		}
		if err := d.openJournal(o.openFile); err != nil {
			return err
		}
		if err := d.recountIfMoved(o.KeepZone); err != nil {
			return err
		}
		return d.load()
	})
}

// load reads into memory what requests need.
func (d *DB) load() error {
	return d.file.View(func(tx *bbolt.Tx) error {
		if err := d.keys.load(tx); err != nil {
			return err
		}
		if err := d.tokens.load(tx); err != nil {
			return err
		}
		if err := d.settings.load(tx); err != nil {
			return err
		}
		return d.loadCounters(tx)
	})
}

// SetRetention changes how long the log of requests, the roll-ups and the audit
// trail are kept, from the next sweep on; 0 means for ever.
func (d *DB) SetRetention(requests, rollups, audit time.Duration) {
	d.keepRequests.Store(int64(requests))
	d.keepRollups.Store(int64(rollups))
	d.keepAudit.Store(int64(audit))
}

// update runs one write transaction; its failure is ErrStorage unless fn
// returned a contract error.
func (d *DB) update(fn func(tx *bbolt.Tx) error) error {
	return storageError(guard(filepath.Join(d.dir, DatabaseName), func(func(*os.File)) error { return d.file.Update(fn) }))
}

// view runs one read transaction; its failure is as that of update.
func (d *DB) view(fn func(tx *bbolt.Tx) error) error {
	return storageError(guard(filepath.Join(d.dir, DatabaseName), func(func(*os.File)) error { return d.file.View(fn) }))
}

// storageError makes ErrStorage of what is not an outcome of the contract.
func storageError(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{db.ErrNotFound, db.ErrConflict, db.ErrExists, db.ErrStorage, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", db.ErrStorage, err)
}

// Close writes down what is only in memory and gives the folder free. The DB
// can't be used afterwards.
func (d *DB) Close() error {
	d.closeOnce.Do(func() { d.closeErr = d.close() })
	return d.closeErr
}

func (d *DB) close() error {
	// The journal first: what it can't write any more is lost with the process.
	err := d.journal.close()
	err = errors.Join(err, d.fold(), d.flushUsed(), d.file.Close())
	d.lock.release()
	if err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}
