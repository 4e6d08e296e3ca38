package ui

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tokenhub/db"
)

// keyInput is a form with the fields of a key: what stands in it, and what is
// wrong with it.
type keyInput struct {
	// Values are the texts in the form, by field; Errors what is wrong with them.
	Values, Errors map[string]string
	// Error is wrong with the whole.
	Error string
	// Limits are the fields of limits in the order in which they are shown.
	Limits []limitInput
	// Presets are the choices for when a key expires.
	Presets []choice
	// Providers and Models are names to choose from.
	Providers []check
	Models    []string
	Zone      string
}

// check is a box to check.
type check struct {
	Name    string
	Checked bool
}

// limitInput is the field of one limit.
type limitInput struct {
	Name, Label, Unit string
	USD               bool
}

var limitInputs = []limitInput{
	{"requests_per_minute", "Requests per minute", "requests", false},
	{"tokens_per_minute", "Tokens per minute", "tokens", false},
	{"concurrent_requests", "Requests at once", "requests", false},
	{"max_tokens_per_request", "Output tokens per request", "tokens", false},
	{"daily_tokens", "Tokens per day", "tokens", false},
	{"monthly_tokens", "Tokens per month", "tokens", false},
	{"total_tokens", "Tokens in all", "tokens", false},
	{"daily_usd", "Spend per day", "US$", true},
	{"monthly_usd", "Spend per month", "US$", true},
	{"total_usd", "Spend in all", "US$", true},
}

// The values of the field for when a key expires that are no durations.
const (
	expiresNever = "never"
	expiresKeep  = "keep"
	expiresDate  = "date"
)

var expiryPresets = []choice{{expiresNever, "Never"}, {"1d", "In 1 day"}, {"7d", "In 7 days"}, {"30d", "In 30 days"}, {"90d", "In 90 days"}, {"365d", "In 1 year"}, {expiresDate, "At the end of a day…"}}

// textFields are the fields that hold one text, listFields those that hold
// several, apart by commas or line breaks.
var (
	textFields = []string{"name", "endpoints"}
	listFields = []string{"models", "allowed_ips", "tags"}
)

// newKeyInput returns a form that is filled with what k is.
func (a *Admin) newKeyInput(r *request, k *db.Key) *keyInput {
	in := &keyInput{Values: map[string]string{}, Errors: map[string]string{}, Limits: limitInputs, Zone: zoneOf(a.config()).String()}
	v := in.Values
	v["name"], v["endpoints"] = k.Name, k.Endpoints
	v["models"], v["allowed_ips"], v["tags"] = strings.Join(k.Models, "\n"), strings.Join(k.AllowedIPs, "\n"), strings.Join(k.Tags, ", ")
	v["expires"] = expiresNever
	in.Presets = expiryPresets
	if !k.ExpiresAt.IsZero() {
		v["expires"] = expiresKeep
		in.Presets = append([]choice{{expiresKeep, "As it is: " + k.ExpiresAt.In(zoneOf(a.config())).Format("2 Jan 2006, 15:04")}}, expiryPresets...)
	}
	for _, l := range limitInputs {
		limits := k.Limits
		at, usd := limitNamed(&limits, l.Name)
		if *at == 0 {
			continue
		}
		v[l.Name] = strconv.FormatInt(*at, 10)
		if usd {
			v[l.Name] = dollars(*at).String()
		}
	}
	if k.Revision > 0 {
		v["revision"] = strconv.FormatUint(k.Revision, 10)
	}
	in.offer(a, r, k.Providers)
	return in
}

// offer lists what there is to choose from.
func (in *keyInput) offer(a *Admin, r *request, chosen []string) {
	for _, p := range a.providerViews(r.ctx) {
		in.Providers = append(in.Providers, check{p.Name, slices.Contains(chosen, p.Name)})
		for _, m := range p.Models {
			if len(in.Models) < 200 && !slices.Contains(in.Models, m) {
				in.Models = append(in.Models, m)
			}
		}
	}
	for _, name := range chosen { // it may have left the configuration
		if !slices.ContainsFunc(in.Providers, func(c check) bool { return c.Name == name }) {
			in.Providers = append(in.Providers, check{name, true})
		}
	}
}

