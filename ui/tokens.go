package ui

import (
	"errors"

	"tokenhub/auth"
	"tokenhub/db"
)

// tokenView is an admin token on the wire.
type tokenView struct {
	ID         string    `json:"id"`
	Prefix     string    `json:"prefix"`
	Name       string    `json:"name"`
	Status     db.Status `json:"status"`
	ReadOnly   bool      `json:"read_only"`
	CreatedAt  moment    `json:"created_at"`
	LastUsedAt moment    `json:"last_used_at"`
	Revision   uint64    `json:"revision"`
	// Token is the text with the secret: in the answer to create only.
	Token string `json:"token,omitempty"`
}

func viewToken(t *db.Token) tokenView {
	status := db.Active
	if !t.RevokedAt.IsZero() {
		status = db.Revoked
	}
	return tokenView{
		ID: t.ID, Prefix: t.Prefix(), Name: t.Name, Status: status, ReadOnly: t.ReadOnly,
		CreatedAt: moment(t.CreatedAt), LastUsedAt: moment(t.LastUsedAt), Revision: t.Revision,
	}
}

func (a *Admin) listTokens(r *request) error {
	query, err := r.query("cursor", "before", "limit")
	if err != nil {
		return err
	}
	cursor, limit, err := parsePage(query)
	if err != nil {
		return err
	}
	all, err := a.store.AllTokens(r.ctx)
	if err != nil {
		return err
	}
	tokens, next, err := cut(all, func(t *db.Token) string { return t.ID }, cursor, limit)
	if err != nil {
		return err
	}
	views := make([]tokenView, len(tokens))
	for i, t := range tokens {
		views[i] = viewToken(t)
	}
	return r.json(200, newPage(views, next))
}

func (a *Admin) createToken(r *request) error {
	body, err := readBody(r.c)
	if err != nil {
		return err
	}
	fields, err := parseObject(body, "")
	if err != nil {
		return err
	}
	t, text, err := a.makeToken(r, fields)
	if err != nil {
		return err
	}
	view := viewToken(t)
	view.Token = text
	return r.json(201, view)
}

// makeToken makes an admin token and returns it with its text.
func (a *Admin) makeToken(r *request, fields []field) (_ *db.Token, text string, err error) {
	now := a.now()
	t := &db.Token{CreatedAt: stamp(now)}
	if err := editToken(t, fields); err != nil {
		return nil, "", err
	}
	text, id, phc, err := a.mint(auth.Token)
	if err != nil {
		return nil, "", err
	}
	t.ID, t.Secret = id, db.Secret{PHC: phc}
	entry := r.audit(now, "token.create", t.ID, t.Name)
	entry.After = encode(map[string]any{"name": t.Name, "read_only": t.ReadOnly})
	t, err = a.store.PutToken(r.ctx, t, entry)
	return t, text, err
}

// editToken sets the fields of a new token.
func editToken(t *db.Token, fields []field) (err error) {
	for _, f := range fields {
		switch {
		case f.name == "name":
			t.Name, err = parseName(f)
		case f.name != "read_only":
			err = errInvalid("An admin token has no field %s, only \"name\" and \"read_only\".", quote(f.name))
		case !f.isNull():
			t.ReadOnly, err = f.bool()
		}
		if err != nil {
			return err
		}
	}
	if t.Name == "" {
		return errInvalid("\"name\" is needed: 1 to 100 characters.")
	}
	return nil
}

func (a *Admin) revokeToken(r *request) error {
	t, err := a.endToken(r, r.param("id"))
	if err != nil {
		return err
	}
	return r.json(200, viewToken(t))
}

// endToken revokes the admin token that the caller means by text, if it is not
// revoked yet.
func (a *Admin) endToken(r *request, text string) (*db.Token, error) {
	for {
		found, err := a.findToken(r.ctx, text)
		if err != nil || !found.RevokedAt.IsZero() {
			return found, err
		}
		now := a.now()
		t := found.Clone()
		t.RevokedAt = stamp(now)
		entry := r.audit(now, "token.revoke", t.ID, t.Name)
		entry.Before = encode(map[string]any{"status": db.Active})
		entry.After = encode(map[string]any{"status": db.Revoked})
		stored, err := a.store.PutToken(r.ctx, t, entry)
		if errors.Is(err, db.ErrConflict) && r.ctx.Err() == nil {
			continue
		}
		return stored, err
	}
}
