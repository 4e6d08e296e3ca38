package demo

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fast is a provider that never waits.
func fast() http.Handler {
	return Handler(Options{
		Now:        func() time.Time { return time.Unix(1_800_000_000, 0) },
		FirstToken: -1, PerToken: -1,
	})
}

// call sends one request and returns the answer.
func call(t *testing.T, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	fast().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w
}

// post sends one request that must succeed and decodes the answer.
func post[T any](t *testing.T, path, body string) T {
	t.Helper()
	w := call(t, "POST", path, body)
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); w.Code != 200 || err != nil {
		t.Fatalf("POST %s %s: %d %s (%v)", path, body, w.Code, w.Body, err)
	}
	return v
}

// event is one event of a stream.
type event struct{ name, data string }

// stream sends one request that must be answered by a stream.
func stream(t *testing.T, path, body string) []event {
	t.Helper()
	w := call(t, "POST", path, body)
	if typ := w.Header().Get("Content-Type"); w.Code != 200 || !strings.HasPrefix(typ, "text/event-stream") {
		t.Fatalf("POST %s %s: %d %s %s, want a stream", path, body, w.Code, typ, w.Body)
	}
	text, ok := strings.CutSuffix(w.Body.String(), "\n\n")
	if !ok {
		t.Fatalf("stream ends in the middle of an event: %q", text)
	}
	var all []event
	for block := range strings.SplitSeq(text, "\n\n") {
		var e event
		for line := range strings.SplitSeq(block, "\n") {
			if v, ok := strings.CutPrefix(line, "event: "); ok {
				e.name = v
			} else if v, ok := strings.CutPrefix(line, "data: "); ok {
				e.data = v
			} else {
				t.Fatalf("line %q is neither event nor data", line)
			}
		}
		all = append(all, e)
	}
	return all
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		method, path, body string
		status             int
		typ, code, message string
	}{
		{"POST", "/v1/chat/completions", `{`, 400, "invalid_request_error", "", "JSON"},
		{"POST", "/v1/chat/completions", `{"model":1}`, 400, "invalid_request_error", "", `"model"`},
		{"POST", "/v1/chat/completions", `{"model":"gpt-9"}`, 404, "invalid_request_error", "model_not_found", "gpt-9"},
		{"POST", "/v1/chat/completions", `{"model":"demo"}`, 400, "invalid_request_error", "", "at least one message"},
		{"POST", "/v1/chat/completions", `{"model":"demo","messages":[{"content":7}]}`, 400, "invalid_request_error", "", "content"},
		{"POST", "/v1/chat/completions", `{"model":"demo","messages":[{}],"n":0}`, 400, "invalid_request_error", "", "n must be"},
		{"POST", "/v1/chat/completions", `{"model":"demo","messages":[{}],"max_tokens":0}`, 400, "invalid_request_error", "", "at least 1"},
		{"POST", "/v1/chat/completions", `{"model":"demo","messages":[{}],"stream_options":{}}`, 400, "invalid_request_error", "", "stream"},
		{"POST", "/v1/completions", `{"model":"demo","prompt":{}}`, 400, "invalid_request_error", "", "token numbers"},
		{"POST", "/v1/completions", `{"model":"demo","prompt":[1,"a"]}`, 400, "invalid_request_error", "", "token numbers"},
		{"POST", "/v1/responses", `{"model":"demo"}`, 400, "invalid_request_error", "", "input"},
		{"POST", "/v1/responses", `{"model":"demo","input":"x","background":true}`, 400, "invalid_request_error", "", "foreground"},
		{"POST", "/v1/embeddings", `{"model":"demo","input":"x"}`, 404, "invalid_request_error", "model_not_found", "demo"},
		{"POST", "/v1/embeddings", `{"model":"demo-embedding","input":[]}`, 400, "invalid_request_error", "", "input"},
		{"POST", "/v1/embeddings", `{"model":"demo-embedding","input":"x","dimensions":0}`, 400, "invalid_request_error", "", "dimensions"},
		{"GET", "/v1/models/gpt-9", ``, 404, "invalid_request_error", "model_not_found", "gpt-9"},
		{"GET", "/v1/chat/completions", ``, 404, "invalid_request_error", "", "GET /v1/chat/completions"},
		{"POST", "/v1/messages", `]`, 400, "invalid_request_error", "", "JSON"},
		{"POST", "/v1/messages", `{"model":"claude"}`, 404, "not_found_error", "", "claude"},
		{"POST", "/v1/messages", `{"model":"demo","messages":[{"content":"x"}]}`, 400, "invalid_request_error", "", "max_tokens"},
		{"POST", "/v1/messages/batches", `{}`, 404, "not_found_error", "", "batches"},
	} {
		t.Run(tt.method+tt.path+tt.body, func(t *testing.T) {
			w := call(t, tt.method, tt.path, tt.body)
			var got struct {
				Type  string
				Error struct{ Type, Code, Message string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("%q: %v", w.Body, err)
			}
			e := got.Error
			if w.Code != tt.status || e.Type != tt.typ || e.Code != tt.code || !strings.Contains(e.Message, tt.message) {
				t.Errorf("got %d %s, want %d %q %q %q", w.Code, w.Body, tt.status, tt.typ, tt.code, tt.message)
			}
			if anthropic := strings.HasPrefix(tt.path, "/v1/messages"); anthropic != (got.Type == "error") {
				t.Errorf("%s is in the other provider's envelope", w.Body)
			}
		})
	}
}

