package bolt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// ledger holds the reservations and what was spent at providers; what a key used
// hangs on its entry in keyTable.
type ledger struct {
	lastID atomic.Uint64

	// shift is held for writing while the windows are made anew for another zone,
	// for reading by all that counts in windows.
	shift sync.RWMutex

	// mu guards providers.
	mu        sync.RWMutex
	providers map[string]*spend

	watch watchers[keyStanding]
}

// keyStanding is what watchers are told.
type keyStanding struct {
	id  string
	use db.KeyUsage
}

// loadCounters reads the counters from the file. The keys are loaded.
func (d *DB) loadCounters(tx *bbolt.Tx) error {
	w := windows{d.zone.Load()}
	d.ledger.providers = map[string]*spend{}
	err := eachCounters(tx, bucketProviders, func(name string, c *counters) {
		d.provider(name).months.restore(c.months, w.month)
	})
	if err != nil {
		return err
	}
	return eachCounters(tx, bucketCounters, func(id string, c *counters) {
		if e := d.keys.entry(id); e != nil {
			e.account.restore(c, w)
		}
	})
}

// eachCounters decodes all counters of a bucket.
func eachCounters(tx *bbolt.Tx, bucket string, fn func(id string, c *counters)) error {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		return fmt.Errorf("the bucket %s is missing from %s: %s", bucket, tx.DB().Path(), cure)
	}
	return b.ForEach(func(name, sealed []byte) error {
		value, err := unseal(bucket, name, sealed)
		if err != nil {
			return err
		}
		c, err := decodeCounters(value)
		if err != nil {
			return fmt.Errorf("%s of %q: %w", bucket, name, err)
		}
		fn(string(name[1:]), c)
		return nil
	})
}