// read turns a form into an edit. What is wrong with single fields is noted in
// the form, and reported; k is the key that is edited, or a new one.
func (in *keyInput) read(form url.Values, k *db.Key, edit *keyEdit) (ok bool) {
	var fields, limits []field
	text := func(name string) string { return strings.TrimSpace(form.Get(name)) }
	for _, name := range slices.Concat(textFields, listFields, []string{"expires", "expires_date"}) {
		in.Values[name] = text(name)
	}
	for _, name := range textFields {
		fields = append(fields, textField(name, text(name)))
	}
	for _, name := range listFields {
		fields = append(fields, listField(name, strings.FieldsFunc(form.Get(name), func(c rune) bool { return c == ',' || c == '\n' || c == '\r' })))
	}
	fields = append(fields, listField("providers", form["providers"]))
	for i := range in.Providers {
		in.Providers[i].Checked = slices.Contains(form["providers"], in.Providers[i].Name)
	}
	switch value := text("expires"); value {
	case expiresKeep:
	case expiresNever:
		fields = append(fields, textField("expires_at", ""))
	case expiresDate:
		if text("expires_date") == "" {
			in.Errors["expires_at"] = "Choose the day at whose end the key expires."
		} else {
			fields = append(fields, textField("expires_at", text("expires_date")))
		}
	default:
		fields = append(fields, textField("expires_at", value))
	}
	for _, l := range limitInputs {
		in.Values[l.Name] = text(l.Name)
		limits = append(limits, numberField(l.Name, text(l.Name)))
	}
	// Each field is tried on a key that nobody keeps, so that all that is wrong is
	// said at once and beside it. The edit does the same again.
	trial := k.Clone()
	for _, f := range fields {
		in.note(f.name, edit.set(trial, f))
	}
	for _, f := range limits {
		raw, err := json.Marshal(map[string]json.RawMessage{f.name: f.raw})
		if err == nil {
			err = editLimits(&trial.Limits, field{name: "limits", raw: raw})
		}
		in.note(f.name, err)
	}
	raw := map[string]json.RawMessage{}
	for _, f := range limits {
		raw[f.name] = f.raw
	}
	edit.fields = append(fields, field{name: "limits", raw: json.RawMessage(encode(raw))})
	return len(in.Errors) == 0
}

// labels are how the form calls the fields.
var labels = map[string]string{"name": "The name", "expires_at": "Expiry", "models": "Models", "allowed_ips": "Addresses", "tags": "Tags", "providers": "Providers", "endpoints": "Endpoints"}

// note keeps what is wrong with a field, in the words of the form.
func (in *keyInput) note(name string, err error) {
	if err == nil {
		return
	}
	message := asError(err).Message
	for _, l := range limitInputs {
		message = strings.ReplaceAll(message, quote(l.Name), l.Label)
	}
	for n, label := range labels {
		message = strings.ReplaceAll(message, quote(n), label)
	}
	in.Errors[name] = message
}

// fail keeps why the whole was refused, beside the field that is to blame if one
// is; false when it is none of the form's business.
func (in *keyInput) fail(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Status >= 500 || e.Status == 404 {
		return false
	}
	for name := range labels {
		if strings.HasPrefix(e.Message, quote(name)) {
			in.note(name, err)
			return true
		}
	}
	in.Error = e.Message
	return true
}

func textField(name, text string) field {
	if text == "" {
		return field{name, none}
	}
	return field{name, json.RawMessage(encode(text))}
}

func listField(name string, texts []string) field {
	list := []string{}
	for _, t := range texts {
		if t = strings.TrimSpace(t); t != "" {
			list = append(list, t)
		}
	}
	return field{name, json.RawMessage(encode(list))}
}

// numberField takes a number as people write it: with blanks between thousands,
// with a dollar sign.
func numberField(name, text string) field {
	text = strings.NewReplacer(" ", "", "\u00a0", "", "_", "", "$", "").Replace(text)
	switch {
	case text == "":
		return field{name, none}
	case json.Valid([]byte(text)):
		return field{name, json.RawMessage(text)}
	}
	return field{name, json.RawMessage(encode(text))} // which is no number
}
