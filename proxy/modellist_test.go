package proxy

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// get asks for a path with GET.
func (h *hub) get(key, path string) reply {
	call := h.call(key, path, "")
	call.Method, call.Body, call.Length = "GET", nil, 0
	return h.do(h.t.Context(), call)
}

// ids are the models that a key is shown.
func (h *hub) ids(key string) []string {
	h.t.Helper()
	r := h.get(key, "/v1/models")
	var v struct {
		Object string
		Data   []struct{ ID, Object string }
	}
	if err := json.Unmarshal([]byte(r.body), &v); err != nil || r.status != 200 || v.Object != "list" {
		h.t.Fatalf("%v (%v)", r, err)
	}
	ids := []string{}
	for _, m := range v.Data {
		if m.Object != "model" {
			h.t.Errorf("%s is a %q", m.ID, m.Object)
		}
		ids = append(ids, m.ID)
	}
	return ids
}

func (h *hub) wantIDs(key string, want ...string) {
	h.t.Helper()
	if got := h.ids(key); !slices.Equal(got, append([]string{}, want...)) {
		h.t.Errorf("key %s is shown %v, want %v", key, got, want)
	}
}

// refreshed reads the lists of all providers.
func (h *hub) refreshed() *hub {
	h.t.Helper()
	for _, p := range h.g.state.Load().providers {
		if _, err := p.refresh(h.t.Context()); err != nil {
			h.t.Fatal(err)
		}
	}
	return h
}

func TestModelsAreMergedAndFilteredByKey(t *testing.T) {
	a := newFake(t, lists("shared", "org/model", "llama3:latest", "shared"))
	b := newFake(t, lists("shared", "only-b", "text-embedding-1"))
	h := newHub(t, func(cfg *config.Config) {
		cfg.Providers[0].Models = nil
		cfg.Providers[1].Models = []string{"shared", "only-*", "hidden", "text-*"}
		cfg.Models[0].Targets[0].Model = "org/model"
		cfg.Models[0].ContextWindow = 1234
	}, a.URL+"/v1", b.URL+"/v1")
	h.wantIDs("one", "house", "shared", "hidden") // no list was read: nobody waits for one
	h.refreshed()
	h.wantIDs("one", "house", "shared", "org/model", "llama3:latest", "b/shared", "hidden", "only-b", "text-embedding-1")

	edit := func(id string, models, providers []string) {
		k := h.addKey(id, db.Limits{}).Clone()
		k.Models, k.Providers = models, providers
		if _, err := h.store.PutKey(t.Context(), k, db.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	edit("b-only", nil, []string{"b"})
	h.wantIDs("b-only", "house", "shared", "hidden", "only-b", "text-embedding-1")
	edit("some", []string{"org/*", "b/only-?"}, nil)
	h.wantIDs("some", "house", "org/model", "only-b") // house may be served by org/model
	edit("none", []string{"nothing"}, nil)
	h.wantIDs("none")

	for path, want := range map[string]string{
		"/v1/models/house":            `{"id":"house","object":"model","owned_by":"tokenhub","context_window":1234}`,
		"/v1/models/org/model":        `{"id":"org/model","object":"model","owned_by":"a"}`,
		"/v1/models/org%2Fmodel":      `{"id":"org/model","object":"model","owned_by":"a"}`,
		"/v1/models/b/only-b":         `{"id":"b/only-b","object":"model","owned_by":"b"}`,
		"/v1/models/llama3":           `{"id":"llama3","object":"model","owned_by":"a"}`,
		"/v1/models/text-embedding-1": `{"id":"text-embedding-1","object":"model","owned_by":"b","capabilities":{"chat":false,"completions":false,"embeddings":true}}`,
	} {
		if r := h.get("one", path); r.status != 200 || strings.TrimSpace(r.body) != want {
			t.Errorf("%s: %v, want %s", path, r, want)
		}
	}
	for path, code := range map[string]string{"/v1/models/nobody": "model_not_found", "/v1/models/b/nobody": "model_not_found"} {
		if r := h.get("one", path); r.code != code {
			t.Errorf("%s: %v, want %s", path, r, code)
		}
	}
	if r := h.get("some", "/v1/models/shared"); r.code != "model_not_allowed" {
		t.Errorf("%v, want model_not_allowed", r)
	}
}

func TestListsOfOtherForms(t *testing.T) {
	pages := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Anthropic-Version") == "" || r.Header.Get("X-Api-Key") != "sk-1" {
			w.WriteHeader(401)
			return
		}
		switch after := r.URL.Query().Get("after_id"); after {
		case "":
			_, _ = io.WriteString(w, `{"data":[{"type":"model","id":"claude-1","created_at":"2025-02-19T00:00:00Z"}],"has_more":true,"last_id":"claude-1"}`)
		case "claude-1":
			_, _ = io.WriteString(w, `{"data":[{"type":"model","id":"claude-2"}],"has_more":true,"last_id":"claude-1"}`)
		default:
			w.WriteHeader(500)
		}
	})
	bare := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[{"id":"x","created":1.5e9,"max_model_len":4096},{"id":""},{"id":"y","context_length":8192,"owned_by":"org"}]`)
	})
	endless := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"data":[{"id":"m`+r.URL.Query().Get("after_id")+`"}],"has_more":true,"last_id":"1`+r.URL.Query().Get("after_id")+`"}`)
	})
	h := newHub(t, func(cfg *config.Config) {
		cfg.Models = nil
		for i := range cfg.Providers {
			cfg.Providers[i].Models = nil
		}
		cfg.Providers[1].Models = []string{"y", "*"}
		cfg.Providers[0].Auth, cfg.Providers[0].APIKey = "x-api-key", "sk-1"
		cfg.Providers[2].Auth, cfg.Providers[2].APIKey = "x-api-key", "sk-1"
	}, pages.URL+"/v1", bare.URL+"/v1", endless.URL+"/v1").refreshed()
	if got := endless.hits.Load(); got != catalogPages {
		t.Errorf("a list without an end was read for %d pages, want %d", got, catalogPages)
	}
	if got := h.ids("one")[:4]; !slices.Equal(got, []string{"claude-1", "claude-2", "y", "x"}) {
		t.Errorf("got %v", got)
	}
	for id, want := range map[string]string{
		"claude-1": `{"id":"claude-1","object":"model","created":1739923200,"owned_by":"a"`,
		"x":        `{"id":"x","object":"model","created":1500000000,"owned_by":"b","context_window":4096}`,
		"y":        `{"id":"y","object":"model","owned_by":"org","context_window":8192}`,
	} {
		if r := h.get("one", "/v1/models/"+id); !strings.HasPrefix(r.body, want) {
			t.Errorf("%v, want %s", r, want)
		}
	}
	// A provider that fails keeps the list that it had.
	bare.become(fails(500))
	if _, err := h.g.state.Load().byName["b"].refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "answered 500") {
		t.Errorf("error %v, want that it answered 500", err)
	}
	if r := h.get("one", "/v1/models/y"); r.status != 200 {
		t.Errorf("%v", r)
	}
}

