package ui

import (
	"time"

	"tokenhub/auth"
	"tokenhub/db"
)

// mint makes the text of a key or token, and the hash that is kept of it.
func (a *Admin) mint(kind auth.Kind) (text, id, phc string, err error) {
	if text, id, err = auth.Mint(kind); err != nil {
		return "", "", "", err
	}
	phc, err = a.hash(text)
	return text, id, phc, err
}

// renew makes a new secret for a key that exists.
func (a *Admin) renew(id string) (text, phc string, err error) {
	if text, err = auth.Renew(auth.Key, id); err != nil {
		return "", "", err
	}
	phc, err = a.hash(text)
	return text, phc, err
}

func (a *Admin) hash(text string) (string, error) {
	a.hashing.Lock()
	defer a.hashing.Unlock()
	return auth.Hash(text)
}

// stamp is a moment as it is kept: UTC, in milliseconds.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// parseRotate reads the body of a rotation.
func parseRotate(r *request) (grace time.Duration, revision uint64, err error) {
	body, err := readBody(r.c)
	if err != nil {
		return 0, 0, err
	}
	fields, err := parseObject(body, "")
	if err != nil {
		return 0, 0, err
	}
	for _, f := range fields {
		switch {
		case f.name == "revision":
			revision, err = parseRevision(f)
		case f.name != "grace":
			err = errInvalid("A rotation has no field %s, only \"grace\" and \"revision\".", quote(f.name))
		case !f.isNull():
			var text string
			if text, err = f.text(); err == nil {
				grace, err = parseGrace(text)
			}
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return grace, revision, nil
}

// keepOld returns what is left of a key's secrets after a rotation: none without
// a grace, and no older secret lives longer than this grace allows.
func keepOld(secrets []db.Secret, now time.Time, grace time.Duration) ([]db.Secret, error) {
	if grace == 0 {
		return nil, nil
	}
	until := stamp(now.Add(grace))
	var old []db.Secret
	for _, s := range secrets {
		if !s.LiveAt(now) {
			continue
		}
		if s.Until.IsZero() || s.Until.After(until) {
			s.Until = until
		}
		old = append(old, s)
	}
	if len(old) >= maxSecrets {
		return nil, errConflict("%d older secrets of this key are still in their grace. Wait for one to end, or rotate without a grace, which ends them all.", len(old)-1)
	}
	return old, nil
}
