package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// impatient gives all providers short times.
func impatient(cfg *config.Config) {
	for i := range cfg.Providers {
		cfg.Providers[i].Timeouts = config.Timeouts{Connect: 300 * time.Millisecond, FirstByte: 150 * time.Millisecond, Idle: 150 * time.Millisecond}
	}
}

// faults are the ways in which a provider fails before a byte of its answer was
// passed on: where it is, or what it does.
func faults(t *testing.T) map[string]string {
	does := func(serve http.HandlerFunc) string { return newFake(t, serve).URL + "/v1" }
	tls := httptest.NewUnstartedServer(http.HandlerFunc(good)) // by an authority that nobody trusts
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	t.Cleanup(tls.Close)
	plain := newFake(t, good)
	return map[string]string{
		"dead port":                       deadPort(t),
		"unknown host":                    "http://provider.invalid/v1",
		"black hole":                      blackHole(t),
		"untrusted certificate":           tls.URL + "/v1",
		"no TLS":                          strings.Replace(plain.URL, "http:", "https:", 1) + "/v1",
		"closes at once":                  does(cut("", false)),
		"resets at once":                  does(cut("", true)),
		"no HTTP":                         does(cut("hello\r\n\r\n", false)),
		"resets after the headers":        does(cut("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", true)),
		"closes after the headers":        does(cut("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", false)),
		"silent":                          does(silent),
		"headers, then silence":           does(headersThenSilence("application/json")),
		"500":                             does(fails(500)),
		"503":                             does(fails(503)),
		"429 with Retry-After":            does(fails(429, "Retry-After", "1")),
		"529":                             does(fails(529)),
		"bad gateway without a body":      does(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }),
		"500 that streams and then stops": does(cut("HTTP/1.1 500 X\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n", false)),
	}
}

func TestEachFailureLeadsToTheNextTarget(t *testing.T) {
	for name, url := range faults(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			well := newFake(t, good)
			h := newHub(t, impatient, url, well.URL+"/v1")
			h.want(h.ask("house"), 200, "b")
			recs := h.store.Records()
			last := recs[len(recs)-1]
			if last.Provider != "b" || last.Usage.Tokens() != 12 || last.Cost != 17 || last.Attempt != 2 {
				t.Errorf("record %+v, want 12 tokens at b in the second attempt", last)
			}
			for _, r := range recs[:len(recs)-1] {
				if r.Provider != "a" || r.Cost != 0 || r.Usage != (db.Usage{}) || !r.Failed() {
					t.Errorf("record %+v of the failed attempt, want a failure that is charged nothing", r)
				}
			}
			use, _ := h.store.KeyUsage(t.Context(), "one", time.Now())
			if use.Day.Tokens != 12 || use.Day.Requests != 1 {
				t.Errorf("the key used %d tokens in %d requests, want 12 in 1", use.Day.Tokens, use.Day.Requests)
			}
			if well.hits.Load() != 1 {
				t.Errorf("b was called %d times", well.hits.Load())
			}
		})
	}
}

func TestWithoutFallbackTheFailurePasses(t *testing.T) {
	want := map[string]string{"500": "500", "503": "503", "529": "529", "429 with Retry-After": "429", "bad gateway without a body": "502",
		"500 that streams and then stops": "500",
		"silent":                          "provider_timeout", "headers, then silence": "provider_timeout", "black hole": "provider_timeout"}
	for name, url := range faults(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			well := newFake(t, good)
			h := newHub(t, func(cfg *config.Config) { impatient(cfg); cfg.Routing.FallbackOn = nil }, url, well.URL+"/v1")
			r := h.ask("house")
			got := r.code
			if r.provider != "" {
				got = strconv.Itoa(r.status)
			}
			if w := want[name]; w != "" && got != w || w == "" && got != "provider_unreachable" {
				t.Errorf("%v", r)
			}
			if well.hits.Load() != 0 {
				t.Error("the second target was called")
			}
		})
	}
}

