package alerts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/config"
	"tokenhub/db"
	"tokenhub/db/dbtest"
)

// world is a store with one key, and alerts that are collected.
type world struct {
	t     *testing.T
	store *dbtest.Mem
	cfg   *config.Config
	log   bytes.Buffer

	mu   sync.Mutex
	sent []string
	fail map[string]error // by target
}

func newWorld(t *testing.T, limits db.Limits) *world {
	w := &world{t: t, store: dbtest.Memory(dbtest.Options{}), cfg: config.Defaults(), fail: map[string]error{}}
	w.cfg.Alerts = config.Alerts{URLs: []config.Secret{"ntfy://topic"}, At: []int{80, 100}}
	if _, err := w.store.PutKey(t.Context(), &db.Key{ID: "k", Name: "kids", Limits: limits, CreatedAt: time.Now()}, db.Audit{}); err != nil {
		t.Fatal(err)
	}
	return w
}

// run starts alerts and returns them with what ends them.
func (w *world) run() (a *Alerts, stop func()) {
	a = New(Options{Store: w.store, Config: func() *config.Config { return w.cfg }, Log: zerolog.New(zerolog.SyncWriter(&w.log)),
		Send: func(_ context.Context, target config.Secret, message string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if err := w.fail[target.Reveal()]; err != nil {
				return err
			}
			w.sent = append(w.sent, message)
			return nil
		}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	synctest.Wait()
	return a, func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	}
}

// messages are those that were sent since they were asked for last.
func (w *world) messages() []string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.sent
	w.sent = nil
	return list
}

func monthly(tokens int64) db.KeyUsage {
	return db.KeyUsage{Month: db.WindowUse{Tokens: tokens, Resets: time.Now().Add(240 * time.Hour).Truncate(24 * time.Hour)}}
}

func TestOnceForEachPercentageAndWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, db.Limits{MonthlyTokens: 1000})
		a, stop := w.run()
		a.Notice("k", monthly(799))
		if got := w.messages(); len(got) != 0 {
			t.Errorf("below: %q", got)
		}
		a.Notice("k", monthly(800))
		a.Notice("k", monthly(850))
		if got := w.messages(); len(got) != 1 || !strings.Contains(got[0], `"kids" (th-k) has used 80 % of its limit monthly_tokens: 800 tokens of 1000 tokens. It resets at `) {
			t.Errorf("at 80 %%: %q", got)
		}
		a.Notice("k", monthly(1000))
		a.Notice("k", monthly(1200))
		if got := w.messages(); len(got) != 1 || !strings.Contains(got[0], "has used up") {
			t.Errorf("at 100 %%: %q", got)
		}
		stop()

		// After a restart nothing is said again, ...
		a, stop = w.run()
		defer stop()
		a.Notice("k", monthly(1200))
		if got := w.messages(); len(got) != 0 {
			t.Errorf("after a restart: %q", got)
		}
		// ... but in the next window it is.
		time.Sleep(11 * 24 * time.Hour)
		a.Notice("k", monthly(900))
		if got := w.messages(); len(got) != 1 {
			t.Errorf("in the next window: %q", got)
		}
	})
}

func TestTheHighestPercentageSpeaksForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, db.Limits{TotalUSD: 2_500_000})
		a, stop := w.run()
		defer stop()
		a.Notice("k", db.KeyUsage{Total: db.WindowUse{Cost: 3_000_000}})
		a.Notice("k", db.KeyUsage{Total: db.WindowUse{Cost: 2_100_000}})
		if got := w.messages(); len(got) != 1 || !strings.Contains(got[0], "used up its limit total_usd: $3 of $2.5.") {
			t.Errorf("%q", got)
		}
		// A raised limit is another one.
		k, err := w.store.Key(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		k = k.Clone()
		k.Limits.TotalUSD = 3_500_000
		if _, err := w.store.PutKey(t.Context(), k, db.Audit{}); err != nil {
			t.Fatal(err)
		}
		a.Notice("k", db.KeyUsage{Total: db.WindowUse{Cost: 3_000_000}})
		if got := w.messages(); len(got) != 1 || !strings.Contains(got[0], "80 %") {
			t.Errorf("%q", got)
		}
	})
}

func TestProvidersCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, db.Limits{})
		w.cfg.Providers = []config.Provider{{Name: "openai", MonthlyUSD: 10_000_000}}
		_, stop := w.run()
		defer stop()
		r, err := w.store.Reserve(t.Context(), db.Claim{KeyID: "k", Time: time.Now(), Provider: "openai", ProviderLimit: 10_000_000})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.store.Settle(t.Context(), r, &db.Record{ID: "r", Start: time.Now(), KeyID: "k", Provider: "openai", Status: 200, Cost: 9_000_000, Source: db.FromProvider}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * sweepEvery)
		if got := w.messages(); len(got) != 1 || !strings.Contains(got[0], `the provider "openai" has used 80 % of its limit monthly_usd: $9 of $10.`) {
			t.Errorf("%q", got)
		}
	})
}

