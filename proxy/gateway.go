package proxy

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/db"
)

// Verifier tells whose key a presented text is; see [auth.Verifier].
type Verifier interface {
	Verify(ctx context.Context, text string, from netip.Addr) (*db.Key, error)
}

// Store is what the gateway needs of the engine: live keys, the ledger, and to
// be told of changed keys.
type Store interface {
	Key(ctx context.Context, id string) (*db.Key, error)
	TouchKey(id string, t time.Time)
	WatchKeys(fn func(*db.Key)) (stop func())
	db.Ledger
}

// Options are what a [Gateway] is made of.
type Options struct {
	Config   *config.Config
	Verifier Verifier
	Store    Store
	// Log takes one line per request, at the end of it.
	Log zerolog.Logger
	// Observe, if set, is told of each request that was sent to a provider, once
	// it is settled, and of each attempt that failed. It must be quick.
	Observe func(*db.Record)
	// Refused, if set, is told each error that the gateway answered with itself, and
	// the caller's address. Where a key was refused the error's cause is a
	// [*auth.Refused] or an [*auth.TooMany]. It must be quick.
	Refused func(e *Error, from netip.Addr)
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Gateway serves the calls to /v1: see [Gateway.Do].
type Gateway struct {
	verifier Verifier
	store    Store
	log      zerolog.Logger
	observe  func(*db.Record)
	refused  func(e *Error, from netip.Addr)
	now      func() time.Time
	state    atomic.Pointer[state]
	running  running
	streams  atomic.Int64
	// refresher keeps the providers' lists of models fresh.
	refresher refresher
	// closed refuses new calls: the server is stopping.
	closed atomic.Bool
}

// New returns a gateway for a configuration. It contacts nobody; the error is
// one of the configuration (a CA file that can't be read, say).
func New(o Options) (*Gateway, error) {
	g := &Gateway{verifier: o.Verifier, store: o.Store, log: o.Log, now: o.Now,
		refresher: refresher{wake: make(chan struct{}, 1)}}
	if g.now == nil {
		g.now = time.Now
	}
	g.observe = o.Observe
	if g.observe == nil {
		g.observe = func(*db.Record) {}
	}
	if g.refused = o.Refused; g.refused == nil {
		g.refused = func(*Error, netip.Addr) {}
	}
	st, err := newState(o.Config, nil)
	if err != nil {
		return nil, err
	}
	g.state.Store(st)
	return g, nil
}

// SetConfig takes on another configuration in one step. Calls that are running
// go on under the one they began with; after an error the old one stays.
func (g *Gateway) SetConfig(c *config.Config) error {
	old := g.state.Load()
	st, err := newState(c, old)
	if err != nil {
		return err
	}
	g.state.Store(st)
	for _, p := range st.providers {
		p.queue.resize(p.MaxConcurrency)
	}
	for _, p := range old.providers {
		if st.byName[p.Name] != p {
			p.close()
		}
	}
	g.refresher.poke()
	return nil
}

// Run does what the gateway does beside serving: it ends the running answers of
// keys that are revoked, and reads the providers' lists of models. It returns
// when ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	stop := g.store.WatchKeys(g.running.keyChanged)
	defer stop()
	return g.refreshCatalogs(ctx)
}

// Close refuses new calls from here on; running ones go on.
func (g *Gateway) Close() { g.closed.Store(true) }

// Drain refuses new calls and waits until the running ones have ended, or until
// ctx ends; then it ends them (a stream by an error event) and waits until all
// are settled.
func (g *Gateway) Drain(ctx context.Context) {
	g.Close()
	idle := g.running.wait()
	select {
	case <-idle:
		return
	case <-ctx.Done():
	}
	g.running.endAll(errShutdown)
	<-idle
}

// Running is the number of calls that are on their way.
func (g *Gateway) Running() int { return g.running.len() }

// Streams is the number of answers that are being passed on event by event.
func (g *Gateway) Streams() int { return int(g.streams.Load()) }

// flight is one call on its way through the gateway.
type flight struct {
	g      *Gateway
	st     *state
	call   *Call
	key    *db.Key
	route  *route
	body   *payload
	demand demand
	// res is what is reserved, since claimed; held until it is settled or released.
	res     db.Reservation
	held    bool
	claimed time.Time
	// turned says that its turn in the rotation of its model is used up.
	turned bool
	// failed are the attempts that did not become the answer, trying is the last.
	failed []*attempt
	trying *attempt
	first  attempt // memory of the first one, which is mostly the only one
	// place is where it stands among those that are running, from 1; 0 = nowhere.
	place int
}

// Do serves one call: who is it, what may it, where to, what does it hold; then
// the request goes out, and its answer comes back as a Body that the meter
// reads along with. The answer is the provider's, or TokenHub's own (the list
// of models, the key). The error is an [*Error] to be rendered, or the cause
// for which ctx ended when there is nobody left to answer.
//
// ctx must be the one that call.Cancel ends. Whoever holds the answer's Body
// owns the reservation: its completing bytes or its Close settle it, whichever
// comes first, exactly once.
func (g *Gateway) Do(ctx context.Context, call *Call) (*Response, error) {
	if g.closed.Load() {
		return nil, errClosed()
	}
	key, err := g.verify(ctx, call)
	if err != nil {
		return nil, err
	}
	f := &flight{g: g, st: g.state.Load(), call: call, key: key}
	g.running.add(f)
	if g.closed.Load() { // meanwhile: a drain may have seen nobody
		f.finish()
		return nil, errClosed()
	}
	defer func() {
		if p := recover(); p != nil { // gives back what it holds; the door tells of it
			if f.trying != nil {
				f.trying.close()
			}
			f.finish()
			panic(p)
		}
	}()
	resp, err := f.do(ctx)
	if err != nil {
		f.finish()
		return nil, f.explain(ctx, err)
	}
	resp.Header.Set("X-Inferoute-Request-Id", call.ID)
	return resp, nil
}