func TestTheLastAnswerPassesWhateverItsStatus(t *testing.T) {
	busy, broken, dead := newFake(t, fails(429, "X-Should-Retry", "true")), newFake(t, fails(500)), deadPort(t)
	h := newHub(t, impatient, busy.URL+"/v1", broken.URL+"/v1")
	if r := h.ask("house"); r.status != 500 || r.provider != "b" || r.body != `{"error":{"message":"fault 500"}}` {
		t.Errorf("%v, want b's answer", r)
	}
	// The last one did not answer, an earlier one did.
	h = newHub(t, impatient, busy.URL+"/v1", dead, blackHole(t))
	if r := h.ask("house"); r.status != 429 || r.provider != "a" || r.header.Get("X-Should-Retry") != "true" || r.body != `{"error":{"message":"fault 429"}}` {
		t.Errorf("%v, want a's answer", r)
	}
	h = newHub(t, impatient, dead, blackHole(t))
	if r := h.ask("house"); r.status != 503 || r.code != "all_providers_failed" {
		t.Errorf("%v, want all_providers_failed", r)
	}
	// A fault of the request's is the same everywhere.
	wrong, well := newFake(t, fails(404)), newFake(t, good)
	h = newHub(t, impatient, wrong.URL+"/v1", well.URL+"/v1")
	h.want(h.ask("house"), 404, "a")
}

func TestNothingIsStartedTwiceAfterTheFirstByte(t *testing.T) {
	for name, serve := range map[string]http.HandlerFunc{
		"half a body":    cut("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"choices\":", false),
		"half a stream":  cut("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n14\r\ndata: {\"choices\":[]}\n", false),
		"stream headers": cut("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", false),
		"endless silence": func(w http.ResponseWriter, r *http.Request) {
			headersThenSilence("text/event-stream")(w, r)
		},
		"silence in a body": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
			_ = http.NewResponseController(w).Flush()
			silent(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			half, well := newFake(t, serve), newFake(t, good)
			h := newHub(t, impatient, half.URL+"/v1", well.URL+"/v1")
			r := h.ask("house")
			if r.status != 200 || r.provider != "a" || r.err == nil {
				t.Errorf("%v, want a broken answer of a's", r)
			}
			if half.hits.Load() != 1 || well.hits.Load() != 0 {
				t.Errorf("a was called %d times, b %d times, want once and never", half.hits.Load(), well.hits.Load())
			}
			for range restAfter - 1 {
				h.ask("house")
			}
			h.want(h.ask("house"), 200, "b") // it breaks off each answer: it rests
		})
	}
}

func TestRetriesOnlyWhereNobodyCouldBeReached(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve http.HandlerFunc
		want  int64
	}{{"500", fails(500), 1}, {"429", fails(429), 1}, {"broken", cut("", false), 1}, {"silent", silent, 1}} {
		p := newFake(t, c.serve)
		h := newHub(t, func(cfg *config.Config) { impatient(cfg); cfg.Routing.Retries = 3 }, p.URL+"/v1")
		h.ask("house")
		if got := p.hits.Load(); got != c.want {
			t.Errorf("%s: sent %d times, want %d", c.name, got, c.want)
		}
	}
	h := newHub(t, func(cfg *config.Config) { cfg.Routing.Retries = 2 }, "http://a.invalid/v1")
	dialer := &countingDialer{fail: 2}
	h.g.state.Load().providers[0].upstream = dialer
	h.want(h.ask("house"), 200, "a")
	if dialer.tries != 3 {
		t.Errorf("tried %d times, want 3", dialer.tries)
	}
	dialer.tries, dialer.fail = 0, 100
	if r := h.ask("house"); r.code != "provider_unreachable" || dialer.tries != 3 {
		t.Errorf("%v after %d tries, want provider_unreachable after 3", r, dialer.tries)
	}
}

// countingDialer can't be reached the first times.
type countingDialer struct{ tries, fail int }

func (d *countingDialer) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.tries++; d.tries <= d.fail {
		return nil, errors.New("no route to host")
	}
	w := httptest.NewRecorder()
	good(w, r)
	return w.Result(), nil
}

func TestAttemptsAreBounded(t *testing.T) {
	urls := make([]string, 12)
	for i := range urls {
		urls[i] = newFake(t, fails(500)).URL + "/v1"
	}
	h := newHub(t, nil, urls...)
	h.want(h.ask("house"), 500, string(rune('a'+maxAttempts-1)))
	h.g.now = func() time.Time { return time.Now().Add(time.Hour) }
	call := h.call("one", "/v1/chat/completions", `{"model":"house"}`)
	call.Start = time.Now()
	h.want(h.do(t.Context(), call), 500, "b") // two are always made
}