// A dead target delays neither the others nor whoever notices, is tried a few
// times, and given up in the log without its secret.
func TestDeadTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, db.Limits{MonthlyTokens: 1000})
		dead := config.Secret("discord://s3cr3t-token@channel")
		w.cfg.Alerts.URLs = append(w.cfg.Alerts.URLs, dead)
		w.fail[dead.Reveal()] = errors.New("post https://discord/api/channel/s3cr3t-token: connection refused")
		a, stop := w.run()
		start := time.Now()
		for i := range 900 {
			a.Notice("k", monthly(int64(i)+1))
		}
		if time.Since(start) > 0 {
			t.Error("Notice has waited")
		}
		if got := w.messages(); len(got) != 1 {
			t.Errorf("the living target got %q", got)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := strings.Count(w.log.String(), "can't be reached"); n != len(pauses) || !strings.Contains(w.log.String(), "given up") {
			t.Errorf("%d tries are logged:\n%s", n+1, w.log.String())
		}
		if strings.Contains(w.log.String(), "s3cr3t") || strings.Contains(w.log.String(), "channel") {
			t.Errorf("the log holds the target:\n%s", w.log.String())
		}
		// A target that is given up is no reason to say it all again.
		stop()
		a, stop = w.run()
		a.Notice("k", monthly(999))
		if got := w.messages(); len(got) != 0 {
			t.Errorf("again: %q", got)
		}
		stop()
	})
}

// What was not sent before the end is sent after the next start.
func TestUnsentIsSentAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, db.Limits{MonthlyTokens: 1000})
		w.fail["ntfy://topic"] = errors.New("down")
		a, stop := w.run()
		a.Notice("k", monthly(900))
		synctest.Wait()
		stop()
		delete(w.fail, "ntfy://topic")
		a, stop = w.run()
		defer stop()
		a.Notice("k", monthly(900))
		if got := w.messages(); len(got) != 1 {
			t.Errorf("%q", got)
		}
	})
}

// used counts tokens of the key in the store.
func (w *world) used(tokens int64) {
	w.t.Helper()
	r, err := w.store.Reserve(w.t.Context(), db.Claim{KeyID: "k", Time: time.Now()})
	if err != nil {
		w.t.Fatal(err)
	}
	rec := &db.Record{ID: "r", Start: time.Now(), KeyID: "k", Provider: "p", Status: 200, Usage: db.Usage{Output: tokens}, Source: db.FromProvider}
	if err := w.store.Settle(w.t.Context(), r, rec); err != nil {
		w.t.Fatal(err)
	}
}

// A key that has used up its budget settles nothing any more: what was not sent
// before the end, or had no target then, is noticed without it.
func TestUsedUpIsNoticedWithoutASettlement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, db.Limits{MonthlyTokens: 1000})
		targets := w.cfg.Alerts.URLs
		w.used(1000)
		w.cfg.Alerts.URLs = nil
		_, stop := w.run()
		if got := w.messages(); len(got) != 0 {
			t.Errorf("without a target: %q", got)
		}
		stop()
		w.cfg.Alerts.URLs = targets
		_, stop = w.run()
		defer stop()
		if got := w.messages(); len(got) != 1 || !strings.Contains(got[0], "used up its limit monthly_tokens: 1000 tokens of 1000") {
			t.Errorf("%q", got)
		}
		time.Sleep(10 * sweepEvery)
		if got := w.messages(); len(got) != 0 {
			t.Errorf("again: %q", got)
		}
	})
}

// An answer may end after the window that it counts in.
func TestNobodyHearsOfAWindowThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, db.Limits{MonthlyTokens: 1000})
		a, stop := w.run()
		defer stop()
		before := monthly(1000)
		a.Notice("k", before)
		if got := w.messages(); len(got) != 1 {
			t.Errorf("%q", got)
		}
		time.Sleep(11 * 24 * time.Hour)
		a.Notice("k", monthly(900)) // what is over is forgotten with it
		if got := w.messages(); len(got) != 1 {
			t.Errorf("%q", got)
		}
		a.Notice("k", before)
		if got := w.messages(); len(got) != 0 {
			t.Errorf("%q", got)
		}
	})
}

// The tries at a dead target do not keep others waiting.
func TestDeadTargetAmongManyAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys = 60
		w := newWorld(t, db.Limits{})
		for i := range keys {
			if _, err := w.store.PutKey(t.Context(), &db.Key{ID: fmt.Sprint("k", i), Limits: db.Limits{MonthlyTokens: 10}, CreatedAt: time.Now()}, db.Audit{}); err != nil {
				t.Fatal(err)
			}
		}
		w.cfg.Alerts.URLs = append(w.cfg.Alerts.URLs, "ntfy://dead")
		w.fail["ntfy://dead"] = errors.New("down")
		a, stop := w.run()
		defer stop()
		for i := range keys {
			a.Notice(fmt.Sprint("k", i), monthly(9))
		}
		if got := w.messages(); len(got) != keys {
			t.Errorf("%d alerts at once, want %d", len(got), keys)
		}
	})
}

