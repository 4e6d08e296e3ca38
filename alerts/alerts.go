// Package alerts tells people when a budget is nearly used up: a message to
// each of the configured targets at each of the configured percentages, once
// for a key, limit and window, across restarts too.
//
//	a := alerts.New(alerts.Options{Store: store, Config: current, Log: log})
//	stop := store.WatchUsage(a.Notice)   // after each settlement; never waits
//	err := a.Run(ctx)                    // sends until ctx ends
//
// Targets are URLs as Shoutrrr takes them (ntfy, Gotify, Discord, Slack, SMTP,
// a generic webhook, ...). They hold secrets, so that neither a URL nor a part
// of one is ever logged.
package alerts

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/config"
	"tokenhub/db"
)

// Store is what alerts need of the engine.
type Store interface {
	Key(ctx context.Context, id string) (*db.Key, error)
	AllKeys(ctx context.Context) ([]*db.Key, error)
	KeyUsage(ctx context.Context, id string, t time.Time) (db.KeyUsage, error)
	ProviderSpend(ctx context.Context, provider string, t time.Time) (spent, held int64)
	Setting(ctx context.Context, name string) (string, error)
	PutSetting(ctx context.Context, name, value string, a db.Audit) error
}

// Options are what [Alerts] are made of.
type Options struct {
	Store  Store
	Config func() *config.Config
	Log    zerolog.Logger
	// Now is the clock; nil = time.Now.
	Now func() time.Time
	// Send sends a message to one target and returns when it was taken or
	// refused; nil = by Shoutrrr.
	Send func(ctx context.Context, target config.Secret, message string) error
}

const (
	// sweepEvery is how often all budgets are looked at; those of keys are also
	// looked at when they change.
	sweepEvery = 30 * time.Second
	// maxSending is how many alerts are on their way at once, most of them waiting
	// for a target that is down; maxTries how many are at one target, which bears
	// on nobody else then.
	maxSending, maxTries = 100, 4
)

// Alerts watch budgets.
type Alerts struct {
	o Options
	// due are alerts to be sent. When it is full, a budget is noticed again in
	// the next sweep.
	due chan alert

	// loaded: it is known what was sent before the start.
	loaded atomic.Bool

	mu    sync.Mutex // guards what follows
	made  map[string]*made
	gates map[config.Secret]chan struct{} // the tries at each target

	saving sync.Mutex // held while it is written down what was sent
}

// alert is one message that has to be sent.
type alert struct {
	id      string
	ids     []string // its own and those of the lower ones that it stands for
	ends    int64    // of the window, as in made
	message string
}

// New returns alerts. It starts nothing.
func New(o Options) *Alerts {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Send == nil {
		o.Send = shout
	}
	return &Alerts{o: o, due: make(chan alert, 100), made: map[string]*made{}, gates: map[config.Secret]chan struct{}{}}
}

// Notice looks at where a key stands. It is quick and never waits, as
// [db.Ledger] wants it of a watcher.
func (a *Alerts) Notice(keyID string, u db.KeyUsage) {
	if !a.loaded.Load() || !a.wanted() {
		return
	}
	key, err := a.o.Store.Key(context.Background(), keyID)
	if err != nil {
		return
	}
	for _, b := range budgets(key, u) {
		a.look(b)
	}
}

// wanted reports whether anybody is to be told of anything.
func (a *Alerts) wanted() bool {
	cfg := a.o.Config()
	return len(cfg.Alerts.URLs) > 0 && len(cfg.Alerts.At) > 0
}

