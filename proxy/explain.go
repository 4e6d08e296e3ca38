package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"tokenhub/db"
)

// Query is a call that somebody thinks of making; see [Gateway.Explain].
type Query struct {
	Key *db.Key
	// Path is the endpoint; empty means /v1/chat/completions.
	Path  string
	Model string
	// MaxTokens is the output bound that the call would state; 0 = none.
	MaxTokens int64
	// Header holds what else decides: X-Inferoute-Strategy, X-Inferoute-Fallback.
	Header http.Header
	// Time is when it would be made; zero means now.
	Time time.Time
}

// Explanation says what would become of a call. It is made to be shown as JSON.
type Explanation struct {
	Allowed  bool   `json:"allowed"`
	Key      string `json:"key"`
	Endpoint string `json:"endpoint"`
	Model    string `json:"model"`
	// Provider and Served are where it would go first; empty when it would be refused.
	Provider string `json:"provider,omitempty"`
	Served   string `json:"served_model,omitempty"`
	Strategy string `json:"strategy,omitempty"`
	// Refusal is the answer that the caller would get instead.
	Refusal *Refusal `json:"refusal,omitempty"`
	// Targets are in the order in which they would be tried now.
	Targets []Option `json:"targets"`
	// Limits are those of the key, with the room that they leave.
	Limits []Room `json:"limits"`
}

// Refusal is an answer of TokenHub's own.
type Refusal struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Option is one target as it stands now.
type Option struct {
	Provider string `json:"provider"`
	Served   string `json:"served_model"`
	// For is the name by which it is a target: the one asked for, or a fallback.
	For   string `json:"for"`
	Price *Price `json:"price_per_million_usd"`
	// Reserves is what would be set aside for the call.
	Reserves *Amount `json:"reserves,omitempty"`
	// Status is ok, resting or unknown, as in [ProviderState].
	Status     string     `json:"status"`
	RestsUntil *time.Time `json:"rests_until,omitempty"`
	// Full says that the call would wait for a place.
	Full bool `json:"full"`
	// Refusal is why this target would be passed over, or the call refused.
	Refusal *Refusal `json:"refusal,omitempty"`
}

// Price is what a model costs, in US dollars per million tokens.
type Price struct {
	Input       json.Number `json:"input"`
	CachedInput json.Number `json:"cached_input"`
	Output      json.Number `json:"output"`
}

// Amount is tokens, and US dollars.
type Amount struct {
	Tokens int64       `json:"tokens"`
	USD    json.Number `json:"usd"`
}

// Room is one limit of a key's: tokens, requests or, where the name says so,
// US dollars.
type Room struct {
	Limit    string      `json:"limit"`
	Max      json.Number `json:"max"`
	Used     json.Number `json:"used"`
	Held     json.Number `json:"held"`
	Left     json.Number `json:"left"`
	ResetsAt *time.Time  `json:"resets_at"`
}

// Explain says, without calling anyone and without taking anything out of a
// limit, what would become of a call: it decides by the same functions as [Gateway.Do],
// which alone knows the caller's address and how large the request is. The error
// is one of the store's.
func (g *Gateway) Explain(ctx context.Context, q Query) (*Explanation, error) {
	if q.Path == "" {
		q.Path = "/v1/chat/completions"
	}
	if q.Time.IsZero() {
		q.Time = g.now()
	}
	f := &flight{g: g, st: g.state.Load(), key: q.Key, call: q.call()}
	x := &Explanation{Key: q.Key.ID, Endpoint: q.Path, Model: q.Model, Targets: []Option{}, Limits: []Room{}}
	use, err := g.store.KeyUsage(ctx, q.Key.ID, q.Time)
	if err != nil {
		return nil, err
	}
	x.Limits = rooms(q.Key.Limits, use)
	refusal := f.explainPlan(ctx)
	defer func() {
		if f.body != nil {
			f.body.close()
		}
	}()
	if refusal == nil {
		x.Strategy = f.route.groups[0].strategy
		refusal, err = f.explainTargets(ctx, x, use)
	}
	if err != nil {
		return nil, err
	}
	x.Refusal, x.Allowed = refusalOf(refusal), refusal == nil
	return x, nil
}

// call is the call that the query speaks of.
func (q *Query) call() *Call {
	call := &Call{ID: "explain", Start: q.Time, Method: http.MethodPost, Path: q.Path, Header: Headers{{"Content-Type", "application/json"}}}
	for name, values := range q.Header {
		if name == "Content-Type" {
			continue
		}
		for _, v := range values {
			call.Header = append(call.Header, Header{name, v})
		}
	}
	body := map[string]any{"model": q.Model}
	if field := call.endpoint().boundField(""); field != "" && q.MaxTokens > 0 {
		body[field] = q.MaxTokens
	}
	text, err := json.Marshal(body)
	if err != nil { // strings and numbers always marshal
		text = []byte("{}")
	}
	call.Body, call.Length = bytes.NewReader(text), int64(len(text))
	return call
}

