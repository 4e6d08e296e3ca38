package dbtest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"tokenhub/db"
)

// Options say how a [Mem] behaves; the zero value is a fine engine.
type Options struct {
	// Zone is where days and months of limits begin; nil means UTC.
	Zone *time.Location
	// Now stamps audit entries that bear no time; nil means time.Now.
	Now func() time.Time
}

// Mem is the reference engine: everything in slices, each sum computed anew when
// it is asked for. See [Memory].
type Mem struct {
	zone *time.Location
	now  func() time.Time

	// change is held by whoever writes a key, until its watchers were told.
	change sync.Mutex

	// mu guards the rest.
	mu      sync.Mutex
	data    data
	failing error
	// holds are the running reservations, in the order in which they were made.
	holds  []db.Reservation
	lastID uint64
	// opened is the number of settlements before the last Reopen: limits per
	// minute do not know them.
	opened int

	keyWatchers   watchers[*db.Key]
	usageWatchers watchers[standing]
}

// data is what outlives a restart.
type data struct {
	Keys      map[string]*db.Key
	KeyUsed   map[string]time.Time
	Tokens    map[string]*db.Token
	TokenUsed map[string]time.Time
	Settings  map[string]string
	Audit     []db.Audit
	Lines     []line
	// Names are the models that a provider answered.
	Names map[string]bool
}

// line is one settlement or note.
type line struct {
	Record db.Record
	// Charged says that it counts in the limits, in the windows of Time.
	Charged bool
	Time    time.Time
	// Model and Served are the names in the roll-ups.
	Model, Served string
}

var _ db.Store = (*Mem)(nil)

// Memory returns an empty reference engine. It is the fake for tests of what
// stands on a store, and the oracle for tests of other engines.
//
//	store := dbtest.Memory(dbtest.Options{})
//	store.PutKey(ctx, &db.Key{ID: "0123456789", Name: "ci", Endpoints: db.Inference}, db.Audit{Action: "key.create"})
//	...
//	store.Records() // what was settled and noted
//	store.Holds()   // what nobody has settled or released yet
//	store.FailWrites(io.ErrShortWrite)
func Memory(o Options) *Mem {
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Mem{zone: o.Zone, now: o.Now, data: data{
		Keys: map[string]*db.Key{}, KeyUsed: map[string]time.Time{},
		Tokens: map[string]*db.Token{}, TokenUsed: map[string]time.Time{},
		Settings: map[string]string{}, Names: map[string]bool{},
	}}
}

// OpenMemory returns an engine with the data of a backup that [Mem.Backup] wrote.
func OpenMemory(backup io.Reader, o Options) (*Mem, error) {
	m := Memory(o)
	if err := json.NewDecoder(backup).Decode(&m.data); err != nil {
		return nil, fmt.Errorf("read backup: %w", err)
	}
	m.opened = len(m.data.Lines)
	return m, nil
}

// Records returns what was settled and noted, in that order.
func (m *Mem) Records() []db.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	recs := make([]db.Record, len(m.data.Lines))
	for i, l := range m.data.Lines {
		recs[i] = l.Record
	}
	return recs
}

// Holds returns the reservations that were neither settled nor released, the
// oldest first.
func (m *Mem) Holds() []db.Reservation {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.holds)
}

// FailWrites makes all writes fail with [db.ErrStorage] and err, as if the disk
// were full, until it is called with nil.
func (m *Mem) FailWrites(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failing = err
}

// Reopen does what a restart does: reservations are gone, minutes begin anew.
func (m *Mem) Reopen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holds = nil
	m.opened = len(m.data.Lines)
}

// Ready implements [db.Store].
func (m *Mem) Ready(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writable(ctx)
}

// Backup implements [db.Store]; what it writes is for [OpenMemory].
func (m *Mem) Backup(ctx context.Context, w io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	b, err := json.Marshal(&m.data)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// writable reports why nothing can be written. mu is held.
func (m *Mem) writable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.failing != nil {
		return fmt.Errorf("%w: %w", db.ErrStorage, m.failing)
	}
	return nil
}

// checkRevision compares the revision that was sent with the stored one, which
// is 0 when there is no record.
func checkRevision(sent, stored uint64) error {
	switch {
	case sent == 0 && stored != 0:
		return db.ErrExists
	case sent != 0 && stored == 0:
		return db.ErrNotFound
	case sent != stored:
		return fmt.Errorf("%w: revision %d is now %d", db.ErrConflict, sent, stored)
	}
	return nil
}

// page returns how long a page is when limit was asked for.
func page(limit int) int {
	if limit <= 0 {
		limit = 100
	}
	return min(limit, 500)
}

// newest orders records by the time they were made and then by ID, the newest first.
func newest(aTime, bTime time.Time, aID, bID string) int {
	return cmp.Or(bTime.Compare(aTime), cmp.Compare(bID, aID))
}

// watchers are functions that want to hear of something.
type watchers[T any] struct {
	// mu guards fns. It is not held while they run.
	mu  sync.Mutex
	fns []*func(T)
}

func (w *watchers[T]) add(fn func(T)) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fns = append(w.fns, &fn)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.fns = slices.DeleteFunc(slices.Clone(w.fns), func(f *func(T)) bool { return f == &fn })
	}
}

func (w *watchers[T]) tell(v T) {
	w.mu.Lock()
	fns := slices.Clone(w.fns)
	w.mu.Unlock()
	for _, fn := range fns {
		(*fn)(v)
	}
}
