package bolt

import (
	"sync"
	"time"

	"tokenhub/db"
)

// account is where one key stands: what it used, window by window, and what its
// running requests hold.
type account struct {
	// mu guards the rest. It is taken before a provider's and the journal's.
	mu                 sync.Mutex
	minute, day, month series
	total              tally
	holds              map[uint64]hold
}

// hold is what one reservation holds, and where.
type hold struct {
	tokens, cost       int64
	minute, day, month *tally
	provider           *spend
	spent              *tally // the provider's month
}

// each calls fn with the key's tallies that the hold is in.
func (h *hold) each(total *tally, fn func(*tally)) {
	fn(h.minute)
	fn(h.day)
	fn(h.month)
	fn(total)
}

// spend is what was spent at one provider, by month.
type spend struct {
	name string
	// mu guards months.
	mu     sync.Mutex
	months series
}

// restore takes over what the file knows of a key.
func (a *account) restore(c *counters, w windows) {
	a.day.restore(c.days, w.day)
	a.month.restore(c.months, w.month)
	a.total.requests, a.total.tokens, a.total.cost = c.total.requests, c.total.tokens, c.total.cost
}

// restore takes over the windows that the file knows.
func (s *series) restore(list []sum, window func(time.Time) db.Window) {
	for i, x := range list {
		s.list[i] = &tally{window: window(time.Unix(x.start, 0)), requests: x.requests, tokens: x.tokens, cost: x.cost}
	}
}

// usage tells where the key stands at t. mu is held.
func (a *account) usage(t time.Time, w windows) db.KeyUsage {
	return a.standing(a.minute.look(t, db.MinuteOf), a.day.look(t, w.day), a.month.look(t, w.month))
}

// standing tells where the key stands by the tallies of three windows.
func (a *account) standing(minute, day, month *tally) db.KeyUsage {
	return db.KeyUsage{Minute: minute.use(), Day: day.use(), Month: month.use(), Total: a.total.use(), Running: int64(len(a.holds))}
}

// take enters a hold. mu is held, and so is the lock of locked, the one provider
// whose spend may be touched.
func (a *account) take(id uint64, h hold, locked *spend) {
	if a.holds == nil {
		a.holds = map[uint64]hold{}
	}
	a.holds[id] = h
	h.each(&a.total, func(t *tally) {
		t.requests++
		t.tokensHeld.add(h.tokens)
		t.costHeld.add(h.cost)
	})
	if h.provider == locked {
		h.spent.costHeld.add(h.cost)
	}
}

// give takes a hold out again, as if it had never been. mu is held; locked is as
// in take, and another provider is to be freed with free.
func (a *account) give(id uint64, h hold, locked *spend) {
	delete(a.holds, id)
	h.each(&a.total, func(t *tally) {
		t.requests--
		t.tokensHeld.take(h.tokens)
		t.costHeld.take(h.cost)
	})
	if h.provider == locked {
		h.spent.costHeld.take(h.cost)
	}
}

// free gives back what h holds at its provider.
func (p *spend) free(h hold) {
	p.mu.Lock()
	h.spent.costHeld.take(h.cost)
	p.mu.Unlock()
}

// windows are the days and months of a zone.
type windows struct{ zone *time.Location }

func (w windows) day(t time.Time) db.Window   { return db.DayOf(t, w.zone) }
func (w windows) month(t time.Time) db.Window { return db.MonthOf(t, w.zone) }
