package ui

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/db"
)

// maxSecrets is how many secrets may open a key at once: the current one, and
// older ones in their grace. Each costs work for every wrong guess.
const maxSecrets = 5

func (a *Admin) listKeys(r *request) error {
	query, err := r.query("status", "search", "cursor", "before", "limit")
	if err != nil {
		return err
	}
	cursor, limit, err := parsePage(query)
	if err != nil {
		return err
	}
	status, err := parseKeyStatus(query["status"])
	if err != nil {
		return err
	}
	found, err := a.selectKeys(r.ctx, keyFilter{status: status, search: query["search"], cursor: cursor})
	if err != nil {
		return err
	}
	keys, next, err := cut(found, keyID, "", limit)
	if err != nil {
		return err
	}
	views := make([]*keyView, len(keys))
	for i, k := range keys {
		if views[i], err = a.viewKey(r.ctx, k); err != nil {
			return err
		}
	}
	return r.json(200, newPage(views, next))
}

// keyFilter selects keys.
type keyFilter struct {
	// status keeps keys of one status, empty = all.
	status db.Status
	// search is a text that must stand in the name, prefix or a tag; empty = all.
	search string
	// cursor is the ID of the key behind which the selection begins.
	cursor string
}

// selectKeys returns the keys of a selection, the newest first.
func (a *Admin) selectKeys(ctx context.Context, f keyFilter) ([]*db.Key, error) {
	all, err := a.store.AllKeys(ctx)
	if err != nil {
		return nil, err
	}
	// The cursor is looked up in the whole list, so that it holds when the key it
	// names has left the filter meanwhile.
	rest, _, err := cut(all, keyID, f.cursor, len(all))
	if err != nil {
		return nil, err
	}
	now, search := a.now(), strings.ToLower(f.search)
	return slices.DeleteFunc(rest, func(k *db.Key) bool {
		return f.status != "" && k.StatusAt(now) != f.status || search != "" && !matches(k, search)
	}), nil
}

func keyID(k *db.Key) string { return k.ID }

// statuses are what a key can be.
var statuses = []db.Status{db.Active, db.Disabled, db.Expired, db.Revoked}

func parseKeyStatus(text string) (db.Status, error) {
	status := db.Status(text)
	if status != "" && !slices.Contains(statuses, status) {
		return "", errInvalid("\"status\" must be active, disabled, expired or revoked.")
	}
	return status, nil
}

// matches reports whether text, which is in lower case, stands in the key's name,
// prefix or a tag, in any case of their letters.
func matches(k *db.Key, text string) bool {
	in := func(s string) bool { return strings.Contains(strings.ToLower(s), text) }
	return in(k.Name) || in(k.Prefix()) || slices.ContainsFunc(k.Tags, in)
}

func (a *Admin) showKey(r *request) error {
	k, err := a.findKey(r.ctx, r.param("id"))
	if err != nil {
		return err
	}
	return a.answerKey(r, 200, k, "")
}

// answerKey answers with a key; text is its secret, where that is shown.
func (a *Admin) answerKey(r *request, status int, k *db.Key, text string) error {
	view, err := a.viewKey(r.ctx, k)
	if err != nil {
		return err
	}
	view.Key = text
	return r.json(status, view)
}

func (a *Admin) createKey(r *request) error {
	body, err := readBody(r.c)
	if err != nil {
		return err
	}
	edit, err := newKeyEdit(body, a.now(), a.config())
	if err != nil {
		return err
	}
	if edit.revision != 0 {
		return errInvalid("\"revision\" can't be set on a new key: leave it out.")
	}
	k, text, err := a.makeKey(r, edit)
	if err != nil {
		return err
	}
	return a.answerKey(r, 201, k, text)
}

// newKey is what an edit makes a key from.
func (e *keyEdit) newKey() *db.Key {
	return &db.Key{CreatedAt: stamp(e.now), Endpoints: db.Inference}
}

// makeKey makes a key and returns it with its text.
func (a *Admin) makeKey(r *request, edit *keyEdit) (_ *db.Key, text string, err error) {
	k := edit.newKey()
	if err := edit.apply(k); err != nil {
		return nil, "", err
	}
	if k.Name == "" {
		return nil, "", errInvalid("\"name\" is needed: 1 to 100 characters.")
	}
	if !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(edit.now) {
		return nil, "", errInvalid("\"expires_at\" is in the past: the key would never work.")
	}
	text, id, phc, err := a.mint(auth.Key)
	if err != nil {
		return nil, "", err
	}
	k.ID, k.Secrets = id, []db.Secret{{PHC: phc}}
	entry := r.audit(edit.now, "key.create", k.ID, k.Name)
	_, entry.After = changes(nil, viewFields(k))
	k, err = a.store.PutKey(r.ctx, k, entry)
	return k, text, err
}