func errClosed() *Error {
	return &Error{Code: "shutting_down", RetryAfter: retrySoon, Message: "The server is stopping. Try again in a moment."}
}

// verify is hop 2: the key whose secret was presented, or why there is none.
func (g *Gateway) verify(ctx context.Context, call *Call) (*db.Key, error) {
	secret, err := call.presented()
	if err != nil {
		return nil, errKey(err)
	}
	key, err := g.verifier.Verify(ctx, secret, call.From)
	if err == nil {
		call.secret, call.keyID = secret, key.ID
		return key, nil
	}
	var refused *auth.Refused
	var many *auth.TooMany
	var busy *auth.Busy
	switch {
	case errors.As(err, &refused):
		return nil, errKey(err)
	case errors.As(err, &many):
		return nil, &Error{Code: "too_many_failures", RetryAfter: many.RetryAfter, Err: err,
			Message: "Too many wrong API keys came from here, or for this key. Wait, and check the key that is configured."}
	case errors.As(err, &busy):
		return nil, &Error{Code: "server_busy", RetryAfter: busy.RetryAfter, Err: err,
			Message: "The server is checking as many new API keys as it can. Try again in a moment."}
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, errUnreadable(err)
}

func errUnreadable(err error) *Error {
	return &Error{Code: "storage_unavailable", RetryAfter: retrySoon, Err: err,
		Message: "The server can't read its store at the moment. Try again soon."}
}

// precheck decides what can be decided about a call by its headers alone, before
// its body is asked for.
func (g *Gateway) precheck(ctx context.Context, call *Call) error {
	key, err := g.verify(ctx, call)
	if err != nil {
		return err
	}
	f := &flight{g: g, call: call, key: key}
	if err := checkPath(call.Path); err != nil {
		return f.explain(ctx, err)
	}
	if err := admit(key, call); err != nil {
		return f.explain(ctx, err)
	}
	if b := g.state.Load().bodies; call.Length > b.most {
		return f.explain(ctx, b.tooLarge())
	}
	return nil
}

// do is hops 3 to 6.
func (f *flight) do(ctx context.Context) (*Response, error) {
	// The key may have been revoked between its check and the moment from which
	// a revocation ends this call.
	live, err := f.g.store.Key(ctx, f.key.ID)
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && !live.RevokedAt.IsZero():
		return nil, errKey(errRevoked)
	case err != nil:
		return nil, errUnreadable(err)
	}
	f.g.store.TouchKey(f.key.ID, f.call.Start)
	if err := checkPath(f.call.Path); err != nil {
		return nil, err
	}
	if err := admit(f.key, f.call); err != nil {
		return nil, err
	}
	if f.call.Method == "GET" || f.call.Method == "HEAD" {
		switch f.call.endpoint() {
		case models:
			return f.models()
		case ownKey:
			return f.ownKey(ctx)
		}
	}
	if err := f.plan(ctx); err != nil {
		return nil, err
	}
	return f.forward(ctx)
}

// plan is hop 3: what the call asks for, where it may go, what it may use at most.
func (f *flight) plan(ctx context.Context) (err error) {
	if f.body, err = f.st.bodies.read(ctx, f.call, needsModel(f.key) || f.st.capped()); err != nil {
		return err
	}
	var refusal *Error
	if f.route, refusal = f.st.route(f.key, f.call, f.body); refusal != nil {
		if refusal.Code == "model_not_found" {
			f.g.refresher.soon(f.g.now())
		}
		return refusal
	}
	if f.demand, refusal = demandOf(f.key, f.call, f.route, f.body); refusal != nil {
		return refusal
	}
	return nil
}

// explain turns what went wrong into what the caller is told, with where the
// key stands in the minute. What ended the call comes first: a body that can't be
// read any more, for one, only follows from it.
func (f *flight) explain(ctx context.Context, err error) error {
	var e *Error
	switch cause := causeOf(ctx); {
	case errors.Is(cause, errRevoked):
		e = errKey(errRevoked)
	case errors.Is(cause, errShutdown):
		e = errClosed()
	case cause != nil:
		return cause
	case !errors.As(err, &e):
		e = &Error{Code: "internal_error", Err: err, Message: "Something went wrong in the gateway. Its log says more under this request ID."}
	}
	if (f.key.Limits.RequestsPerMinute > 0 || f.key.Limits.TokensPerMinute > 0) && e.Minute == (db.MinuteState{}) && e.Status() != 401 {
		shown := *e
		shown.Minute = f.minute()
		e = &shown
	}
	return e
}

// minute is where the key stands in the minute.
func (f *flight) minute() db.MinuteState {
	if f.res.Minute != (db.MinuteState{}) {
		return f.res.Minute
	}
	use, err := f.g.store.KeyUsage(context.Background(), f.key.ID, f.g.now())
	if err != nil {
		return db.MinuteState{}
	}
	return minuteOf(f.key.Limits, use)
}

// end ends the call from outside: see [running].
func (f *flight) end(cause error) {
	f.call.Cancel(cause)
	if f.call.Hurry != nil {
		f.call.Hurry()
	}
}

// finish gives back all that the call still holds and takes it off the list.
func (f *flight) finish() {
	if f.held {
		f.held = false
		f.g.store.Release(context.Background(), f.res)
		f.res = db.Reservation{} // it does not count in the minute either
	}
	if f.body != nil {
		f.body.close()
	}
	f.g.running.remove(f)
}
