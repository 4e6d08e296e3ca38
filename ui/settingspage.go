package ui

import (
	"errors"
	"fmt"
	"net/url"

	"tokenhub/auth"
	"tokenhub/config"
)

// settingsBody is what the settings show.
type settingsBody struct {
	Tokens []tokenView
	// NewToken was just made; it is shown once.
	NewToken, NewTokenName string
	// Errors are wrong with the fields of the forms, Values what stood in them.
	Errors, Values map[string]string
	PasswordMin    int
	// Targets is how many targets of alerts there are; At are the percentages.
	Targets int
	At      []int
	CanTest bool
	Results []alertResult
	// Changes are what a reload that was just made tells.
	Reloaded   bool
	Changes    []string
	CanReload  bool
	Config     *config.Config
	BackupDays string
}

// alertResult is what became of a test of one target.
type alertResult struct {
	Number int
	Error  string
}

func (a *Admin) settingsPage(r *request) error {
	body := &settingsBody{}
	if id := r.ask("token")["token"]; id != "" && r.c.Method() == "GET" {
		if t, err := a.store.Token(r.ctx, id); err == nil {
			body.NewToken, body.NewTokenName = a.shown.take(r.session, id), t.Name
		}
	}
	return a.showSettings(r, 200, body)
}

func (a *Admin) showSettings(r *request, status int, body *settingsBody) error {
	all, err := a.store.AllTokens(r.ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		if t.RevokedAt.IsZero() {
			body.Tokens = append(body.Tokens, viewToken(t))
		}
	}
	cfg := a.config()
	body.PasswordMin = auth.PasswordMin
	body.Targets, body.At = len(cfg.Alerts.URLs), cfg.Alerts.At
	body.CanTest, body.CanReload, body.Config = a.alerts != nil, a.reload != nil, cfg
	if cfg.Backup.Every > 0 {
		body.BackupDays = config.FormatDuration(cfg.Backup.Every)
	}
	if body.Errors == nil {
		body.Errors = map[string]string{}
	}
	if body.Values == nil {
		body.Values = map[string]string{}
	}
	r.plain = body.NewToken != ""
	return a.page(r, status, "settings", "Settings", body)
}

// refuse shows the settings again, with what is wrong with a field.
func (a *Admin) refuse(r *request, status int, field, problem string) error {
	return a.showSettings(r, status, &settingsBody{Errors: map[string]string{field: problem}})
}

func (a *Admin) passwordForm(r *request) error {
	form, err := r.form()
	if err != nil {
		return err
	}
	password := form.Get("password")
	if password != form.Get("again") {
		return a.refuse(r, 400, "again", "The two passwords differ. Type the same one twice.")
	}
	// Who sits down at a screen that was left open must not take the house over.
	err = a.password.Check(r.ctx, form.Get("current"), a.callerAddr(r.c))
	var tooMany *auth.TooMany
	switch {
	case errors.Is(err, auth.ErrWrongPassword):
		return a.refuse(r, 400, "current", "This is not the current password.")
	case errors.As(err, &tooMany):
		return a.refuse(r, 429, "current", fmt.Sprintf("Too many wrong passwords: wait for %s.", seconds(int(tooMany.RetryAfter.Seconds())+1)))
	case err != nil:
		return err
	}
	var e *Error
	generation, err := a.newPassword(r, password)
	if errors.As(err, &e) && e.Status < 500 {
		return a.refuse(r, 400, "password", e.Message)
	} else if err != nil {
		return err
	}
	a.signIn(r.c, generation) // the others are over
	return a.redirect(r, "settings?done=password")
}

func (a *Admin) sessionsForm(r *request) error {
	a.sessions.DeleteAll()
	a.signOut(r.c)
	if err := a.store.AddAudit(r.ctx, r.audit(a.now(), "admin.sign-out-all", "", "")); err != nil {
		a.log.Warn().Err(err).Msg("note the end of all sessions in the audit trail")
	}
	return a.redirect(r, "sign-in?done=signed-out-all")
}

func (a *Admin) tokenForm(r *request) error {
	form, err := r.form()
	if err != nil {
		return err
	}
	t, text, err := a.makeToken(r, []field{textField("name", form.Get("token_name")), {"read_only", []byte(encode(form.Get("read_only") != ""))}})
	var e *Error
	switch {
	case errors.As(err, &e) && e.Status < 500:
		return a.showSettings(r, e.Status, &settingsBody{Errors: map[string]string{"token_name": "A name of 1 to 100 characters is needed, without control characters."},
			Values: map[string]string{"token_name": form.Get("token_name")}})
	case err != nil:
		return err
	}
	a.shown.put(r.session, t.ID, text)
	return a.redirect(r, "settings?token="+url.QueryEscape(t.ID)+"#tokens")
}

func (a *Admin) revokeTokenForm(r *request) error {
	if _, err := a.endToken(r, r.param("id")); err != nil {
		return err
	}
	return a.redirect(r, "settings?done=token-revoked#tokens")
}

func (a *Admin) alertsForm(r *request) error {
	if a.alerts == nil {
		return errOffline("A test of alerts")
	}
	body := &settingsBody{}
	for i, err := range a.alerts(r.ctx) {
		result := alertResult{Number: i + 1}
		if err != nil {
			result.Error = err.Error()
		}
		body.Results = append(body.Results, result)
	}
	return a.showSettings(r, 200, body)
}

func (a *Admin) reloadForm(r *request) error {
	changes, err := a.readConfig(r)
	var e *Error
	switch {
	case errors.As(err, &e) && e.Status < 500:
		return a.refuse(r, 400, "reload", e.Message)
	case err != nil:
		return err
	}
	return a.showSettings(r, 200, &settingsBody{Reloaded: true, Changes: changes})
}
