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
	"encoding/json"
	"errors"
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

// setting is where it is written down what was sent: JSON, from the alert to the
// end of its window in Unix seconds, 0 for a window without end.
const setting = "alerts.sent"

// providersEvery is how often the caps on spending at providers are looked at.
const providersEvery = 15 * time.Second

// Alerts watch budgets.
type Alerts struct {
	o Options
	// due are alerts to be sent. When it is full, a budget is noticed again at
	// its next settlement.
	due chan alert

	// loaded: it is known what was sent before the start.
	loaded atomic.Bool

	mu   sync.Mutex // guards what follows
	made map[string]*made

	saving sync.Mutex // held while it is written down what was sent
}

// made is an alert that must not be made again.
type made struct {
	ends int64 // of the window, Unix seconds, 0 = never
	sent bool  // to each target that can be reached
}

// alert is one message that has to be sent.
type alert struct {
	ids     []string // of this alert and of the lower ones that it stands for
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
	return &Alerts{o: o, due: make(chan alert, 100), made: map[string]*made{}}
}

// budget is one limit with what was used of it.
type budget struct {
	owner, name string // of the key or provider: its ID, and how people call it
	limit       string
	max, used   int64
	usd         bool
	ends        time.Time
}

// Notice looks at where a key stands. It is quick and never waits, as
// [db.Ledger] wants it of a watcher.
func (a *Alerts) Notice(keyID string, u db.KeyUsage) {
	if cfg := a.o.Config(); !a.loaded.Load() || len(cfg.Alerts.URLs) == 0 || len(cfg.Alerts.At) == 0 {
		return
	}
	key, err := a.o.Store.Key(context.Background(), keyID)
	if err != nil {
		return
	}
	l := key.Limits
	for _, b := range [...]budget{
		{limit: db.LimitDayTokens, max: l.DailyTokens, used: u.Day.Tokens, ends: u.Day.Resets},
		{limit: db.LimitMonthTokens, max: l.MonthlyTokens, used: u.Month.Tokens, ends: u.Month.Resets},
		{limit: db.LimitTotalTokens, max: l.TotalTokens, used: u.Total.Tokens},
		{limit: db.LimitDayUSD, max: l.DailyUSD, used: u.Day.Cost, usd: true, ends: u.Day.Resets},
		{limit: db.LimitMonthUSD, max: l.MonthlyUSD, used: u.Month.Cost, usd: true, ends: u.Month.Resets},
		{limit: db.LimitTotalUSD, max: l.TotalUSD, used: u.Total.Cost, usd: true},
	} {
		if b.max > 0 {
			b.owner, b.name = key.ID, fmt.Sprintf("the API key %q (%s)", key.Name, key.Prefix())
			a.look(b)
		}
	}
}

// providers looks at the caps on spending at providers.
func (a *Alerts) providers(ctx context.Context) {
	now := a.o.Now()
	cfg := a.o.Config()
	for _, p := range cfg.Providers {
		if p.MonthlyUSD > 0 {
			spent, _ := a.o.Store.ProviderSpend(ctx, p.Name, now)
			a.look(budget{owner: "provider " + p.Name, name: fmt.Sprintf("the provider %q", p.Name), limit: "monthly_usd",
				max: p.MonthlyUSD, used: spent, usd: true, ends: db.MonthOf(now, cfg.Timezone).End})
		}
	}
}

