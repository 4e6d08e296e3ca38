package ui

import (
	"context"
	"errors"
	"strings"

	"tokenhub/db"
)

// findKey returns the key that a caller means: by its ID, its prefix, or a name
// that is unique. A name that only one living key has means that one, also when
// revoked keys had it before.
func (a *Admin) findKey(ctx context.Context, text string) (*db.Key, error) {
	id := strings.TrimPrefix(text, "th-")
	k, err := a.store.Key(ctx, id)
	if !errors.Is(err, db.ErrNotFound) {
		return k, err
	}
	all, err := a.store.AllKeys(ctx)
	if err != nil {
		return nil, err
	}
	return pick(all, "key", text,
		func(k *db.Key) (id, name string) { return k.ID, k.Name },
		func(k *db.Key) bool { return k.RevokedAt.IsZero() })
}

// findToken returns the admin token that a caller means, by the rules of findKey.
func (a *Admin) findToken(ctx context.Context, text string) (*db.Token, error) {
	id := strings.TrimPrefix(text, "tha-")
	t, err := a.store.Token(ctx, id)
	if !errors.Is(err, db.ErrNotFound) {
		return t, err
	}
	all, err := a.store.AllTokens(ctx)
	if err != nil {
		return nil, err
	}
	return pick(all, "admin token", text,
		func(t *db.Token) (id, name string) { return t.ID, t.Name },
		func(t *db.Token) bool { return t.RevokedAt.IsZero() })
}

// pick returns the one entry of all that bears the name.
func pick[T any](all []T, what, name string, label func(T) (id, name string), living func(T) bool) (T, error) {
	var alive, dead []T
	for _, v := range all {
		if _, n := label(v); n != name {
			continue
		}
		if living(v) {
			alive = append(alive, v)
		} else {
			dead = append(dead, v)
		}
	}
	found := alive
	if len(alive) == 0 {
		found = dead
	}
	switch len(found) {
	case 0:
		var none T
		return none, errMissing("There is no %s with this ID, prefix or name.", what)
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, v := range found {
		id, _ := label(v)
		if len(ids) == 10 {
			ids = append(ids, "...")
			break
		}
		ids = append(ids, id)
	}
	var none T
	return none, errConflict("%d of them are named %s: use an ID instead (%s).", len(found), quote(name), strings.Join(ids, ", "))
}