func TestABodyThatStreamsIsSentOnce(t *testing.T) {
	half, well := newFake(t, fails(500)), newFake(t, good)
	edit := func(cfg *config.Config) { cfg.Routing.Auto = []string{"house"} }
	ask := func(h *hub) reply {
		call := h.call("one", "/v1/audio/transcriptions", strings.Repeat("x", 1<<20))
		call.Header[1] = Header{"Content-Type", "application/octet-stream"}
		call.Body = io.MultiReader(call.Body)
		return h.do(t.Context(), call)
	}
	h := newHub(t, edit, half.URL+"/v1", well.URL+"/v1")
	h.want(ask(h), 500, "a")
	h = newHub(t, edit, deadPort(t), well.URL+"/v1")
	h.want(ask(h), 200, "b") // nothing of it was read yet
}

func TestReservationMovesToTheNextTarget(t *testing.T) {
	cheap, dear := newFake(t, fails(500)), newFake(t, good)
	edit := func(cfg *config.Config) {
		cfg.Prices[1].Output = 1_000_000_000 // 10 tokens for one cent
	}
	h := newHub(t, edit, cheap.URL+"/v1", dear.URL+"/v1")
	h.addKey("rich", db.Limits{DailyUSD: 20_000, ConcurrentRequests: 1, RequestsPerMinute: 10})
	h.want(h.askAs(t.Context(), "rich", "house"), 200, "b")
	use, _ := h.store.KeyUsage(t.Context(), "rich", time.Now())
	if use.Day.Cost != 5007 || use.Day.Requests != 1 || use.Minute.Requests != 1 {
		t.Errorf("use %+v, want 5007 micro-dollars in one request", use.Day)
	}
	// What is left pays for a but not for b: a's answer is the last one.
	h.addKey("poor", db.Limits{DailyUSD: 5_000})
	h.want(h.askAs(t.Context(), "poor", "house"), 500, "a")
	if r := h.askAs(t.Context(), "poor", "b/m"); r.code != "daily_spend_limit_reached" {
		t.Errorf("%v, want daily_spend_limit_reached", r)
	}
}

// What a model without a price costs can't be counted against a provider's cap: it
// goes elsewhere, or nowhere.
func TestModelWithoutPriceAtACappedProvider(t *testing.T) {
	a, b := newFake(t, good), newFake(t, good)
	h := newHub(t, func(cfg *config.Config) {
		cfg.Prices = nil
		cfg.Providers[0].MonthlyUSD = 1_000_000
	}, a.URL+"/v1", b.URL+"/v1")
	h.want(h.ask("house"), 200, "b")
	if r := h.ask("a/m"); r.status != 403 || r.code != "model_not_priced" {
		t.Errorf("%v, want model_not_priced", r)
	}
	r := h.do(t.Context(), h.call("one", "/v1/messages/count_tokens", `{"model":"a/m"}`)) // costs nothing
	h.want(r, 200, "a")
}

func TestFallbacksByHeader(t *testing.T) {
	broken, well := newFake(t, fails(500)), newFake(t, good)
	h := newHub(t, nil, broken.URL+"/v1", well.URL+"/v1")
	h.want(h.ask("a-1"), 500, "a")
	h.want(h.ask("a-1", "X-Inferoute-Fallback", "nobody, b-1"), 200, "b")
	h.want(h.ask("house", "X-Inferoute-Strategy", "cost"), 200, "b")
	if r := h.ask("house", "X-Inferoute-Strategy", "random"); r.status != 400 || r.code != "invalid_strategy" {
		t.Errorf("%v, want invalid_strategy", r)
	}
	k := h.key.Clone()
	k.Models = []string{"a-*"}
	if _, err := h.store.PutKey(t.Context(), k, db.Audit{}); err != nil {
		t.Fatal(err)
	}
	h.want(h.ask("a-1", "X-Inferoute-Fallback", "b-1"), 500, "a") // not allowed to this key
}

