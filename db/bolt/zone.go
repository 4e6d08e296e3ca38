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
// the hour; running reservations go on in the new windows. While it works,
// claims and settlements wait.
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
	if err := d.recount(zone); err != nil {
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

// recountIfMoved recounts at Open when the file's windows are those of another zone.
func (d *DB) recountIfMoved() error {
	zone := d.zone.Load()
	var stored string
	err := d.view(func(tx *bbolt.Tx) error {
		stored = string(tx.Bucket([]byte(bucketMeta)).Get([]byte(metaZone)))
		return nil
	})
	if err != nil || stored == zone.String() {
		return err
	}
	return d.recount(zone)
}

// recount replaces the windows in the file by those that it is in now in zone.
func (d *DB) recount(zone *time.Location) error {
	now := d.now()
	day, month := db.DayOf(now, zone).Start.Unix(), db.MonthOf(now, zone).Start.Unix()
	keyDays, keyMonths, providers := map[string]sum{}, map[string]sum{}, map[string]sum{}
	return d.update(func(tx *bbolt.Tx) error {
		add := func(m map[string]sum, name []byte, start int64, s db.Sums) {
			x := m[string(name)]
			m[string(name)] = sum{start, x.requests + s.Requests, plus(x.tokens, s.Usage.Tokens()), plus(x.cost, s.Cost)}
		}
		err := eachRollup(context.Background(), tx, floorDiv(month, secondsPerHour), 1<<40, "", func(r rawRow, sealed []byte) error {
			value, err := unseal(bucketRollups, r.key, sealed)
			if err != nil {
				return err
			}
			s, err := decodeSums(value)
			if err != nil {
				return err
			}
			if r.hour*secondsPerHour >= day {
				add(keyDays, r.key, day, s)
			}
			add(keyMonths, r.key, month, s)
			add(providers, r.provider, month, s)
			return nil
		})
		if err != nil {
			return err
		}
		if err := replaceWindows(tx, bucketCounters, keyDays, keyMonths); err != nil {
			return err
		}
		if err := replaceWindows(tx, bucketProviders, nil, providers); err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaZone), []byte(zone.String()))
	})
}

// replaceWindows writes new windows into all counters of a bucket; the totals stay.
func replaceWindows(tx *bbolt.Tx, bucket string, days, months map[string]sum) error {
	all := map[string]*counters{}
	err := eachCounters(tx, bucket, func(name string, c *counters) {
		c.days, c.months = nil, nil
		if s, ok := days[name]; ok {
			c.days = []sum{s}
		}
		if s, ok := months[name]; ok {
			c.months = []sum{s}
		}
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