// provider returns where a provider's spend is counted.
func (d *DB) provider(name string) *spend {
	l := &d.ledger
	l.mu.RLock()
	p := l.providers[name]
	l.mu.RUnlock()
	if p != nil {
		return p
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p = l.providers[name]; p == nil {
		p = &spend{name: strings.Clone(name)}
		l.providers[p.name] = p
	}
	return p
}

// Reserve implements [db.Ledger].
func (d *DB) Reserve(ctx context.Context, c db.Claim) (db.Reservation, error) {
	if err := ctx.Err(); err != nil {
		return db.Reservation{}, err
	}
	e := d.keys.entry(c.KeyID)
	if e == nil {
		return db.Reservation{}, fmt.Errorf("key %s: %w", c.KeyID, db.ErrNotFound)
	}
	p := d.provider(c.Provider)
	d.ledger.shift.RLock()
	defer d.ledger.shift.RUnlock()
	w := windows{d.zone.Load()}
	a := &e.account
	a.mu.Lock()
	defer a.mu.Unlock()
	// Under the lock, so that a limit that was lowered holds for each later claim.
	limits := e.key.Load().Limits
	if limits.Any() {
		if err := d.journal.failure(); err != nil {
			return db.Reservation{}, fmt.Errorf("%w: %w", db.ErrStorage, err)
		}
	}
	// Locks of two providers are never held at once.
	p.mu.Lock()
	// The earlier hold of the same request makes room first, and comes back when
	// the claim is refused; the locks hide that it was away.
	old, replaces := a.holds[c.Replaces]
	if replaces {
		a.give(c.Replaces, old, p)
	}
	minute, day, month, spent := a.minute.look(c.Time, db.MinuteOf), a.day.look(c.Time, w.day), a.month.look(c.Time, w.month), p.months.look(c.Time, w.month)
	// A request that goes on at another provider stays in its minute, which may be
	// long over, and is no clock that was set back.
	if replaces && old.minute.window.Contains(c.Time) {
		minute = old.minute
	}
	standing := db.Standing{Key: a.standing(minute, day, month), Provider: spent.use(), Replaces: replaces}
	r, err := db.Decide(&limits, &standing, &c)
	if err != nil {
		if replaces {
			a.take(c.Replaces, old, p)
		}
		p.mu.Unlock()
		return db.Reservation{}, err
	}
	h := hold{
		tokens: r.Tokens, cost: r.Cost,
		minute: a.minute.keep(minute), day: a.day.keep(day), month: a.month.keep(month),
		provider: p, spent: p.months.keep(spent),
	}
	r.ID = d.ledger.lastID.Add(1)
	a.take(r.ID, h, p)
	p.mu.Unlock()
	if replaces && old.provider != p {
		old.provider.free(old)
	}
	return r, nil
}

// Settle implements [db.Ledger].
func (d *DB) Settle(_ context.Context, r db.Reservation, rec *db.Record) error {
	e := d.keys.entry(r.KeyID)
	if e == nil {
		return fmt.Errorf("settle %s: key %s: %w", rec.ID, r.KeyID, db.ErrNotFound)
	}
	fresh, err := d.settle(&e.account, r, rec)
	if fresh {
		d.tellUsage(r.KeyID, &e.account, r.Time)
	}
	if err != nil {
		return fmt.Errorf("settle %s: %w: %w", rec.ID, db.ErrStorage, err)
	}
	return nil
}

// settle reports whether this was the first settlement of r, and why its record
// is not in the journal yet.
func (d *DB) settle(a *account, r db.Reservation, rec *db.Record) (fresh bool, err error) {
	d.ledger.shift.RLock()
	defer d.ledger.shift.RUnlock()
	one := newEntry(rec)
	one.charged = true
	one.rec.KeyID = r.KeyID
	tokens, cost := rec.Charge()

	a.mu.Lock()
	h, ok := a.holds[r.ID]
	if !ok {
		a.mu.Unlock()
		return false, nil // settled or released before
	}
	a.give(r.ID, h, nil)
	d.charge(rec.Provider, h, r.Time, cost)
	h.each(&a.total, func(t *tally) {
		t.requests++
		t.charge(tokens, cost)
	})
	one.day, one.month = h.day.window.Start.Unix(), h.month.window.Start.Unix()
	a.mu.Unlock()
	return true, d.journal.append(&one)
}

// charge frees the hold at its provider, and counts what was spent, which is
// nearly always there.
func (d *DB) charge(provider string, h hold, t time.Time, cost int64) {
	if provider != h.provider.name {
		h.provider.free(h)
		p := d.provider(provider)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.months.at(t, windows{d.zone.Load()}.month).charge(0, cost)
		return
	}
	h.provider.mu.Lock()
	defer h.provider.mu.Unlock()
	h.spent.costHeld.take(h.cost)
	h.spent.charge(0, cost)
}

// newEntry copies what the caller gave.
func newEntry(rec *db.Record) entry {
	e := entry{rec: *rec}
	for _, s := range [...]*string{&e.rec.ID, &e.rec.KeyID, &e.rec.Model, &e.rec.Served, &e.rec.Provider, &e.rec.Endpoint, &e.rec.Source, &e.rec.Error} {
		if len(*s) > maxText {
			*s = (*s)[:maxText] // as it would come back from the file
		}
	}
	e.rec.Start = e.rec.Start.UTC().Round(0)
	return e
}

// tellUsage tells the watchers where a key stands. No lock is held meanwhile, so
// that they may ask the store.
func (d *DB) tellUsage(id string, a *account, t time.Time) {
	if d.ledger.watch.none() {
		return
	}
	d.ledger.shift.RLock()
	a.mu.Lock()
	use := a.usage(t, windows{d.zone.Load()})
	a.mu.Unlock()
	d.ledger.shift.RUnlock()
	d.ledger.watch.tell(keyStanding{id, use})
}

// Release implements [db.Ledger].
func (d *DB) Release(_ context.Context, r db.Reservation) {
	e := d.keys.entry(r.KeyID)
	if e == nil {
		return
	}
	a := &e.account
	a.mu.Lock()
	defer a.mu.Unlock()
	if h, ok := a.holds[r.ID]; ok {
		a.give(r.ID, h, nil)
		h.provider.free(h)
	}
}

// Note implements [db.Ledger].
func (d *DB) Note(_ context.Context, rec *db.Record) error {
	one := newEntry(rec)
	if err := d.journal.append(&one); err != nil {
		return fmt.Errorf("note %s: %w: %w", rec.ID, db.ErrStorage, err)
	}
	return nil
}

// KeyUsage implements [db.Ledger].
func (d *DB) KeyUsage(ctx context.Context, id string, t time.Time) (db.KeyUsage, error) {
	if err := ctx.Err(); err != nil {
		return db.KeyUsage{}, err
	}
	e := d.keys.entry(id)
	if e == nil {
		return db.KeyUsage{}, fmt.Errorf("key %s: %w", id, db.ErrNotFound)
	}
	d.ledger.shift.RLock()
	defer d.ledger.shift.RUnlock()
	e.account.mu.Lock()
	defer e.account.mu.Unlock()
	return e.account.usage(t, windows{d.zone.Load()}), nil
}

// ProviderSpend implements [db.Ledger].
func (d *DB) ProviderSpend(_ context.Context, provider string, t time.Time) (spent, held int64) {
	d.ledger.mu.RLock()
	p := d.ledger.providers[provider]
	d.ledger.mu.RUnlock()
	if p == nil {
		return 0, 0
	}
	d.ledger.shift.RLock()
	defer d.ledger.shift.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.months.look(t, windows{d.zone.Load()}.month)
	return m.cost, m.costHeld.value()
}

// WatchUsage implements [db.Ledger].
func (d *DB) WatchUsage(fn func(keyID string, u db.KeyUsage)) (stop func()) {
	return d.ledger.watch.add(func(s keyStanding) { fn(s.id, s.use) })
}

// Ready implements [db.Store].
func (d *DB) Ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := errors.Join(d.journal.failure(), d.folding.failure()); err != nil {
		return fmt.Errorf("%w: %w", db.ErrStorage, err)
	}
	return nil
}