func (a *Admin) updateKey(r *request) error {
	body, err := readBody(r.c)
	if err != nil {
		return err
	}
	edit, err := newKeyEdit(body, a.now(), a.config())
	if err != nil {
		return err
	}
	k, err := a.editKey(r, r.param("id"), edit)
	if err != nil {
		return err
	}
	return a.answerKey(r, 200, k, "")
}

// editKey makes an edit of the key that the caller means by id.
func (a *Admin) editKey(r *request, id string, edit *keyEdit) (*db.Key, error) {
	return a.changeKey(r, id, edit.revision, func(k *db.Key) (db.Audit, error) {
		was := viewFields(k)
		if err := edit.apply(k); err != nil {
			return db.Audit{}, err
		}
		entry := r.audit(edit.now, "key.update", k.ID, k.Name)
		entry.Before, entry.After = changes(was, viewFields(k))
		return entry, nil
	})
}

func (a *Admin) revokeKey(r *request) error {
	k, err := a.endKey(r, r.param("id"))
	if err != nil {
		return err
	}
	return a.answerKey(r, 200, k, "")
}

// endKey revokes the key that the caller means by text, if it is not revoked yet.
func (a *Admin) endKey(r *request, text string) (*db.Key, error) {
	k, err := a.findKey(r.ctx, text)
	if err != nil || !k.RevokedAt.IsZero() {
		return k, err
	}
	now, id := a.now(), k.ID
	k, err = a.changeKey(r, id, 0, func(k *db.Key) (db.Audit, error) {
		entry := r.audit(now, "key.revoke", k.ID, k.Name)
		entry.Before = encode(map[string]any{"status": k.StatusAt(now)})
		entry.After = encode(map[string]any{"status": db.Revoked})
		k.RevokedAt = stamp(now)
		k.Secrets = nil
		return entry, nil
	})
	if errors.Is(err, errRevoked) { // by somebody else, in this moment
		return a.store.Key(r.ctx, id)
	}
	return k, err
}

func (a *Admin) rotateKey(r *request) error {
	grace, revision, err := parseRotate(r)
	if err != nil {
		return err
	}
	k, text, err := a.renewKey(r, r.param("id"), grace, revision)
	if err != nil {
		return err
	}
	return a.answerKey(r, 200, k, text)
}

// renewKey rotates the secret of the key that the caller means by id, and returns
// the key with its new text.
func (a *Admin) renewKey(r *request, id string, grace time.Duration, revision uint64) (_ *db.Key, text string, err error) {
	now := a.now()
	found, err := a.changeable(r.ctx, id, revision)
	if err != nil {
		return nil, "", err
	}
	text, phc, err := a.renew(found.ID)
	if err != nil {
		return nil, "", err
	}
	k, err := a.changeKey(r, found.ID, revision, func(k *db.Key) (db.Audit, error) {
		old, err := keepOld(k.Secrets, now, grace)
		if err != nil {
			return db.Audit{}, err
		}
		k.Secrets = append([]db.Secret{{PHC: phc}}, old...)
		entry := r.audit(now, "key.rotate", k.ID, k.Name)
		entry.After = encode(map[string]any{"grace": config.FormatDuration(grace)})
		return entry, nil
	})
	if err == nil && a.renewed != nil {
		a.renewed(text, phc)
	}
	return k, text, err
}

// errRevoked is in the way of each change of a revoked key.
var errRevoked = errConflict("This key is revoked, which is final: create a new one.")

// changeable returns the key that a caller means, if it may be changed.
func (a *Admin) changeable(ctx context.Context, text string, revision uint64) (*db.Key, error) {
	k, err := a.findKey(ctx, text)
	switch {
	case err != nil:
		return nil, err
	case !k.RevokedAt.IsZero():
		return nil, errRevoked
	case revision != 0 && revision != k.Revision:
		return nil, errConflict("The key was changed meanwhile: its revision is %d. Read it again and repeat the change.", k.Revision)
	}
	return k, nil
}

// changeKey changes the key that the caller means by text. Without a revision of the
// caller's the change is made again on the newer record when somebody else was
// quicker. A change that changes nothing is not written.
func (a *Admin) changeKey(r *request, text string, revision uint64, change func(*db.Key) (db.Audit, error)) (*db.Key, error) {
	for {
		found, err := a.changeable(r.ctx, text, revision)
		if err != nil {
			return nil, err
		}
		k := found.Clone()
		entry, err := change(k)
		if err != nil {
			return nil, err
		}
		if entry.Before == "" && entry.After == "" {
			return found, nil
		}
		now := a.now()
		k.Secrets = slices.DeleteFunc(k.Secrets, func(s db.Secret) bool { return !s.LiveAt(now) })
		stored, err := a.store.PutKey(r.ctx, k, entry)
		if errors.Is(err, db.ErrConflict) && r.ctx.Err() == nil {
			continue // changeable finds an old revision of the caller's
		}
		return stored, err
	}
}
