package ui

import (
	"strings"
	"unicode/utf8"

	"tokenhub/auth"
)

// passwordSetting is where the hash of the admin password is kept.
const passwordSetting = "admin.password"

// The length of an admin password in characters.
const (
	shortestPassword = 10
	longestPassword  = 1000
)

// setPassword sets the admin password: a text, or its argon2id hash as a PHC
// string.
func (a *Admin) setPassword(r *request) error {
	body, err := readBody(r.c)
	if err != nil {
		return err
	}
	fields, err := parseObject(body, "")
	if err != nil {
		return err
	}
	password := ""
	for _, f := range fields {
		if f.name != "password" {
			return errInvalid("There is no field %s here, only \"password\".", quote(f.name))
		}
		if password, err = f.text(); err != nil {
			return err
		}
	}
	phc, err := a.passwordHash(password)
	if err != nil {
		return err
	}
	if err := a.store.PutSetting(r.ctx, passwordSetting, phc, r.audit(a.now(), "admin.password", "", "")); err != nil {
		return err
	}
	return r.json(200, struct{}{})
}

// passwordHash returns what is stored of a new admin password.
func (a *Admin) passwordHash(password string) (string, error) {
	if strings.HasPrefix(password, "$argon2id$") {
		if auth.ValidPHC(password) != nil {
			return "", errInvalid("This is no argon2id hash that can be used: $argon2id$v=19$m=...,t=...,p=...$SALT$HASH, at most 256 MiB.")
		}
		return password, nil
	}
	if n := utf8.RuneCountInString(password); n < shortestPassword || n > longestPassword {
		return "", errInvalid("The admin password must have %d to %d characters.", shortestPassword, longestPassword)
	}
	return a.hash(password)
}
