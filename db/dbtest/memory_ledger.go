package dbtest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"tokenhub/db"
)

// standing is what watchers of usage are told.
type standing struct {
	id  string
	use db.KeyUsage
}

// Reserve implements [db.Ledger].
func (m *Mem) Reserve(ctx context.Context, c db.Claim) (db.Reservation, error) {
	if err := ctx.Err(); err != nil {
		return db.Reservation{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.data.Keys[c.KeyID]
	if !ok {
		return db.Reservation{}, fmt.Errorf("key %s: %w", c.KeyID, db.ErrNotFound)
	}
	if k.Limits.Any() {
		if err := m.writable(ctx); err != nil {
			return db.Reservation{}, err
		}
	}
	before := slices.Clone(m.holds)
	_, replaces := m.take(c.KeyID, c.Replaces)
	stand := db.Standing{Key: m.keyUsage(c.KeyID, c.Time), Provider: m.providerUse(c.Provider, c.Time), Replaces: replaces}
	r, err := db.Decide(&k.Limits, &stand, &c)
	if err != nil {
		m.holds = before
		return db.Reservation{}, err
	}
	m.lastID++
	r.ID = m.lastID
	m.holds = append(m.holds, r)
	return r, nil
}

// take takes a hold of a key out and reports whether there was one. mu is held.
func (m *Mem) take(keyID string, id uint64) (db.Reservation, bool) {
	for i, h := range m.holds {
		if h.ID == id && h.KeyID == keyID {
			m.holds = slices.Delete(m.holds, i, i+1)
			return h, true
		}
	}
	return db.Reservation{}, false
}

// Settle implements [db.Ledger].
func (m *Mem) Settle(_ context.Context, r db.Reservation, rec *db.Record) error {
	use, first, err := m.settle(r, rec)
	if first {
		m.usageWatchers.tell(standing{r.KeyID, use})
	}
	if err != nil {
		return fmt.Errorf("settle %s: %w", rec.ID, err)
	}
	return nil
}

func (m *Mem) settle(r db.Reservation, rec *db.Record) (use db.KeyUsage, first bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.take(r.KeyID, r.ID)
	if !ok {
		return use, false, nil
	}
	l := line{Record: *rec, Charged: true, Time: h.Time}
	l.Record.KeyID = h.KeyID
	m.append(l)
	return m.keyUsage(r.KeyID, r.Time), true, m.writable(context.Background())
}

// Release implements [db.Ledger].
func (m *Mem) Release(_ context.Context, r db.Reservation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.take(r.KeyID, r.ID)
}

// Note implements [db.Ledger].
func (m *Mem) Note(_ context.Context, rec *db.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.append(line{Record: *rec})
	if err := m.writable(context.Background()); err != nil {
		return fmt.Errorf("note %s: %w", rec.ID, err)
	}
	return nil
}

// append enters a line under the names that the roll-ups give it. mu is held.
func (m *Mem) append(l line) {
	l.Record.Start = l.Record.Start.UTC().Round(0)
	l.Model, l.Served = l.Record.Model, l.Record.Served
	if l.Record.Status >= 200 && l.Record.Status <= 299 {
		m.data.Names[l.Model], m.data.Names[l.Served] = true, true
	}
	for _, name := range []*string{&l.Model, &l.Served} {
		if !m.data.Names[*name] {
			*name = db.OtherModel
		}
	}
	m.data.Lines = append(m.data.Lines, l)
}

// KeyUsage implements [db.Ledger].
func (m *Mem) KeyUsage(ctx context.Context, id string, t time.Time) (db.KeyUsage, error) {
	if err := ctx.Err(); err != nil {
		return db.KeyUsage{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data.Keys[id] == nil {
		return db.KeyUsage{}, fmt.Errorf("key %s: %w", id, db.ErrNotFound)
	}
	return m.keyUsage(id, t), nil
}

// ProviderSpend implements [db.Ledger].
func (m *Mem) ProviderSpend(_ context.Context, provider string, t time.Time) (spent, held int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	use := m.providerUse(provider, t)
	return use.Cost, use.HeldCost
}

// WatchUsage implements [db.Ledger].
func (m *Mem) WatchUsage(fn func(keyID string, u db.KeyUsage)) (stop func()) {
	return m.usageWatchers.add(func(s standing) { fn(s.id, s.use) })
}

// keyUsage adds up where a key stands at t. mu is held.
func (m *Mem) keyUsage(id string, t time.Time) db.KeyUsage {
	line := func(l *line) bool { return l.Record.KeyID == id }
	hold := func(h *db.Reservation) bool { return h.KeyID == id }
	u := db.KeyUsage{
		Minute: m.sum(m.opened, db.MinuteOf(t), line, hold),
		Day:    m.sum(0, db.DayOf(t, m.zone), line, hold),
		Month:  m.sum(0, db.MonthOf(t, m.zone), line, hold),
		Total:  m.sum(0, db.Window{}, line, hold),
	}
	for _, h := range m.holds {
		if h.KeyID == id {
			u.Running++
		}
	}
	return u
}

// providerUse adds up the month of t at a provider. mu is held.
func (m *Mem) providerUse(provider string, t time.Time) db.WindowUse {
	return m.sum(0, db.MonthOf(t, m.zone),
		func(l *line) bool { return l.Record.Provider == provider },
		func(h *db.Reservation) bool { return h.Provider == provider })
}

// sum adds up the charged lines from the first on, and the holds, that belong to
// w and are asked for. The zero window is all time. mu is held.
func (m *Mem) sum(first int, w db.Window, line func(*line) bool, hold func(*db.Reservation) bool) db.WindowUse {
	u := db.WindowUse{Resets: w.End}
	in := func(t time.Time) bool { return w == db.Window{} || w.Contains(t) }
	for i := range m.data.Lines[first:] {
		l := &m.data.Lines[first+i]
		if l.Charged && in(l.Time) && line(l) {
			tokens, cost := l.Record.Charge()
			u.Requests++
			u.Tokens = plus(u.Tokens, tokens)
			u.Cost = plus(u.Cost, cost)
		}
	}
	for i := range m.holds {
		h := &m.holds[i]
		if in(h.Time) && hold(h) {
			u.Requests++
			u.HeldTokens = plus(u.HeldTokens, h.Tokens)
			u.HeldCost = plus(u.HeldCost, h.Cost)
		}
	}
	return u
}

// plus adds without overflow.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
