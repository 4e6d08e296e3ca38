// Package demo is a fake model provider that lives in the binary, so that
// TokenHub can be tried without an account anywhere: `tokenhub serve --demo`.
//
// It speaks OpenAI's chat completions, completions, responses, embeddings and
// models, and Anthropic's messages and count_tokens, as JSON and as streams, at
// the pace of a real model and with a correct usage. It knows two models: demo
// writes, demo-embedding makes vectors.
//
//	h := demo.Handler(demo.Options{})
//	go http.Serve(listener, h) // base_url = "http://" + listener.Addr() + "/v1"
//
// Tokens are counted by a rule simple enough to check by hand: a token is a run
// of at most five letters and digits, or one character of any other kind, with
// the white space before it. See [Tokens].
package demo

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"
)

// The two models that the provider knows.
const (
	// Model answers in text.
	Model = "demo"
	// EmbeddingModel answers with vectors.
	EmbeddingModel = "demo-embedding"
)

// Options changes what can be changed about the provider. The zero value is a
// provider that writes like a real model of medium speed.
type Options struct {
	// Now is the clock of the created fields; nil = time.Now.
	Now func() time.Time
	// FirstToken is the time to the first token; 0 = 150 ms, negative = none.
	FirstToken time.Duration
	// PerToken is the time between two tokens; 0 = 25 ms (40 tokens a second),
	// negative = none.
	PerToken time.Duration
}

// provider is the handler's state: the clock and the pace.
type provider struct {
	now        func() time.Time
	firstToken time.Duration
	perToken   time.Duration
}

// Handler returns the provider. It holds no state between requests and stops
// writing when the request's context ends.
func Handler(o Options) http.Handler {
	p := &provider{now: o.Now, firstToken: o.FirstToken, perToken: o.PerToken}
	if p.now == nil {
		p.now = time.Now
	}
	if p.firstToken == 0 {
		p.firstToken = 150 * time.Millisecond
	}
	if p.perToken == 0 {
		p.perToken = 25 * time.Millisecond
	}

	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", openai(p.chat))
	mux.HandleFunc("POST /v1/completions", openai(p.completions))
	mux.HandleFunc("POST /v1/responses", openai(p.responses))
	mux.HandleFunc("POST /v1/embeddings", openai(p.embeddings))
	mux.HandleFunc("GET /v1/models", openai(p.models))
	mux.HandleFunc("GET /v1/models/{id}", openai(p.model))
	mux.HandleFunc("POST /v1/messages", anthropic(p.messages))
	mux.HandleFunc("POST /v1/messages/count_tokens", anthropic(p.countTokens))
	mux.HandleFunc("/v1/messages/", anthropic(noSuchPath))
	mux.HandleFunc("/", openai(noSuchPath))
	return mux
}

// pace spreads the tokens of one answer over time.
type pace struct {
	due time.Time
	per time.Duration
}

func (p *provider) pace() *pace {
	return &pace{due: time.Now().Add(max(p.firstToken, 0)), per: max(p.perToken, 0)}
}

// skip returns when the last of the next n tokens is due, or with the error of
// a context that ended before.
func (p *pace) skip(ctx context.Context, n int) error {
	due := p.due.Add(time.Duration(max(n-1, 0)) * p.per)
	p.due = due.Add(p.per)
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// newID returns an ID with the prefix that its kind has at the real providers.
func newID(prefix string) string { return prefix + rand.Text() }
