package dbtest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"tokenhub/db"
)

// Key implements [db.Keys].
func (m *Mem) Key(ctx context.Context, id string) (*db.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.data.Keys[id]
	if !ok {
		return nil, fmt.Errorf("key %s: %w", id, db.ErrNotFound)
	}
	return k, nil
}

// AllKeys implements [db.Keys].
func (m *Mem) AllKeys(ctx context.Context) ([]*db.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []*db.Key
	for _, k := range m.data.Keys {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b *db.Key) int { return newest(a.CreatedAt, b.CreatedAt, a.ID, b.ID) })
	return keys, nil
}

// PutKey implements [db.Keys].
func (m *Mem) PutKey(ctx context.Context, k *db.Key, a db.Audit) (*db.Key, error) {
	m.change.Lock()
	defer m.change.Unlock()
	stored, err := m.putKey(ctx, k, a)
	if err != nil {
		return nil, fmt.Errorf("put key %s: %w", k.ID, err)
	}
	m.keyWatchers.tell(stored)
	return stored.Clone(), nil
}

func (m *Mem) putKey(ctx context.Context, k *db.Key, a db.Audit) (*db.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.writable(ctx); err != nil {
		return nil, err
	}
	var revision uint64
	if old := m.data.Keys[k.ID]; old != nil {
		revision = old.Revision
	}
	if err := checkRevision(k.Revision, revision); err != nil {
		return nil, err
	}
	stored := k.Clone()
	stored.Revision = revision + 1
	m.data.Keys[k.ID] = stored
	m.audit(a)
	return stored, nil
}

// TouchKey implements [db.Keys].
func (m *Mem) TouchKey(id string, t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	touch(m.data.KeyUsed, id, t)
}

// LastUsed implements [db.Keys].
func (m *Mem) LastUsed(id string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data.KeyUsed[id]
}

// WatchKeys implements [db.Keys].
func (m *Mem) WatchKeys(fn func(*db.Key)) (stop func()) { return m.keyWatchers.add(fn) }

// Token implements [db.Tokens].
func (m *Mem) Token(ctx context.Context, id string) (*db.Token, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data.Tokens[id] == nil {
		return nil, fmt.Errorf("token %s: %w", id, db.ErrNotFound)
	}
	return m.token(id), nil
}

// token returns the record with its last use. mu is held.
func (m *Mem) token(id string) *db.Token {
	t := m.data.Tokens[id].Clone()
	t.LastUsedAt = m.data.TokenUsed[id]
	return t
}

// AllTokens implements [db.Tokens].
func (m *Mem) AllTokens(ctx context.Context) ([]*db.Token, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var tokens []*db.Token
	for id := range m.data.Tokens {
		tokens = append(tokens, m.token(id))
	}
	slices.SortFunc(tokens, func(a, b *db.Token) int { return newest(a.CreatedAt, b.CreatedAt, a.ID, b.ID) })
	return tokens, nil
}

// PutToken implements [db.Tokens].
func (m *Mem) PutToken(ctx context.Context, t *db.Token, a db.Audit) (*db.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.writable(ctx); err != nil {
		return nil, fmt.Errorf("put token %s: %w", t.ID, err)
	}
	var revision uint64
	if old := m.data.Tokens[t.ID]; old != nil {
		revision = old.Revision
	}
	if err := checkRevision(t.Revision, revision); err != nil {
		return nil, fmt.Errorf("put token %s: %w", t.ID, err)
	}
	stored := t.Clone()
	stored.Revision = revision + 1
	m.data.Tokens[t.ID] = stored
	m.audit(a)
	return m.token(t.ID), nil
}

// TouchToken implements [db.Tokens].
func (m *Mem) TouchToken(id string, t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	touch(m.data.TokenUsed, id, t)
}

// Setting implements [db.Settings].
func (m *Mem) Setting(ctx context.Context, name string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok := m.data.Settings[name]
	if !ok {
		return "", fmt.Errorf("setting %s: %w", name, db.ErrNotFound)
	}
	return value, nil
}

// PutSetting implements [db.Settings].
func (m *Mem) PutSetting(ctx context.Context, name, value string, a db.Audit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.writable(ctx); err != nil {
		return fmt.Errorf("put setting %s: %w", name, err)
	}
	if value == "" {
		delete(m.data.Settings, name)
	} else {
		m.data.Settings[name] = value
	}
	m.audit(a)
	return nil
}

// AddAudit implements [db.Reports].
func (m *Mem) AddAudit(ctx context.Context, a db.Audit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.writable(ctx); err != nil {
		return err
	}
	m.audit(a)
	return nil
}

// AuditLog implements [db.Reports].
func (m *Mem) AuditLog(ctx context.Context, q db.AuditQuery) (entries []db.Audit, next string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	before := ^uint64(0)
	if q.Before != "" {
		if before, err = strconv.ParseUint(q.Before, 10, 64); err != nil {
			return nil, "", fmt.Errorf("%q is not a cursor of the audit trail", q.Before)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range slices.Backward(m.data.Audit) {
		if a.ID >= before || q.Target != "" && a.Target != q.Target {
			continue
		}
		if len(entries) == page(q.Limit) {
			return entries, strconv.FormatUint(entries[len(entries)-1].ID, 10), nil
		}
		entries = append(entries, a)
	}
	return entries, "", nil
}

// audit appends an entry, if there is one. mu is held.
func (m *Mem) audit(a db.Audit) {
	if a.Action == "" {
		return
	}
	if a.Time.IsZero() {
		a.Time = m.now()
	}
	a.ID = uint64(len(m.data.Audit)) + 1
	m.data.Audit = append(m.data.Audit, a)
}

// touch notes a use; the newest one stays.
func touch(used map[string]time.Time, id string, t time.Time) {
	if t.After(used[id]) {
		used[id] = t
	}
}