func TestModels(t *testing.T) {
	w := call(t, "GET", "/v1/models", "")
	for _, want := range []string{`"id":"demo"`, `"id":"demo-embedding"`, `"object":"list"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("got %s, want %s in it", w.Body, want)
		}
	}
	if w := call(t, "GET", "/v1/models/demo", ""); w.Code != 200 {
		t.Errorf("one model: got %d %s", w.Code, w.Body)
	}
}

// clocked notes when each write came.
type clocked struct {
	*httptest.ResponseRecorder
	begin  time.Time
	writes []time.Duration
	wrote  func()
}

func (c *clocked) Write(b []byte) (int, error) {
	c.writes = append(c.writes, time.Since(c.begin))
	if c.wrote != nil {
		c.wrote()
	}
	return c.ResponseRecorder.Write(b)
}

func TestPace(t *testing.T) {
	for _, path := range []string{"/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"} {
		for _, stream := range []string{"true", "false"} {
			t.Run(path+stream, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					limit := `"max_tokens":11`
					if path == "/v1/responses" {
						limit = `"max_output_tokens":11`
					}
					body := `{"model":"demo",` + limit + `,"stream":` + stream +
						`,"prompt":"hi","input":"hi","messages":[{"role":"user","content":"hi"}]}`
					w := &clocked{ResponseRecorder: httptest.NewRecorder(), begin: time.Now()}
					Handler(Options{}).ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))

					last := w.writes[len(w.writes)-1]
					if want := 150*time.Millisecond + 10*25*time.Millisecond; last != want {
						t.Errorf("the answer of 11 tokens took %v, want %v", last, want)
					}
					moments := map[time.Duration]bool{}
					for _, at := range w.writes {
						moments[at] = true
					}
					delete(moments, 0) // what comes before the first token
					want := 1
					if stream == "true" {
						want = 11
					}
					if len(moments) != want {
						t.Errorf("wrote at %d moments, want %d: %v", len(moments), want, w.writes)
					}
				})
			})
		}
	}
}

// TestCallerLeaves: the model stops at once, in silence, between two tokens and
// while it prepares an answer in one piece.
func TestCallerLeaves(t *testing.T) {
	for _, tt := range []struct {
		stream string
		after  time.Duration // when the caller leaves
		writes int           // how much was written until then
	}{
		{"true", 100 * time.Millisecond, 0},
		{"true", 160 * time.Millisecond, 2}, // the role and one token
		{"false", 160 * time.Millisecond, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), tt.after)
			defer cancel()
			body := `{"model":"demo","stream":` + tt.stream + `,"messages":[{"role":"user","content":"hi"}]}`
			r := httptest.NewRequestWithContext(ctx, "POST", "/v1/chat/completions", strings.NewReader(body))
			w := &clocked{ResponseRecorder: httptest.NewRecorder(), begin: time.Now()}
			Handler(Options{}).ServeHTTP(w, r)
			if took := time.Since(w.begin); took != tt.after {
				t.Errorf("stream %s: ended after %v, want %v", tt.stream, took, tt.after)
			}
			if len(w.writes) != tt.writes {
				t.Errorf("stream %s: %d writes, want %d", tt.stream, len(w.writes), tt.writes)
			}
		})
	}
}