// explainPlan decides what is decided before a target is chosen.
func (f *flight) explainPlan(ctx context.Context) error {
	switch status := f.key.StatusAt(f.call.Start); status {
	case db.Active:
	default:
		e := errKey(nil)
		e.Message += " (The key is " + string(status) + "; the caller is not told so.)"
		return e
	}
	if err := checkPath(f.call.Path); err != nil {
		return err
	}
	if err := admitEndpoint(f.key, f.call); err != nil {
		return err
	}
	return f.plan(ctx)
}

// explainTargets lists the targets in their order, names the one that would be
// asked, or returns why none would.
func (f *flight) explainTargets(ctx context.Context, x *Explanation, use db.KeyUsage) (refusal, err error) {
	decided := false
	for _, c := range f.st.order(f.route, f.route.targets, f.demand, f.g.now(), false) {
		o := Option{Provider: c.provider.Name, Served: c.served, For: c.asked, Status: "unknown", Full: c.full}
		switch {
		case c.resting:
			o.Status, o.RestsUntil = "resting", &c.until
		case c.known:
			o.Status = "ok"
		}
		if p, ok := f.st.prices.lookupFor(f.demand, c.provider.Name, c.served); ok {
			o.Price = &Price{Input: usd(p.input), CachedInput: usd(p.cached), Output: usd(p.output)}
		}
		res, no := f.wouldReserve(ctx, c.target, use)
		switch {
		case no == nil:
			o.Reserves = &Amount{Tokens: res.Tokens, USD: usd(res.Cost)}
		case !errors.As(no, new(*Error)):
			return nil, no
		}
		o.Refusal = refusalOf(no)
		x.Targets = append(x.Targets, o)
		if decided {
			continue
		}
		switch refusal = no; {
		case no == nil:
			x.Provider, x.Served, decided = o.Provider, o.Served, true
		case !skippable(no):
			decided = true
		}
	}
	return refusal, nil
}

// wouldReserve is what [flight.reserve] would get now; nothing is held.
func (f *flight) wouldReserve(ctx context.Context, t target, use db.KeyUsage) (db.Reservation, error) {
	claim, refusal := f.st.claim(f.key, f.demand, t, f.call.Start)
	if refusal != nil {
		return db.Reservation{}, refusal
	}
	standing := &db.Standing{Key: use}
	standing.Provider.Cost, standing.Provider.HeldCost = f.g.store.ProviderSpend(ctx, t.provider.Name, f.call.Start)
	standing.Provider.Resets = use.Month.Resets
	res, err := db.Decide(&f.key.Limits, standing, &claim)
	if err != nil {
		return res, f.refused(err)
	}
	return res, nil
}

// refusalOf is an error as the caller would see it; nil stays nil.
func refusalOf(err error) *Refusal {
	var e *Error
	if !errors.As(err, &e) {
		return nil
	}
	return &Refusal{Status: e.Status(), Code: e.Code, Message: e.Message}
}

// rooms lists the limits that are set, with the room that they leave.
func rooms(l db.Limits, u db.KeyUsage) []Room {
	list := []Room{}
	count := func(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }
	add := func(name string, limit, used, held int64, resets time.Time, show func(int64) json.Number) {
		if limit == 0 {
			return
		}
		r := Room{Limit: name, Max: show(limit), Used: show(used), Held: show(held), Left: show(max(0, limit-used-held))}
		if !resets.IsZero() {
			r.ResetsAt = &resets
		}
		list = append(list, r)
	}
	add(db.LimitConcurrent, l.ConcurrentRequests, 0, u.Running, time.Time{}, count)
	add(db.LimitRPM, l.RequestsPerMinute, u.Minute.Requests, 0, u.Minute.Resets, count)
	add("max_tokens_per_request", l.MaxTokensPerRequest, 0, 0, time.Time{}, count)
	for _, w := range []struct {
		name  string
		limit int64
		use   db.WindowUse
	}{{db.LimitTPM, l.TokensPerMinute, u.Minute}, {db.LimitDayTokens, l.DailyTokens, u.Day}, {db.LimitMonthTokens, l.MonthlyTokens, u.Month}, {db.LimitTotalTokens, l.TotalTokens, u.Total}} {
		add(w.name, w.limit, w.use.Tokens, w.use.HeldTokens, w.use.Resets, count)
	}
	for _, w := range []struct {
		name  string
		limit int64
		use   db.WindowUse
	}{{db.LimitDayUSD, l.DailyUSD, u.Day}, {db.LimitMonthUSD, l.MonthlyUSD, u.Month}, {db.LimitTotalUSD, l.TotalUSD, u.Total}} {
		add(w.name, w.limit, w.use.Cost, w.use.HeldCost, w.use.Resets, usd)
	}
	return list
}
