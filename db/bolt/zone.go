package bolt

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// SetZone changes where days and months of limits begin. What was used in the
// day and the month that it now is in zone is summed up from the roll-ups, so to
// the hour; where these do not reach back so far, nothing that counted in the old
// day or month is forgotten. Running reservations go on in the new windows. While
// it works, claims and settlements wait.
func (d *DB) SetZone(zone *time.Location) error {
	if zone == nil {
		zone = time.UTC
	}
	d.ledger.shift.Lock()
	defer d.ledger.shift.Unlock()
	if zone.String() == d.zone.Load().String() {
		return nil
	}
	d.journal.tryAgain()
	if err := d.journal.failure(); err != nil {
		return fmt.Errorf("change the time zone: %w: %w", db.ErrStorage, err)
	}
	if err := d.fold(); err != nil {
		return fmt.Errorf("change the time zone: %w: %w", db.ErrStorage, err)
	}
	if err := d.recount(d.zone.Load(), zone); err != nil {
		return fmt.Errorf("change the time zone: %w: %w", db.ErrStorage, err)
	}
	d.zone.Store(zone)
	w := windows{zone}
	return d.view(func(tx *bbolt.Tx) error {
		if err := d.shiftProviders(tx, w); err != nil {
			return err
		}
		return d.shiftKeys(tx, w)
	})
}

// shiftProviders makes the providers' months anew from the file; their holds
// follow in shiftKeys.
func (d *DB) shiftProviders(tx *bbolt.Tx, w windows) error {
	d.ledger.mu.RLock()
	for _, p := range d.ledger.providers {
		p.mu.Lock()
		p.months = series{}
		p.mu.Unlock()
	}
	d.ledger.mu.RUnlock()
	return eachCounters(tx, bucketProviders, func(name string, c *counters) {
		p := d.provider(name)
		p.mu.Lock()
		p.months.restore(c.months, w.month)
		p.mu.Unlock()
	})
}

// shiftKeys makes the days and months of all keys anew from the file, and enters
// what their running requests hold.
func (d *DB) shiftKeys(tx *bbolt.Tx, w windows) error {
	for _, e := range d.keys.all() {
		e.account.mu.Lock()
		e.account.day, e.account.month = series{}, series{}
		e.account.mu.Unlock()
	}
	err := eachCounters(tx, bucketCounters, func(id string, c *counters) {
		if e := d.keys.entry(id); e != nil {
			e.account.mu.Lock()
			e.account.day.restore(c.days, w.day)
			e.account.month.restore(c.months, w.month)
			e.account.mu.Unlock()
		}
	})
	if err != nil {
		return err
	}
	for _, e := range d.keys.all() {
		e.account.shift(w)
	}
	return nil
}

// shift moves the holds to the tallies of new windows.
func (a *account) shift(w windows) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, h := range a.holds {
		t := h.minute.window.Start
		h.day, h.month = a.day.at(t, w.day), a.month.at(t, w.month)
		for _, one := range []*tally{h.day, h.month} {
			one.requests++
			one.tokensHeld.add(h.tokens)
			one.costHeld.add(h.cost)
		}
		h.provider.mu.Lock()
		h.spent = h.provider.months.at(t, w.month)
		h.spent.costHeld.add(h.cost)
		h.provider.mu.Unlock()
		a.holds[id] = h
	}
}

// recountIfMoved recounts at Open when the file's windows are those of another
// zone; with keep that zone goes on to hold.
func (d *DB) recountIfMoved(keep bool) error {
	zone := d.zone.Load()
	var name string
	err := d.view(func(tx *bbolt.Tx) error {
		name = string(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaZone)))
		return nil
	})
	if err != nil || name == zone.String() {
		return err
	}
	stored, err := time.LoadLocation(name)
	if err != nil { // it is not known here
		stored, keep = time.UTC, false
	}
	if keep {
		d.zone.Store(stored)
		return nil
	}
	return d.recount(stored, zone)
}

// recount replaces the windows in the file, which are those of a zone, by those
// that it is in now in another one.
func (d *DB) recount(from, to *time.Location) error {
	now := d.now()
	old, w := windows{from}, windows{to}
	return d.update(func(tx *bbolt.Tx) error {
		first, _ := tx.Bucket([]byte(bucketRollups)).Cursor().First()
		oldest, there := dayOfName(first)
		// begin is a window without what was used in it.
		begin := func(is, was func(time.Time) db.Window) *recounted {
			start := is(now).Start.Unix()
			return &recounted{
				was: was, start: start, hour: floorDiv(start, secondsPerHour),
				complete: there && oldest <= floorDiv(start, secondsPerDay), sums: map[string]sum{},
			}
		}
		days, months, spends := begin(w.day, old.day), begin(w.month, old.month), begin(w.month, old.month)
		err := eachRollup(context.Background(), tx, min(days.hour, months.hour), 1<<40, "", func(r rawRow, sealed []byte) error {
			value, err := unseal(bucketRollups, r.key, sealed)
			if err != nil {
				return err
			}
			s, err := decodeSums(value)
			if err != nil {
				return err
			}
			days.add(r.hour, r.key, s)
			months.add(r.hour, r.key, s)
			spends.add(r.hour, r.provider, s)
			return nil
		})
		if err != nil {
			return err
		}
		err = replaceWindows(tx, bucketCounters, func(name string, c *counters) {
			c.days, c.months = days.of(name, c.days), months.of(name, c.months)
		})
		if err != nil {
			return err
		}
		err = replaceWindows(tx, bucketProviders, func(name string, c *counters) {
			c.days, c.months = nil, spends.of(name, c.months)
		})
		if err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaZone), []byte(to.String()))
	})
}

// recounted is what was used in a window of the new zone, by key or provider.
type recounted struct {
	// start is where the window begins, in Unix seconds, and hour the row of the
	// roll-ups that this lies in.
	start, hour int64
	// was is the window of the old zone at a time.
	was func(time.Time) db.Window
	// complete says that there are roll-ups of all of it.
	complete bool
	sums     map[string]sum
}

// add counts a row. One that start lies within counts as a whole: a limit had
// better hold too early than be passed.
func (r *recounted) add(hour int64, name []byte, s db.Sums) {
	if hour >= r.hour {
		x := r.sums[string(name)]
		r.sums[string(name)] = sum{r.start, x.requests + s.Requests, plus(x.tokens, s.Usage.Tokens()), plus(x.cost, s.Cost)}
	}
}

// of returns the windows of one key or provider. Where roll-ups are gone, what it
// used in an old window that reaches into the new one is the least.
func (r *recounted) of(name string, old []sum) []sum {
	x, found := r.sums[name]
	if !r.complete {
		for _, o := range old {
			if r.was(time.Unix(o.start, 0)).End.Unix() > r.start {
				x, found = sum{r.start, max(x.requests, o.requests), max(x.tokens, o.tokens), max(x.cost, o.cost)}, true
			}
		}
	}
	if !found {
		return nil
	}
	return []sum{x}
}

// replaceWindows has fn change the windows of all counters of a bucket; the
// totals stay.
func replaceWindows(tx *bbolt.Tx, bucket string, fn func(name string, c *counters)) error {
	all := map[string]*counters{}
	err := eachCounters(tx, bucket, func(name string, c *counters) {
		fn(name, c)
		all[name] = c
	})
	if err != nil {
		return err
	}
	for name, c := range all {
		if err := tx.Bucket([]byte(bucket)).Put(nameKey(name), seal(c.encode())); err != nil {
			return err
		}
	}
	return nil
}
