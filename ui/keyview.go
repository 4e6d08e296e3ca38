package ui

import (
	"context"
	"encoding/json"
	"time"

	"tokenhub/db"
)

// timeFormat is RFC 3339 in UTC with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z"

// moment is a time on the wire; the zero time is null.
type moment time.Time

// MarshalJSON writes the time in timeFormat.
func (m moment) MarshalJSON() ([]byte, error) {
	t := time.Time(m)
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + t.UTC().Format(timeFormat) + `"`), nil
}

// list is a list on the wire; nil is [].
type list []string

// MarshalJSON writes the list, never null.
func (l list) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]string(l))
}

// keyView is a key on the wire.
type keyView struct {
	ID         string    `json:"id"`
	Prefix     string    `json:"prefix"`
	Status     db.Status `json:"status"`
	CreatedAt  moment    `json:"created_at"`
	LastUsedAt moment    `json:"last_used_at"`
	keyFields
	Revision uint64  `json:"revision"`
	Usage    useView `json:"usage"`
	// Key is the text with the secret: in the answers to create and rotate only.
	Key string `json:"key,omitempty"`
}

// keyFields are the fields of a key that a request may set, and what the audit
// trail tells of it.
type keyFields struct {
	Name       string     `json:"name"`
	ExpiresAt  moment     `json:"expires_at"`
	Models     list       `json:"models"`
	Providers  list       `json:"providers"`
	Endpoints  string     `json:"endpoints"`
	AllowedIPs list       `json:"allowed_ips"`
	Tags       list       `json:"tags"`
	Disabled   bool       `json:"disabled"`
	Limits     limitsView `json:"limits"`
}

func viewFields(k *db.Key) keyFields {
	return keyFields{
		Name: k.Name, ExpiresAt: moment(k.ExpiresAt), Models: list(k.Models), Providers: list(k.Providers),
		Endpoints: k.Endpoints, AllowedIPs: list(k.AllowedIPs), Tags: list(k.Tags), Disabled: k.Disabled,
		Limits: viewLimits(k.Limits),
	}
}

// useView is where a key stands.
type useView struct {
	Minute  windowView `json:"minute"`
	Day     windowView `json:"day"`
	Month   windowView `json:"month"`
	Total   windowView `json:"total"`
	Running int64      `json:"running"`
}

// windowView is what a key used in one window.
type windowView struct {
	Requests int64   `json:"requests"`
	Tokens   int64   `json:"tokens"`
	USD      dollars `json:"usd"`
	ResetsAt moment  `json:"resets_at"`
}

func viewWindow(w db.WindowUse) windowView {
	return windowView{Requests: w.Requests, Tokens: w.Tokens, USD: dollars(w.Cost), ResetsAt: moment(w.Resets)}
}

// viewKey returns k as it is shown, with its use at this moment.
func (a *Admin) viewKey(ctx context.Context, k *db.Key) (*keyView, error) {
	now := a.now()
	use, err := a.store.KeyUsage(ctx, k.ID, now)
	if err != nil {
		return nil, err
	}
	return &keyView{
		ID: k.ID, Prefix: k.Prefix(), Status: k.StatusAt(now),
		CreatedAt: moment(k.CreatedAt), LastUsedAt: moment(a.store.LastUsed(k.ID)),
		keyFields: viewFields(k), Revision: k.Revision,
		Usage: useView{
			Minute: viewWindow(use.Minute), Day: viewWindow(use.Day), Month: viewWindow(use.Month),
			Total: viewWindow(use.Total), Running: use.Running,
		},
	}, nil
}