func TestCallerWhoLeavesWhileTargetsAreTried(t *testing.T) {
	held := newFake(t, fails(500))
	arrived := make(chan struct{})
	quiet := newFake(t, func(w http.ResponseWriter, r *http.Request) { close(arrived); silent(w, r) })
	h := newHub(t, nil, held.URL+"/v1", quiet.URL+"/v1")
	ctx, leave := context.WithCancelCause(t.Context())
	go func() { <-arrived; leave(errGone) }()
	if r := h.askAs(ctx, "one", "house"); !errors.Is(r.err, errGone) || r.status != 0 {
		t.Errorf("%v, want that nobody is answered", r)
	}
	recs := h.store.Records()
	if len(recs) != 2 || recs[0].Cost != 0 || recs[0].Source != "" || recs[1].Error != "canceled" || recs[1].Provider != "b" {
		t.Errorf("records %+v, want a failure at a and a canceled one at b", recs)
	}
	if c := h.g.state.Load().byName["b"].health.look("m", time.Now()); c.known {
		t.Error("a caller that left counts against the provider")
	}
}

// The caller may leave just when an answer comes that is not to be passed on.
func TestCallerWhoLeavesAtAFailedAnswer(t *testing.T) {
	ctx, leave := context.WithCancelCause(t.Context())
	p := newFake(t, fails(500))
	h := newHub(t, func(c *config.Config) { c.Providers[0].MaxConcurrency = 1 }, p.URL+"/v1")
	a := h.g.state.Load().byName["a"]
	a.upstream = leaving{a.upstream, func() { leave(errGone) }}
	if r := h.askAs(ctx, "one", "house"); !errors.Is(r.err, errGone) {
		t.Errorf("%v, want that nobody is answered", r)
	}
	if running, _, _ := a.queue.load(); running != 0 {
		t.Errorf("%d places are taken for ever", running)
	}
}

// leaving is a way to a provider on which the caller leaves when the answer comes.
type leaving struct {
	http.RoundTripper
	leave func()
}

func (l leaving) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil {
		// All of it is there, and stays.
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	l.leave()
	return resp, err
}

func TestRestIsLoggedOnceAndEnds(t *testing.T) {
	p, q := newFake(t, fails(503)), newFake(t, good)
	h := newHub(t, nil, p.URL+"/v1", q.URL+"/v1")
	now := time.Now()
	h.g.now = func() time.Time { return now }
	for range 10 {
		h.want(h.ask("house"), 200, "b")
	}
	if got := p.hits.Load(); got != restAfter {
		t.Errorf("the failing target was asked %d times, want %d", got, restAfter)
	}
	now = now.Add(firstRest)
	h.want(h.ask("house"), 200, "b") // a probe, in vain
	h.want(h.ask("house"), 200, "b")
	if got := p.hits.Load(); got != restAfter+1 {
		t.Errorf("it was probed %d times, want once", got-restAfter)
	}
	p.become(good)
	now = now.Add(2 * firstRest)
	h.want(h.ask("house"), 200, "a")
	h.want(h.ask("house"), 200, "a")
	if log := h.log.String(); strings.Count(log, "keeps failing") != 1 || strings.Count(log, "answers again") != 1 {
		t.Errorf("log:\n%s", log)
	}
	// A single target is tried although it rests.
	p.become(fails(500))
	for range 5 {
		h.want(h.ask("a/m"), 500, "a")
	}
	p.become(good)
	h.want(h.ask("a/m"), 200, "a")
}

func TestRetryAfterIsRespected(t *testing.T) {
	p, q := newFake(t, fails(429, "Retry-After", "30")), newFake(t, good)
	h := newHub(t, nil, p.URL+"/v1", q.URL+"/v1")
	now := time.Now()
	h.g.now = func() time.Time { return now }
	h.want(h.ask("house"), 200, "b")
	p.become(good)
	now = now.Add(29 * time.Second)
	h.want(h.ask("house"), 200, "b")
	now = now.Add(time.Second)
	h.want(h.ask("house"), 200, "a")
}

func TestProvidersOwn4xxSaysNothing(t *testing.T) {
	p := newFake(t, fails(400))
	h := newHub(t, nil, p.URL+"/v1", newFake(t, good).URL+"/v1")
	for range 3 * restAfter {
		h.want(h.ask("house"), 400, "a")
	}
}
