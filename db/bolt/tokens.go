package bolt

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"tokenhub/db"
)

// tokenTable holds all admin tokens in memory.
type tokenTable struct {
	// mu guards byID.
	mu   sync.RWMutex
	byID map[string]*tokenEntry
}

// tokenEntry is one token. Entries are never removed.
type tokenEntry struct {
	token atomic.Pointer[db.Token]
	used  lastUse
}

// live returns the record with the time of its last use.
func (e *tokenEntry) live() *db.Token {
	t := e.token.Load().Clone()
	t.LastUsedAt = e.used.time()
	return t
}

// load reads all tokens from the file.
func (t *tokenTable) load(tx *bbolt.Tx) error {
	t.byID = map[string]*tokenEntry{}
	used := tx.Bucket([]byte(bucketUsed))
	return eachJSON(tx, bucketTokens, func(tok *db.Token) {
		e := &tokenEntry{}
		e.token.Store(tok)
		e.used.load(used, tok.ID)
		t.byID[tok.ID] = e
	})
}

// entry returns the token's entry, nil if there is none.
func (t *tokenTable) entry(id string) *tokenEntry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

// all returns the entries in no order.
func (t *tokenTable) all() []*tokenEntry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]*tokenEntry, 0, len(t.byID))
	for _, e := range t.byID {
		list = append(list, e)
	}
	return list
}

// Token implements [db.Tokens].
func (d *DB) Token(ctx context.Context, id string) (*db.Token, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e := d.tokens.entry(id)
	if e == nil {
		return nil, db.ErrNotFound
	}
	return e.live(), nil
}

// AllTokens implements [db.Tokens].
func (d *DB) AllTokens(ctx context.Context) ([]*db.Token, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries := d.tokens.all()
	list := make([]*db.Token, len(entries))
	for i, e := range entries {
		list[i] = e.live()
	}
	slices.SortFunc(list, func(a, b *db.Token) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})
	return list, nil
}

// PutToken implements [db.Tokens].
func (d *DB) PutToken(ctx context.Context, t *db.Token, a db.Audit) (*db.Token, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.change.Lock()
	defer d.change.Unlock()
	e := d.tokens.entry(t.ID)
	var stored uint64
	if e != nil {
		stored = e.token.Load().Revision
	}
	if err := checkRevision("token "+t.ID, t.Revision, stored); err != nil {
		return nil, err
	}
	next, err := decoded(t)
	if err != nil {
		return nil, err
	}
	next.Revision = stored + 1
	next.LastUsedAt = time.Time{} // kept apart, see lastUse
	err = d.update(func(tx *bbolt.Tx) error {
		if err := putJSON(tx, bucketTokens, []byte(t.ID), next); err != nil {
			return err
		}
		return d.putAudit(tx, a)
	})
	if err != nil {
		return nil, fmt.Errorf("write token %s: %w", t.ID, err)
	}
	if e == nil {
		e = &tokenEntry{}
		e.token.Store(next)
		d.tokens.mu.Lock()
		d.tokens.byID[t.ID] = e
		d.tokens.mu.Unlock()
	} else {
		e.token.Store(next)
	}
	return e.live(), nil
}

// TouchToken implements [db.Tokens].
func (d *DB) TouchToken(id string, t time.Time) {
	if e := d.tokens.entry(id); e != nil {
		e.used.touch(t)
	}
}
