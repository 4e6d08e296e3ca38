package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// lists answers GET /models with these, and a chat completion otherwise.
func lists(models ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" {
			good(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"`+strings.Join(models, `"},{"id":"`)+`"}]}`)
	}
}

func TestTestMakesOneCheapCall(t *testing.T) {
	var asked []string
	note := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.URL.Path)
			next(w, r)
		}
	}
	for _, c := range []struct {
		name   string
		serve  http.HandlerFunc
		edit   func(*config.Provider)
		want   TestResult
		asked  string
		status string
	}{
		{"a configured name", good, func(p *config.Provider) { p.Models = []string{"a-*", "m"} },
			TestResult{OK: true, Model: "m", Status: 200, Usage: db.Usage{Input: 7, Output: 5}, Cost: 17}, "POST /v1/chat/completions", "ok"},
		{"the first that chats of those that it lists", lists("text-embedding-1", "whisper-1", "gpt-x", "gpt-y"), func(p *config.Provider) { p.Models = nil },
			TestResult{OK: true, Model: "gpt-x", Status: 200, Usage: db.Usage{Input: 7, Output: 5}, Cost: 17}, "GET /v1/models, POST /v1/chat/completions", "ok"},
		{"embeddings only", lists("text-embedding-1"), func(p *config.Provider) { p.Models = nil },
			TestResult{OK: true, Model: "text-embedding-1", Status: 200, Usage: db.Usage{Input: 7, Output: 5}, Cost: 17}, "GET /v1/models, POST /v1/embeddings", "ok"},
		{"nothing that can be asked", lists("whisper-1"), func(p *config.Provider) { p.Models = nil },
			TestResult{OK: true, Status: 200}, "GET /v1/models", "ok"},
		{"Anthropic", good, func(p *config.Provider) { p.Auth, p.APIKey = "x-api-key", "sk-secret-secret" },
			TestResult{OK: true, Model: "m", Status: 200, Cost: 0}, "POST /v1/messages", "ok"},
		{"a wrong credential", fails(401), nil,
			TestResult{Model: "m", Status: 401, Error: "it answered 401: fault 401"}, "POST /v1/chat/completions", "unknown"},
		{"one that repeats its credential", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, "no good:\n "+r.Header.Get("Authorization"))
		}, func(p *config.Provider) { p.Auth, p.APIKey = "bearer", "sk-secret-secret" },
			TestResult{Model: "m", Status: 500, Error: "it answered 500: no good: Bearer ***"}, "POST /v1/chat/completions", "unknown"},
		{"no list", fails(404), func(p *config.Provider) { p.Models = []string{"*"} },
			TestResult{Status: 404, Error: "GET URL/models answered 404"}, "GET /v1/models", "unknown"},
	} {
		asked = nil
		p := newFake(t, note(c.serve))
		h := newHub(t, func(cfg *config.Config) {
			if c.edit != nil {
				c.edit(&cfg.Providers[0])
			}
		}, p.URL+"/v1")
		got, err := h.g.Test(t.Context(), "a")
		if got.Latency < 0 || got.Latency > time.Minute {
			t.Errorf("%s: latency %v", c.name, got.Latency)
		}
		got.Latency = 0
		got.Error = strings.ReplaceAll(got.Error, p.URL+"/v1", "URL")
		if c.name == "Anthropic" {
			got.Usage, got.Cost = db.Usage{}, 0
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v\nwant %+v", c.name, got, err, c.want)
		}
		if list := strings.Join(asked, ", "); list != c.asked {
			t.Errorf("%s: asked for %s, want %s", c.name, list, c.asked)
		}
		if s := h.g.Providers(t.Context())[0]; s.Status != c.status || strings.Contains(s.LastError, "secret") {
			t.Errorf("%s: status %s after %q, want %s", c.name, s.Status, s.LastError, c.status)
		}
	}
	h := newHub(t, impatient, deadPort(t))
	if got, err := h.g.Test(t.Context(), "a"); err != nil || got.OK || got.Status != 0 || !strings.Contains(got.Error, "refused") {
		t.Errorf("dead port: %+v, %v", got, err)
	}
	if _, err := h.g.Test(t.Context(), "z"); err == nil {
		t.Error("a provider that is not there can be tested")
	}
}

func TestProvidersTellsHowTheyAre(t *testing.T) {
	p := newFake(t, lists("m", "a-1", "else"))
	h := newHub(t, func(cfg *config.Config) {
		cfg.Providers[0].Models = []string{"m", "a-*", "hidden"}
		cfg.Providers[0].MaxConcurrency = 1
	}, p.URL+"/v1", deadPort(t))
	if got := h.g.Providers(t.Context()); len(got) != 2 || got[0].Status != "unknown" || !slices.Equal(got[0].Models, []string{"m", "a-*", "hidden"}) || !got[0].ModelsAt.IsZero() {
		t.Errorf("at the start: %+v", got)
	}
	a := h.g.state.Load().byName["a"]
	if _, err := a.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.want(h.ask("a/m"), 200, "a")
	p.become(fails(503))
	for range restAfter {
		h.want(h.ask("a/m"), 503, "a")
		h.ask("b/m")
	}
	a.queue.try()
	got := h.g.Providers(t.Context())
	a.queue.leave()
	if s := got[0]; s.Status != "resting" || !slices.Equal(s.Models, []string{"m", "a-1", "hidden"}) || s.ModelsAt.IsZero() || s.Running != 1 || s.Waiting != 0 ||
		s.FirstByte <= 0 || s.ErrorRate < 0.74 || s.ErrorRate > 0.76 || s.LastError != "it answered 503 Service Unavailable" || s.LastErrorAt.IsZero() || s.RestsUntil.IsZero() {
		t.Errorf("a: %+v", s)
	}
	if s := got[1]; s.Status != "resting" || !strings.Contains(s.LastError, "it can't be reached") || s.FirstByte != 0 || s.ErrorRate != 1 {
		t.Errorf("b: %+v", s)
	}
	// Another of its models answers: not all of the provider rests.
	p.become(good)
	h.want(h.ask("a-1"), 200, "a")
	if s := h.g.Providers(t.Context())[0]; s.Status != "ok" || !s.RestsUntil.IsZero() {
		t.Errorf("a with one model that rests: %+v", s)
	}
}

// Somebody who does not wait for a test says nothing against the provider.
func TestTestThatIsNotWaitedFor(t *testing.T) {
	asked := make(chan struct{}, 1)
	h := newHub(t, nil, newFake(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}).URL+"/v1")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := h.g.Test(ctx, "a")
		ended <- err
	}()
	<-asked
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	p := h.g.state.Load().byName["a"]
	if c := p.health.look(p.trialModel(), time.Now()); c.errors != 0 {
		t.Errorf("the provider is %+v", c)
	}
}
