package ui

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	"tokenhub/auth"
)

// SetupLink returns the link under which the first admin password can be set, for
// an hour and once; empty when a password is set already. local is where this
// machine reaches the pages, as http://127.0.0.1:8080; base_url goes before it.
// What a browser says of the host is not asked. An error is the store's.
func (a *Admin) SetupLink(ctx context.Context, local string) (string, error) {
	there, err := a.password.Exists(ctx)
	if err != nil || there {
		return "", err
	}
	setup, token := auth.NewSetup(a.now)
	a.setup.Store(setup)
	base := local
	if cfg := a.config(); cfg.AdminListen == "" && cfg.BaseURL != "" {
		base = cfg.BaseURL
	}
	return base + "/setup?token=" + token, nil
}

// setupBody is what the page for the first password shows.
type setupBody struct {
	Token, Error string
	Min          int
}

func (a *Admin) setupPage(r *request) error {
	there, err := a.password.Exists(r.ctx)
	if err != nil {
		return err
	}
	if there {
		return a.redirect(r, "sign-in")
	}
	token := r.ask("token")["token"]
	setup := a.setup.Load()
	if setup == nil || !setup.Valid(token) {
		return &Error{Status: 404, Message: "This set-up link is not valid any more: it works for one hour and once. TokenHub prints a new one each time it starts without a password; `tokenhub admin password` sets one in a terminal."}
	}
	return a.page(r, 200, "setup", "Set the admin password", setupBody{Token: token, Min: auth.PasswordMin})
}

func (a *Admin) setupForm(r *request) error {
	form, err := r.form()
	if err != nil {
		return err
	}
	body := setupBody{Token: form.Get("token"), Min: auth.PasswordMin}
	password := form.Get("password")
	setup := a.setup.Load()
	generation := a.sessions.Generation()
	switch {
	case setup == nil:
		err = auth.ErrSetup
	case password != form.Get("again"):
		err = errInvalid("The two passwords differ. Type the same one twice.")
	default:
		err = setup.Spend(body.Token, func() error { return a.firstPassword(r, password) })
	}
	var known *Error
	switch {
	case errors.Is(err, auth.ErrSetup):
		return &Error{Status: 404, Message: "This set-up link is not valid any more: it works for one hour and once. Restart TokenHub for a new one, or use `tokenhub admin password`.", Err: err}
	case errors.As(err, &known) && known.Status < 500:
		body.Error = known.Message
		return a.page(r, known.Status, "setup", "Set the admin password", body)
	case err != nil:
		return err
	}
	a.signIn(r.c, generation)
	return a.redirect(r, "sign-in?kept=1") // see signInPage
}

// firstPassword sets the password if there is none yet.
func (a *Admin) firstPassword(r *request, text string) error {
	if there, err := a.password.Exists(r.ctx); err != nil || there {
		return errors.Join(auth.ErrSetup, err)
	}
	r.actor = "setup link"
	return a.storePassword(r, text)
}

// signInBody is what the page for signing in shows.
type signInBody struct {
	Next, Error string
	// Missing says that no password is set; BaseURL is where the cookie is kept,
	// when this is another place.
	Missing bool
	BaseURL string
	// Wait is how long nothing is looked at, in seconds.
	Wait int
}

func (a *Admin) signInPage(r *request) error {
	asked := r.ask("next", "kept")
	body := signInBody{Next: asked["next"]}
	if r.session != "" {
		return a.redirect(r, safeNext(body.Next))
	}
	if asked["kept"] != "" { // we have just set a cookie, and it did not come
		body.Error = "Your browser did not keep the sign-in. Allow cookies for this site"
		if base := a.config().BaseURL; base != "" {
			body.BaseURL = base
		}
	}
	return a.showSignIn(r, 200, body)
}

func (a *Admin) showSignIn(r *request, status int, body signInBody) error {
	there, err := a.password.Exists(r.ctx)
	if err != nil {
		return err
	}
	body.Missing = !there
	return a.page(r, status, "sign-in", "Sign in", body)
}

func (a *Admin) signInForm(r *request) error {
	form, err := r.form()
	if err != nil {
		return err
	}
	body := signInBody{Next: form.Get("next")}
	from := a.callerAddr(r.c)
	generation := a.sessions.Generation()
	err = a.password.Check(r.ctx, form.Get("password"), from)
	var tooMany *auth.TooMany
	switch {
	case err == nil:
	case errors.Is(err, auth.ErrWrongPassword):
		a.warn().Stringer("from", from).Msg("wrong admin password")
		body.Error = "This is not the password."
		return a.showSignIn(r, 401, body)
	case errors.As(err, &tooMany):
		a.warn().Stringer("from", from).Msg("too many wrong admin passwords")
		body.Wait = int(math.Ceil(tooMany.RetryAfter.Seconds()))
		body.Error = fmt.Sprintf("Too many wrong passwords from your address: nothing is looked at for %s. Then try again.", seconds(body.Wait))
		r.c.Set("Retry-After", fmt.Sprint(body.Wait))
		return a.showSignIn(r, 429, body)
	case errors.Is(err, auth.ErrNoPassword):
		return a.showSignIn(r, 409, body)
	default:
		return err
	}
	if !a.signIn(r.c, generation) {
		body.Error = "The password was just changed, or all sessions were ended. Sign in once more."
		return a.showSignIn(r, 401, body)
	}
	entry := r.audit(a.now(), "admin.sign-in", "", "")
	if err := a.store.AddAudit(r.ctx, entry); err != nil {
		a.log.Warn().Err(err).Msg("note the sign-in in the audit trail")
	}
	// The page after this asks for the cookie: see signInPage.
	return a.redirect(r, "sign-in?kept=1&next="+url.QueryEscape(body.Next))
}

func seconds(n int) string {
	if n == 1 {
		return "1 second"
	}
	return fmt.Sprintf("%d seconds", n)
}

func (a *Admin) signOutForm(r *request) error {
	a.signOut(r.c)
	return a.redirect(r, "sign-in?done=signed-out")
}

// safeNext returns where to go after signing in: a page of ours, nothing else.
func safeNext(next string) string {
	first, _, _ := strings.Cut(next, "?")
	first, _, _ = strings.Cut(first, "/")
	ours := []string{"keys", "usage", "requests", "providers", "connect", "audit", "settings"}
	if !slices.Contains(ours, first) || strings.ContainsFunc(next, func(c rune) bool { return c <= ' ' || c == '\\' || c > '~' }) {
		return ""
	}
	return next
}
