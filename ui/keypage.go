package ui

import (
	"strings"
	"time"

	"tokenhub/db"
)

// keyBody is what the page of one key shows.
type keyBody struct {
	Key      *db.Key
	Status   db.Status
	LastUsed time.Time
	Use      db.KeyUsage
	Gauges   []gauge
	// Graces are the ends of older secrets that still work.
	Graces []time.Time
	Input  *keyInput
	Error  string
	// Month is the usage of the last 30 days.
	Month db.Sums
	Chart *chart
}

func (a *Admin) newKeyPage(r *request) error {
	in := a.newKeyInput(r, &db.Key{Endpoints: db.Inference})
	return a.page(r, 200, "key-new", "New API key", in)
}

func (a *Admin) newKeyForm(r *request) error {
	form, err := r.form()
	if err != nil {
		return err
	}
	edit := &keyEdit{now: a.now(), config: a.config()}
	in := a.newKeyInput(r, &db.Key{Endpoints: db.Inference})
	if !in.read(form, edit.newKey(), edit) {
		return a.page(r, 400, "key-new", "New API key", in)
	}
	k, text, err := a.makeKey(r, edit)
	if err != nil {
		if !in.fail(err) {
			return err
		}
		return a.page(r, asError(err).Status, "key-new", "New API key", in)
	}
	a.shown.put(r.session, k.ID, text)
	return a.redirect(r, "keys/"+k.ID+"/secret")
}

// secretBody is what the page for a new secret shows; Text is empty when it was
// shown before.
type secretBody struct {
	Key      *db.Key
	Text     string
	Snippets []snippet
	// Model is one that can be asked for.
	Model string
}

func (a *Admin) secretPage(r *request) error {
	k, err := a.findKey(r.ctx, r.param("id"))
	if err != nil {
		return err
	}
	body := &secretBody{Key: k}
	if r.c.Method() == "GET" {
		body.Text = a.shown.take(r.session, k.ID)
	}
	if body.Text != "" {
		body.Model = a.someModel(r, k)
		body.Snippets = snippets(a.gatewayURL(r), body.Text, body.Model)[:1]
	}
	r.plain = true
	return a.page(r, 200, "key-secret", "Key "+k.Name, body)
}

func (a *Admin) keyPage(r *request) error {
	k, err := a.findKey(r.ctx, r.param("id"))
	if err != nil {
		return err
	}
	return a.showKeyPage(r, 200, k, a.newKeyInput(r, k), "")
}

func (a *Admin) showKeyPage(r *request, status int, k *db.Key, in *keyInput, problem string) error {
	now := a.now()
	body := &keyBody{Key: k, Status: k.StatusAt(now), LastUsed: a.store.LastUsed(k.ID), Input: in, Error: problem}
	var err error
	if body.Use, err = a.store.KeyUsage(r.ctx, k.ID, now); err != nil {
		return err
	}
	body.Gauges = gauges(&k.Limits, &body.Use)
	for _, s := range k.Secrets {
		if !s.Until.IsZero() && s.LiveAt(now) {
			body.Graces = append(body.Graces, s.Until)
		}
	}
	zone := zoneOf(a.config())
	list, err := a.periods(r.ctx, question{span: lastDays(30, now, zone), zone: zone, key: k.ID})
	if err != nil {
		return err
	}
	for _, s := range together(list) {
		body.Month.Add(s.Sums)
	}
	body.Chart = newChart(list, measures[1], false, zone, func(string) string { return "" })
	body.Chart.Series = nil
	return a.page(r, status, "key", k.Name, body)
}

func (a *Admin) keyForm(r *request) error {
	form, err := r.form()
	if err != nil {
		return err
	}
	k, err := a.changeable(r.ctx, r.param("id"), 0)
	if err != nil {
		return err
	}
	edit := &keyEdit{now: a.now(), config: a.config()}
	if edit.revision, err = parseRevision(numberField("revision", form.Get("revision"))); err != nil {
		return err
	}
	in := a.newKeyInput(r, k)
	if !in.read(form, k, edit) {
		return a.showKeyPage(r, 400, k, in, "")
	}
	changed, err := a.editKey(r, k.ID, edit)
	if err != nil {
		if !in.fail(err) {
			return err
		}
		return a.showKeyPage(r, asError(err).Status, k, in, "")
	}
	done := "saved"
	if changed.Revision == edit.revision {
		done = "unchanged"
	}
	return a.redirect(r, "keys/"+k.ID+"?done="+done)
}

func (a *Admin) disableForm(r *request) error {
	form, err := r.form()
	if err != nil {
		return err
	}
	off := form.Get("disabled") == "true"
	edit := &keyEdit{now: a.now(), config: a.config(), fields: []field{{"disabled", []byte(encode(off))}}}
	k, err := a.editKey(r, r.param("id"), edit)
	if err != nil {
		return err
	}
	return a.redirect(r, "keys/"+k.ID+"?done="+map[bool]string{true: "disabled", false: "enabled"}[off])
}

// rotateBody is what the page for a rotation shows.
type rotateBody struct {
	Key    *db.Key
	Graces []choice
	Error  string
}

var gracePresets = []choice{{"0", "Ends at once"}, {"1h", "Works for 1 more hour"}, {"24h", "Works for 1 more day"}, {"7d", "Works for 7 more days"}, {"30d", "Works for 30 more days"}}

func (a *Admin) rotatePage(r *request) error {
	k, err := a.changeable(r.ctx, r.param("id"), 0)
	if err != nil {
		return err
	}
	return a.page(r, 200, "key-rotate", "Rotate "+k.Name, rotateBody{Key: k, Graces: gracePresets})
}

func (a *Admin) rotateForm(r *request) error {
	form, err := r.form()
	if err != nil {
		return err
	}
	grace, err := parseGrace(form.Get("grace"))
	if err != nil {
		return err
	}
	k, text, err := a.renewKey(r, r.param("id"), grace, 0)
	if err != nil {
		return err
	}
	a.shown.put(r.session, k.ID, text)
	return a.redirect(r, "keys/"+k.ID+"/secret")
}

// revokeBody is what the page for a revocation shows.
type revokeBody struct {
	Key   *db.Key
	Use   db.KeyUsage
	Error string
}

func (a *Admin) revokePage(r *request) error { return a.showRevoke(r, 200, "") }

func (a *Admin) showRevoke(r *request, status int, problem string) error {
	k, err := a.changeable(r.ctx, r.param("id"), 0)
	if err != nil {
		return err
	}
	use, err := a.store.KeyUsage(r.ctx, k.ID, a.now())
	if err != nil {
		return err
	}
	return a.page(r, status, "key-revoke", "Revoke "+k.Name, revokeBody{k, use, problem})
}

func (a *Admin) revokeForm(r *request) error {
	form, err := r.form()
	if err != nil {
		return err
	}
	k, err := a.findKey(r.ctx, r.param("id"))
	if err != nil {
		return err
	}
	if oneSpaced(form.Get("confirm")) != oneSpaced(k.Name) {
		return a.showRevoke(r, 400, "Type the key's name exactly as it stands above.")
	}
	if _, err := a.endKey(r, k.ID); err != nil {
		return err
	}
	return a.redirect(r, "keys/"+k.ID+"?done=revoked")
}

// oneSpaced returns text as a browser shows it: several blanks in a row are one.
func oneSpaced(text string) string { return strings.Join(strings.Fields(text), " ") }
