package bolt

import (
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// foldChunk is how many bytes of the journal one transaction folds.
const foldChunk = 1 << 20

// folding moves the journal into the database file.
type folding struct {
	// mu is held while a fold runs; it guards the rest.
	mu sync.Mutex
	// done is up to where the journal is folded.
	done  position
	files journalFiles
	// unread is how many folds ended before bytes that can't be read.
	unread int
	// damaged are journal files in which bytes were skipped. The database file knows
	// them too, so that they are kept whenever the process ends.
	damaged map[uint64]bool
	// data and requests are memory for the next piece of the journal.
	data     []byte
	requests []logged
	// err says why the last fold failed. It is read without mu, which is held long.
	err atomic.Pointer[error]
}

// failure says why the last fold failed, nil if it did not.
func (f *folding) failure() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// batch is a piece of the journal, added up.
type batch struct {
	rollups map[rollupKey]*db.Sums
	// keys and providers are what is to be added to their counters.
	keys, providers map[string]*counters
	names           map[string]struct{}
	requests        []logged
}

// logged is a sealed record for the log of requests. Its bytes are those that
// were read from the journal.
type logged struct {
	key    requestKey
	sealed []byte
}

// newBatch returns an empty batch with memory for requests.
func newBatch(requests []logged) *batch {
	return &batch{rollups: map[rollupKey]*db.Sums{}, keys: map[string]*counters{}, providers: map[string]*counters{}, names: map[string]struct{}{},
		requests: requests[:0]}
}

// add takes a record, of which e is not kept, and its frame, which is. It ends at
// a place.
func (b *batch) add(e *entry, end position, frame []byte) {
	k := e.rollupKey()
	s := b.rollups[k]
	if s == nil {
		s = &db.Sums{}
		b.rollups[k] = s
	}
	s.Add(e.sums())
	if e.charged {
		tokens, cost := e.rec.Charge()
		countersOf(b.keys, e.rec.KeyID).add(e.day, e.month, tokens, cost)
		countersOf(b.providers, e.rec.Provider).add(e.day, e.month, tokens, cost)
	}
	if e.ownModel {
		b.names[e.rec.Model] = struct{}{}
	}
	if e.ownServed {
		b.names[e.rec.Served] = struct{}{}
	}
	b.requests = append(b.requests, logged{numbered{e, end}.key(), sealFrame(frame)})
}

func countersOf(all map[string]*counters, name string) *counters {
	c := all[name]
	if c == nil {
		c = &counters{}
		all[name] = c
	}
	return c
}

// store writes the batch; done is the place behind it, damaged are the journal
// files that are to be kept.
func (b *batch) store(tx *bbolt.Tx, done position, damaged map[uint64]bool) error {
	if err := addRollups(tx, b.rollups); err != nil {
		return err
	}
	if err := addCounters(tx, bucketCounters, b.keys); err != nil {
		return err
	}
	if err := addCounters(tx, bucketProviders, b.providers); err != nil {
		return err
	}
	names := tx.Bucket([]byte(bucketNames))
	for name := range b.names {
		if names.Get(nameKey(name)) != nil {
			continue
		}
		if err := names.Put(nameKey(name), nil); err != nil {
			return err
		}
	}
	if err := addRequests(tx, b.requests); err != nil {
		return err
	}
	meta := tx.Bucket([]byte(bucketMeta))
	if err := meta.Put([]byte(metaDamaged), encodeFiles(damaged)); err != nil {
		return err
	}
	return meta.Put([]byte(metaJournal), done.encode())
}

// nameKey is a name's key in its bucket; bbolt has no empty keys, and the empty
// name is a name as well.
func nameKey(name string) []byte { return append([]byte{'='}, name...) }

// addCounters adds to the counters of keys or providers.
func addCounters(tx *bbolt.Tx, bucket string, settled map[string]*counters) error {
	b := tx.Bucket([]byte(bucket))
	for id, more := range settled {
		c := &counters{}
		if sealed := b.Get(nameKey(id)); sealed != nil {
			value, err := unseal(bucket, []byte(id), sealed)
			if err != nil {
				return err
			}
			if c, err = decodeCounters(value); err != nil {
				return fmt.Errorf("%s of %q: %w", bucket, id, err)
			}
		}
		c.merge(more)
		if err := b.Put(nameKey(id), seal(c.encode())); err != nil {
			return err
		}
	}
	return nil
}

// fold stores all that is in the journal when it is called.
func (d *DB) fold() error {
	d.folding.mu.Lock()
	defer d.folding.mu.Unlock()
	err := d.foldTo(d.journal.end(), d.folding.unread < unreadFolds)
	if isBroken(err) {
		d.folding.unread++
	}
	if err == nil {
		d.folding.unread = 0
		d.folding.err.Store(nil)
		return nil
	}
	if d.folding.failure() == nil {
		d.problem(fmt.Errorf("the usage journal can't be folded: %w", err))
	}
	d.folding.err.Store(&err)
	return err
}

// unreadFolds is how often a fold begins anew before bytes that can't be read, for
// a minute: the cable of a disk may be loose for a moment. After that it does
// without them.
const unreadFolds = 20

// foldTo stores the journal up to end; a patient one ends before bytes that can't
// be read. d.folding.mu is held.
func (d *DB) foldTo(end position, patient bool) error {
	for d.folding.done.compare(end) < 0 {
		b := newBatch(d.folding.requests)
		var unread error
		done, err := d.folding.files.read(d.folding.done, end, &d.folding.data, b.add, func(p position, n int64, why error) {
			if why != nil && patient {
				unread = fmt.Errorf("%s at %d: %w", journalPath(d.dir, p.seq), p.off, why)
			}
			if unread != nil {
				return
			}
			d.folding.damaged[p.seq] = true
			if why != nil {
				d.problem(fmt.Errorf("%d bytes of %s at %d can't be read: %w", n, journalPath(d.dir, p.seq), p.off, why))
				return
			}
			d.problem(fmt.Errorf("damage in the usage journal: %d bytes of %s at %d were skipped, the file is kept as *.damaged", n, journalPath(d.dir, p.seq), p.off))
		})
		d.folding.requests = b.requests
		if err == nil {
			err = unread
		}
		if err != nil {
			return err
		}
		if err := d.update(func(tx *bbolt.Tx) error { return b.store(tx, done, d.folding.damaged) }); err != nil {
			return err
		}
		moved := done.seq > d.folding.done.seq
		d.folding.done = done
		d.journal.forget(done)
		if moved {
			if err := removeFolded(d.dir, done.seq, d.folding.damaged); err != nil {
				d.problem(fmt.Errorf("a folded journal file can't be removed: %w", err))
			}
		}
	}
	return nil
}