// look makes an alert due for the highest percentage that is reached, unless it
// was sent before; the lower ones go with it.
func (a *Alerts) look(b budget) {
	reached := 0
	at := a.o.Config().Alerts.At
	for _, percent := range at {
		// A division, since the product may be too large for an int64.
		if percent > reached && float64(b.used) >= float64(b.max)/100*float64(percent) {
			reached = percent
		}
	}
	if reached == 0 {
		return
	}
	ends := int64(0)
	if !b.ends.IsZero() {
		ends = b.ends.Unix()
	}
	// A limit that was changed is another one.
	id := func(percent int) string { return fmt.Sprintf("%s %s %d %d %d", b.owner, b.limit, b.max, ends, percent) }
	var ids []string
	for _, percent := range at {
		if percent <= reached {
			ids = append(ids, id(percent))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.made[id(reached)] != nil {
		return
	}
	select {
	case a.due <- alert{ids: ids, message: b.message(reached)}:
	default:
		return
	}
	for _, id := range ids {
		a.made[id] = &made{ends: ends}
	}
}

// message is what people read.
func (b budget) message(percent int) string {
	amount := func(n int64) string {
		if b.usd {
			return "$" + config.FormatUSD(n)
		}
		return fmt.Sprintf("%d tokens", n)
	}
	text := fmt.Sprintf("TokenHub: %s has used %d %% of its limit %s", b.name, percent, b.limit)
	if percent >= 100 {
		text = fmt.Sprintf("TokenHub: %s has used up its limit %s", b.name, b.limit)
	}
	text += fmt.Sprintf(": %s of %s.", amount(b.used), amount(b.max))
	if !b.ends.IsZero() {
		text += " It resets at " + b.ends.UTC().Format(time.RFC3339) + "."
	}
	return text
}

// Run sends what is due until ctx ends. What was not sent by then is noticed
// again after the next start.
func (a *Alerts) Run(ctx context.Context) error {
	if err := a.load(ctx); err != nil {
		a.o.Log.Error().Err(err).Msg("alerts: it can't be read what was sent before; some may come twice")
	}
	a.loaded.Store(true)
	tick := time.NewTicker(providersEvery)
	defer tick.Stop()
	var sending sync.WaitGroup
	defer sending.Wait()
	free := make(chan struct{}, 8) // how many alerts are on their way at once
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.providers(ctx)
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

// deliver sends an alert to all targets, and writes down that it was sent when
// each has taken it or was given up.
func (a *Alerts) deliver(ctx context.Context, one alert) {
	var targets sync.WaitGroup
	for i, target := range a.o.Config().Alerts.URLs {
		targets.Go(func() { a.try(ctx, i, target, one.message) })
	}
	targets.Wait()
	if ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	for _, id := range one.ids {
		if m := a.made[id]; m != nil {
			m.sent = true
		}
	}
	a.mu.Unlock()
	if err := a.save(ctx); err != nil {
		a.o.Log.Error().Err(err).Msg("alerts: it can't be written down what was sent; it may come again after a restart")
	}
}

// pauses are the waits before each further try to reach a target.
var pauses = []time.Duration{2 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute}

func (a *Alerts) try(ctx context.Context, number int, target config.Secret, message string) {
	for n := 0; ; n++ {
		err := a.o.Send(ctx, target, message)
		if err == nil || ctx.Err() != nil {
			return
		}
		event := a.o.Log.Warn().Int("target", number+1).Str("service", service(target)).Str("cause", scrub(err, target))
		if n == len(pauses) {
			event.Msg("alerts: a target was given up; alerts.urls may be wrong")
			return
		}
		event.Dur("again_in", pauses[n]).Msg("alerts: a target can't be reached")
		wait := time.NewTimer(pauses[n])
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
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

// load reads what was sent before; what was noticed meanwhile stays.
func (a *Alerts) load(ctx context.Context) error {
	text, err := a.o.Store.Setting(ctx, setting)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	before := map[string]int64{}
	if err := json.Unmarshal([]byte(text), &before); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, ends := range before {
		a.made[id] = &made{ends: ends, sent: true}
	}
	return nil
}

// maxSent bounds what is written down.
const maxSent = 10_000

// save writes down what was sent, and forgets the windows that are over.
func (a *Alerts) save(ctx context.Context) error {
	a.saving.Lock()
	defer a.saving.Unlock()
	text, err := json.Marshal(a.sent())
	if err != nil {
		return err
	}
	return a.o.Store.PutSetting(ctx, setting, string(text), db.Audit{})
}

func (a *Alerts) sent() map[string]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.o.Now().Unix()
	list := map[string]int64{}
	for id, m := range a.made {
		if m.ends != 0 && m.ends <= now {
			delete(a.made, id)
		} else if m.sent && len(list) < maxSent {
			list[id] = m.ends
		}
	}
	return list
}