func TestScrub(t *testing.T) {
	for _, target := range []config.Secret{"slack://hook:AAAA-BBBB-CCCC@webhook", "smtp://user:pa%24sword@mail.example:25/?from=a@b.c&to=secret@d.e", "generic://host.example/path/secretpath?token=secretquery", "::bad secretbad"} {
		u := strings.TrimPrefix(target.Reveal(), "x")
		err := fmt.Errorf("can't send to %s: AAAA-BBBB-CCCC pa$sword pa%%24sword secret@d.e secretpath secretquery secretbad host.example", u)
		text := scrub(err, target)
		for _, secret := range parts(target.Reveal()) {
			if len(secret) >= 3 && strings.Contains(text, secret) {
				t.Errorf("%s is left in %s", secret, text)
			}
		}
	}
}

// Services make other URLs of the target's: its words are not shown either.
func TestScrubWordsOfATarget(t *testing.T) {
	text := scrub(errors.New(`Post "https://hooks.slack.com/services/TAAA/BBBBB/cccccc": connection refused`), "slack://hook:TAAA-BBBBB-CCCCCC@webhook")
	if want := `Post "https://***s.slack.com/services/***/***/***": connection refused`; text != want {
		t.Errorf("%s, want %s", text, want)
	}
}

// Shoutrrr really sends.
func TestGenericWebhook(t *testing.T) {
	got := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- string(body)
	}))
	t.Cleanup(s.Close)
	w := newWorld(t, db.Limits{})
	w.cfg.Alerts.URLs = []config.Secret{config.Secret("generic+" + s.URL), "nonsense://x"}
	a := New(Options{Store: w.store, Config: func() *config.Config { return w.cfg }, Log: zerolog.New(zerolog.SyncWriter(&w.log))})
	results := a.Test(t.Context())
	if len(results) != 2 || results[0] != nil || results[1] == nil {
		t.Fatalf("%v", results)
	}
	if body := <-got; !strings.Contains(body, "this is a test") {
		t.Errorf("%q", body)
	}
	if !strings.HasPrefix(results[1].Error(), "target 2 (nonsense): ") {
		t.Errorf("%v", results[1])
	}
}

// A limit of 7, 14, 28, 55 or 109 was used up and nobody was told: in floating
// point 100 % of it was a little more than the limit.
func TestPercentagesAreExact(t *testing.T) {
	limits := []int64{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64/100*100 + 7, 1<<53 + 1, 1e15 + 7, 1e18 + 99}
	for n := range int64(20_000) {
		limits = append(limits, n+1)
	}
	for _, limit := range limits {
		if got := share(limit, 100); got != limit {
			t.Fatalf("100 %% of %d is %d", limit, got)
		}
		for percent := 1; percent <= 100; percent++ {
			exact := new(big.Int).Mul(big.NewInt(limit), big.NewInt(int64(percent)))
			exact.Add(exact, big.NewInt(99)).Div(exact, big.NewInt(100))
			if got := share(limit, percent); !exact.IsInt64() || got != exact.Int64() {
				t.Fatalf("%d %% of %d is %d, want %s", percent, limit, got, exact)
			}
		}
	}
	for _, limit := range []int64{7, 14, 28, 55, 56, 109, 1<<53 + 1, math.MaxInt64} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, db.Limits{MonthlyTokens: limit})
			a, stop := w.run()
			defer stop()
			a.Notice("k", monthly(limit-1))
			if got := w.messages(); slices.ContainsFunc(got, func(m string) bool { return strings.Contains(m, "used up") }) {
				t.Errorf("one below %d: %q", limit, got)
			}
			a.Notice("k", monthly(limit))
			if got := w.messages(); len(got) != 1 || !strings.Contains(got[0], "used up") {
				t.Errorf("at %d: %q", limit, got)
			}
		})
	}
}

// While one of two targets was down, a restart told the other one again.
func TestARestartTellsOnlyWhoWasNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, db.Limits{MonthlyTokens: 1000})
		dead := config.Secret("discord://s3cr3t-token@channel")
		w.cfg.Alerts.URLs = append(w.cfg.Alerts.URLs, dead)
		w.fail[dead.Reveal()] = errors.New("down")
		for range 2 {
			a, stop := w.run()
			a.Notice("k", monthly(900))
			synctest.Wait()
			stop()
		}
		if got := w.messages(); len(got) != 1 {
			t.Errorf("the living target got %q", got)
		}
		if text, err := w.store.Setting(t.Context(), setting); err != nil || strings.Contains(text, "s3cr3t") {
			t.Errorf("%s, %v", text, err)
		}
		delete(w.fail, dead.Reveal())
		a, stop := w.run()
		a.Notice("k", monthly(900))
		if got := w.messages(); len(got) != 1 {
			t.Errorf("the other one came back and got %q", got)
		}
		stop()
		// All were told: one entry, for good.
		if text, err := w.store.Setting(t.Context(), setting); err != nil || strings.Count(text, ":") != 1 {
			t.Errorf("%s, %v", text, err)
		}
		a, stop = w.run()
		defer stop()
		a.Notice("k", monthly(900))
		if got := w.messages(); len(got) != 0 {
			t.Errorf("again: %q", got)
		}
	})
}