// sweep looks at all budgets. A key that has used up its own settles nothing any
// more, so that what was missed (by the end of the process, a full queue, a
// target that was not configured yet) would otherwise never be noticed.
func (a *Alerts) sweep(ctx context.Context) {
	if !a.wanted() {
		return
	}
	now, cfg := a.o.Now(), a.o.Config()
	for _, p := range cfg.Providers {
		if p.MonthlyUSD > 0 {
			spent, _ := a.o.Store.ProviderSpend(ctx, p.Name, now)
			a.look(budgetOfProvider(p.Name, p.MonthlyUSD, spent, db.MonthOf(now, cfg.Timezone)))
		}
	}
	keys, err := a.o.Store.AllKeys(ctx)
	if err != nil {
		return // ctx has ended: keys are in memory
	}
	for _, key := range keys {
		if !budgeted(key) || !key.RevokedAt.IsZero() {
			continue
		}
		if u, err := a.o.Store.KeyUsage(ctx, key.ID, now); err == nil {
			for _, b := range budgets(key, u) {
				a.look(b)
			}
		}
	}
}

// Run sends what is due until ctx ends. What was not sent by then is noticed
// again after the next start.
func (a *Alerts) Run(ctx context.Context) error {
	if err := a.load(ctx); err != nil {
		a.o.Log.Error().Err(err).Msg("alerts: it can't be read what was sent before; some may come twice")
	}
	a.loaded.Store(true)
	a.sweep(ctx)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var sending sync.WaitGroup
	defer sending.Wait()
	free := make(chan struct{}, maxSending)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.sweep(ctx)
		case one := <-a.due:
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			sending.Go(func() {
				defer func() { <-free }()
				a.deliver(ctx, one)
			})
		}
	}
}

// deliver sends an alert to all targets that have not taken it before a restart,
// and writes down that it was sent when each has taken it or was given up.
func (a *Alerts) deliver(ctx context.Context, one alert) {
	targets := a.o.Config().Alerts.URLs
	var open sync.WaitGroup
	for i, target := range targets {
		if a.took(one, target) {
			continue
		}
		open.Go(func() {
			if a.try(ctx, i, target, one.message) {
				a.take(one, target)
				a.writeDown(ctx)
			}
		})
	}
	open.Wait()
	if ctx.Err() != nil {
		return
	}
	a.finish(one)
	a.writeDown(ctx)
}

// writeDown saves what was sent, also what was taken at the very end.
func (a *Alerts) writeDown(ctx context.Context) {
	if err := a.save(context.WithoutCancel(ctx)); err != nil {
		a.o.Log.Error().Err(err).Msg("alerts: it can't be written down what was sent; it may come again after a restart")
	}
}

// pauses are the waits before each further try to reach a target.
var pauses = []time.Duration{2 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute}

// try sends a message to a target, again after each of the pauses, and reports
// whether it was taken.
func (a *Alerts) try(ctx context.Context, number int, target config.Secret, message string) bool {
	for n := 0; ; n++ {
		err := a.send(ctx, target, message)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		event := a.o.Log.Warn().Int("target", number+1).Str("service", service(target)).Str("cause", scrub(err, target))
		if n == len(pauses) {
			event.Msg("alerts: a target was given up; alerts.urls may be wrong")
			return false
		}
		event.Dur("again_in", pauses[n]).Msg("alerts: a target can't be reached")
		wait := time.NewTimer(pauses[n])
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return false
		}
	}
}

// send tries a target once, when there is room for a try.
func (a *Alerts) send(ctx context.Context, target config.Secret, message string) error {
	a.mu.Lock()
	gate := a.gates[target]
	if gate == nil {
		gate = make(chan struct{}, maxTries)
		a.gates[target] = gate
	}
	a.mu.Unlock()
	select {
	case gate <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-gate }()
	return a.o.Send(ctx, target, message)
}

// Test sends a message to each target, once, and returns what became of it, in
// the order of the configuration: nil, or an error without a secret.
func (a *Alerts) Test(ctx context.Context) []error {
	targets := a.o.Config().Alerts.URLs
	results := make([]error, len(targets))
	var all sync.WaitGroup
	for i, target := range targets {
		all.Go(func() {
			if err := a.o.Send(ctx, target, "TokenHub: this is a test. Alerts about budgets will come here."); err != nil {
				results[i] = fmt.Errorf("target %d (%s): %s", i+1, service(target), scrub(err, target))
			}
		})
	}
	all.Wait()
	return results
}