// What is no list of models does not empty the one that is known, and a model
// with odd details is a model.
func TestAnswersThatAreNoList(t *testing.T) {
	p := newFake(t, lists("m"))
	h := newHub(t, func(cfg *config.Config) { cfg.Models, cfg.Providers[0].Models = nil, nil }, p.URL+"/v1").refreshed()
	provider := h.g.state.Load().byName["a"]
	for answer, good := range map[string]bool{
		`{"error":"busy"}`: false, `{"data":"x"}`: false, `"x"`: false, `null`: false,
		`{"models":[{"name":"x"}]}`: true, `{"data":null}`: true, `{"data":[]}`: true,
		`{"data":[{"id":"m","created":"2024-01-01","owned_by":7,"context_length":131072.0,"max_model_len":{}}]}`: true,
	} {
		p.become(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
		if _, err := provider.refresh(t.Context()); (err == nil) != good {
			t.Errorf("%s: %v", answer, err)
		}
	}
	p.become(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":[{"id":"m","created":"2024-01-01","context_length":131072.0}]}`)
	})
	if c, err := provider.refresh(t.Context()); err != nil || len(c.list) != 1 || c.list[0].Window != 131072 {
		t.Errorf("%+v %v", c, err)
	}
}

// A model that two providers have is shown as that of the one which the key may use.
func TestModelOfTheProviderThatTheKeyMayUse(t *testing.T) {
	h := newHub(t, func(cfg *config.Config) {
		cfg.Models, cfg.Providers[0].Models, cfg.Providers[1].Models = nil, nil, nil
	}, newFake(t, lists("m")).URL+"/v1", newFake(t, lists("m")).URL+"/v1").refreshed()
	if _, err := h.store.PutKey(t.Context(), &db.Key{ID: "two", Name: "two", Endpoints: db.Inference, Providers: []string{"b"}, CreatedAt: time.Now()}, db.Audit{}); err != nil {
		t.Fatal(err)
	}
	if r := h.get("two", "/v1/models/m"); !strings.Contains(r.body, `"owned_by":"b"`) {
		t.Errorf("%v", r)
	}
}

// TestListsAreReadInTheBackground: at the start, and again when a name is asked
// for that nobody has.
func TestListsAreReadInTheBackground(t *testing.T) {
	var round atomic.Int64
	read := make(chan struct{}, 10)
	p := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" {
			good(w, r)
			return
		}
		defer func() { read <- struct{}{} }()
		if round.Add(1) == 1 {
			lists("old")(w, r)
			return
		}
		lists("old", "new")(w, r)
	})
	h := newHub(t, func(cfg *config.Config) { cfg.Models, cfg.Providers[0].Models = nil, nil }, p.URL+"/v1")
	var ahead atomic.Int64
	h.g.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	h.want(h.ask("anything"), 200, "a") // what is not known yet may be there
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.g.Run(ctx) }()
	<-read
	list := h.g.state.Load().byName["a"]
	for list.catalog.Load() == nil { // the answer is on its way
		h.ids("one")
	}
	if r := h.ask("new"); r.code != "model_not_found" {
		t.Errorf("%v, want model_not_found", r)
	}
	ahead.Store(int64(catalogSoon + time.Second))
	h.ask("new") // a miss: the lists are read again
	<-read
	for !list.catalog.Load().has("new") {
		h.ids("one")
	}
	h.want(h.ask("new"), 200, "a")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestListThatFailsIsShown: a provider whose models are known by its list only.
func TestListThatFailsIsShown(t *testing.T) {
	h := newHub(t, func(cfg *config.Config) { cfg.Providers[0].Models = nil }, deadPort(t), deadPort(t))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- h.g.Run(ctx) }()
	var got []ProviderState
	for got = h.g.Providers(ctx); got[0].LastError == ""; got = h.g.Providers(ctx) {
		runtime.Gosched()
	}
	if !strings.Contains(got[0].LastError, "list of models") || got[0].Status != "unknown" || got[1].LastError != "" {
		t.Errorf("%+v", got)
	}
	stop()
	<-ended
}
