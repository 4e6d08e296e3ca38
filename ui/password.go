package ui

import (
	"errors"
	"fmt"
	"strings"

	"tokenhub/auth"
)

// errSignedIn is in the way of whoever sits down at a screen that was left open.
var errSignedIn = errDenied("Who is signed in changes the password under Settings, which asks for the current one. Programs use an admin token.")

// setPassword sets the admin password: a text, or its argon2id hash as a PHC
// string.
func (a *Admin) setPassword(r *request) error {
	if r.bySession {
		return errSignedIn
	}
	text, err := parsePassword(r)
	if err != nil {
		return err
	}
	if _, err := a.newPassword(r, text); err != nil {
		return err
	}
	return r.json(200, struct{}{})
}

// newPassword sets the admin password, and ends all sessions and the set-up link.
// It returns the generation of sessions that the password begins.
func (a *Admin) newPassword(r *request, text string) (generation uint64, err error) {
	if err := a.storePassword(r, text); err != nil {
		return 0, err
	}
	generation = a.sessions.DeleteAll()
	if setup := a.setup.Load(); setup != nil {
		setup.Close()
	}
	return generation, nil
}

// storePassword sets the admin password.
func (a *Admin) storePassword(r *request, text string) (err error) {
	entry := r.audit(a.now(), "admin.password", "", "")
	if strings.HasPrefix(text, "$argon2id$") {
		if auth.ValidPHC(text) != nil {
			return errInvalid("This is no argon2id hash that can be used: $argon2id$v=19$m=...,t=...,p=...$SALT$HASH, at most 256 MiB.")
		}
		err = a.password.SetHash(r.ctx, text, entry)
	} else {
		a.hashing.Lock()
		err = a.password.Set(r.ctx, text, entry)
		a.hashing.Unlock()
	}
	if errors.Is(err, auth.ErrPasswordSize) {
		return errInvalid("The admin password must have at least %d characters, and at most %d bytes.", auth.PasswordMin, auth.PasswordMax)
	}
	if err != nil {
		return fmt.Errorf("set the admin password: %w", err)
	}
	return nil
}

// parsePassword reads the body of setPassword.
func parsePassword(r *request) (text string, err error) {
	body, err := readBody(r.c)
	if err != nil {
		return "", err
	}
	fields, err := parseObject(body, "")
	if err != nil {
		return "", err
	}
	for _, f := range fields {
		if f.name != "password" {
			return "", errInvalid("There is no field %s here, only \"password\".", quote(f.name))
		}
		if text, err = f.text(); err != nil {
			return "", err
		}
	}
	return text, nil
}
