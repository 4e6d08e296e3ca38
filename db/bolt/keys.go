package bolt

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// keyTable holds all keys in memory.
type keyTable struct {
	// mu guards byID; what its entries hold has locks of its own.
	mu   sync.RWMutex
	byID map[string]*keyEntry

	watch watchers[*db.Key]
}

// keyEntry is one key and what belongs to it. Entries are never removed.
type keyEntry struct {
	key     atomic.Pointer[db.Key]
	used    lastUse
	account account
}

// load reads all keys from the file.
func (t *keyTable) load(tx *bbolt.Tx) error {
	t.byID = map[string]*keyEntry{}
	used := tx.Bucket([]byte(bucketUsed))
	return eachJSON(tx, bucketKeys, func(k *db.Key) {
		e := &keyEntry{}
		e.key.Store(k)
		e.used.load(used, k.ID)
		t.byID[k.ID] = e
	})
}

// entry returns the key's entry, nil if there is none.
func (t *keyTable) entry(id string) *keyEntry {
	t.mu.RLock()
	e := t.byID[id]
	t.mu.RUnlock()
	return e
}

// all returns the entries in no order.
func (t *keyTable) all() []*keyEntry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]*keyEntry, 0, len(t.byID))
	for _, e := range t.byID {
		list = append(list, e)
	}
	return list
}

// Key implements [db.Keys].
func (d *DB) Key(ctx context.Context, id string) (*db.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e := d.keys.entry(id)
	if e == nil {
		return nil, db.ErrNotFound
	}
	return e.key.Load(), nil
}

// AllKeys implements [db.Keys].
func (d *DB) AllKeys(ctx context.Context) ([]*db.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries := d.keys.all()
	list := make([]*db.Key, len(entries))
	for i, e := range entries {
		list[i] = e.key.Load()
	}
	slices.SortFunc(list, func(a, b *db.Key) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})
	return list, nil
}

// PutKey implements [db.Keys].
func (d *DB) PutKey(ctx context.Context, k *db.Key, a db.Audit) (*db.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.change.Lock()
	defer d.change.Unlock()
	e := d.keys.entry(k.ID)
	var stored uint64
	if e != nil {
		stored = e.key.Load().Revision
	}
	if err := checkRevision("key "+k.ID, k.Revision, stored); err != nil {
		return nil, err
	}
	// The record in memory is what the file will give after a restart, to the bit.
	next, err := decoded(k)
	if err != nil {
		return nil, err
	}
	next.Revision = stored + 1
	err = d.update(func(tx *bbolt.Tx) error {
		if err := putJSON(tx, bucketKeys, []byte(k.ID), next); err != nil {
			return err
		}
		return d.putAudit(tx, a)
	})
	if err != nil {
		return nil, fmt.Errorf("write key %s: %w", k.ID, err)
	}
	if e == nil {
		e = &keyEntry{}
		e.key.Store(next)
		d.keys.mu.Lock()
		d.keys.byID[k.ID] = e
		d.keys.mu.Unlock()
	} else {
		e.key.Store(next)
	}
	d.keys.watch.tell(next)
	return next.Clone(), nil
}

// WatchKeys implements [db.Keys].
func (d *DB) WatchKeys(fn func(*db.Key)) (stop func()) { return d.keys.watch.add(fn) }

// TouchKey implements [db.Keys].
func (d *DB) TouchKey(id string, t time.Time) {
	if e := d.keys.entry(id); e != nil {
		e.used.touch(t)
	}
}

// LastUsed implements [db.Keys].
func (d *DB) LastUsed(id string) time.Time {
	if e := d.keys.entry(id); e != nil {
		return e.used.time()
	}
	return time.Time{}
}

// checkRevision decides what a write with revision sent may do to a record that
// has the revision stored; 0 means that there is none.
func checkRevision(what string, sent, stored uint64) error {
	switch {
	case sent == stored:
		return nil
	case sent == 0:
		return fmt.Errorf("%s: %w", what, db.ErrExists)
	case stored == 0:
		return fmt.Errorf("%s: %w", what, db.ErrNotFound)
	}
	return fmt.Errorf("%s: %w (revision %d, sent %d)", what, db.ErrConflict, stored, sent)
}

// decoded returns v as it comes back from its JSON.
func decoded[T any](v *T) (*T, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	c := new(T)
	return c, json.Unmarshal(b, c)
}
