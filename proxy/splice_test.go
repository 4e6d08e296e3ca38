package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"tokenhub/config"
	"tokenhub/db"
)

// A key that bounds the output has the bound written into requests that state
// none, where the dialect has it, and nothing else is touched.
func TestOutputBoundIsSpliced(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, func(c *config.Config) {
		other := c.Providers[0]
		other.Name, other.Models, other.OutputField = "o", []string{"o*"}, "max_completion_tokens"
		c.Providers = append([]config.Provider{other}, c.Providers...)
	})
	key := d.key("k", func(k *db.Key) { k.Limits.MaxTokensPerRequest = 10 })
	for _, c := range []struct{ path, body, want string }{
		{"chat/completions", `{"model":"m", "x":1.0}`, `{"max_tokens":10,"model":"m", "x":1.0}`},
		{"chat/completions", `{"model":"o1"}`, `{"max_completion_tokens":10,"model":"o1"}`},
		{"chat/completions", `{"model":"m","max_tokens":7}`, `{"model":"m","max_tokens":7}`},
		{"chat/completions", `{"model":"m","max_tokens": null }`, `{"model":"m","max_tokens": 10 }`},
		{"chat/completions", `{"model":"m","n":2}`, `{"max_tokens":5,"model":"m","n":2}`},
		{"chat/completions", `{"model":"o1","max_tokens":7}`, `{"model":"o1","max_tokens":7}`},
		{"completions", `{"model":"m","prompt":["a","b"]}`, `{"max_tokens":5,"model":"m","prompt":["a","b"]}`},
		{"responses", `{"model":"o1"}`, `{"max_output_tokens":10,"model":"o1"}`},
		{"messages", `{"model":"o1"}`, `{"max_tokens":10,"model":"o1"}`},
		{"embeddings", `{"model":"m"}`, `{"model":"m"}`},
		{"messages/count_tokens", `{"model":"m"}`, `{"model":"m"}`},
	} {
		if resp, body := d.send("POST", "/v1/"+c.path, c.body, "X-Api-Key", key); resp.StatusCode != 200 {
			t.Errorf("%s %s: %d %s", c.path, c.body, resp.StatusCode, body)
			continue
		}
		if got := p.one(t); got.body != c.want || got.length != int64(len(c.want)) {
			t.Errorf("%s %s: the provider got %s", c.path, c.body, got.body)
		}
	}
	for _, body := range []string{`{"model":"m","max_tokens":11}`, `{"model":"m","max_completion_tokens":11,"max_tokens":1}`, `{"model":"m","max_tokens":6,"n":2}`,
		`{"model":"m","n":11}`, `{"model":"m","max_tokens":"11"}`, `{"model":"m","max_tokens":1e3}`} {
		resp, text := d.send("POST", "/v1/chat/completions", body, "X-Api-Key", key)
		refused(t, body, resp, text, 422, "invalid_request_error", "max_tokens_exceeded")
	}
	if got := p.all(); len(got) != 0 {
		t.Errorf("the provider got %+v", got)
	}
}

// Usage is asked for on behalf of callers that don't, and the event that holds
// nothing else is taken out again; the others arrive as they were sent.
func TestUsageIsAskedFor(t *testing.T) {
	const words = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}],\"usage\":null}\n\n"
	const usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\n"
	const done = "data: [DONE]\n\n"
	p := record(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, words)
		if strings.Contains(string(body), `"include_usage":true`) {
			_, _ = io.WriteString(w, usage)
		}
		_, _ = io.WriteString(w, done)
	})
	d := newDoor(t, p.URL, func(c *config.Config) {
		other := c.Providers[0]
		other.Name, other.Models, other.AskUsage = "quiet", []string{"quiet"}, false
		c.Providers = append([]config.Provider{other}, c.Providers...)
	})
	key := d.key("k", nil)
	for _, c := range []struct{ body, sent, answer, source string }{
		{`{"model":"m","stream":true}`, `{"stream_options":{"include_usage":true},"model":"m","stream":true}`, words + done, db.FromProvider},
		{`{"model":"m","stream":true,"stream_options":{"x":1}}`, `{"model":"m","stream":true,"stream_options":{"include_usage":true,"x":1}}`, words + done, db.FromProvider},
		{`{"model":"m","stream":true,"stream_options":{"include_usage":false}}`, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`, words + done, db.FromProvider},
		{`{"model":"m","stream":true,"stream_options":{"include_usage":true}}`, "", words + usage + done, db.FromProvider},
		{`{"model":"m","stream":false}`, "", words + done, db.Estimated},
		{`{"model":"quiet","stream":true}`, "", words + done, db.Estimated},
	} {
		before := len(d.store.Records())
		resp, answer := d.send("POST", "/v1/chat/completions", c.body, "X-Api-Key", key)
		if resp.StatusCode != 200 || answer != c.answer {
			t.Errorf("%s: %d %q, want %q", c.body, resp.StatusCode, answer, c.answer)
		}
		sent := c.sent
		if sent == "" {
			sent = c.body
		}
		if got := p.one(t); got.body != sent {
			t.Errorf("%s: the provider got %s, want %s", c.body, got.body, sent)
		}
		got := d.settled()[before:]
		if len(got) != 1 || got[0].Source != c.source || got[0].Usage.Output == 0 || c.source == db.FromProvider && got[0].Usage.Tokens() != 12 {
			t.Errorf("%s: settled as %+v", c.body, got)
		}
	}
}
