package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"tokenhub/db"
)

// TestResult is what became of one call to a provider.
type TestResult struct {
	OK bool
	// Model was asked, empty when only the list of models was; Status is what the
	// provider answered, 0 = nothing.
	Model   string
	Status  int
	Latency time.Duration
	Usage   db.Usage
	// Cost is in micro-dollars, [db.UnknownCost] without a price.
	Cost int64
	// Error says in a sentence why it is not OK; never a credential.
	Error string
}

const (
	// trialTime bounds a test.
	trialTime = time.Minute
	// trialBytes is what is read of the answer to one.
	trialBytes = 1 << 20
)

// Test makes one real, cheap call to a provider: a chat completion of one token,
// else an embedding, else its list of models. A provider that fails is a result;
// the error is an unknown name, or the cause for which ctx ended.
func (g *Gateway) Test(ctx context.Context, name string) (TestResult, error) {
	st := g.state.Load()
	p := st.byName[name]
	if p == nil {
		return TestResult{}, fmt.Errorf("there is no provider %q: configured are %s", name, strings.Join(st.names(), ", "))
	}
	limited, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	r := g.try(limited, st, p)
	if ctx.Err() != nil {
		return TestResult{}, context.Cause(ctx)
	}
	if r.Error != "" {
		r.Error = p.withoutSecrets(r.Error)
	}
	return r, nil
}

// leaves reports whether whoever asked for a test left, which says nothing of the
// provider, as the end of its time does.
func leaves(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// try makes the call of a test.
func (g *Gateway) try(ctx context.Context, st *state, p *provider) TestResult {
	start := g.now()
	model := p.trialModel()
	if model == "" {
		// Which models there are may be known to the provider only.
		_, err := p.refresh(ctx)
		if model = p.trialModel(); model == "" {
			r := TestResult{OK: err == nil, Status: http.StatusOK, Latency: g.now().Sub(start)}
			var answered *listError
			switch {
			case errors.As(err, &answered):
				r.Status, r.Error = answered.status, err.Error()
			case err != nil:
				r.Status, r.Error = 0, err.Error()
			}
			return r
		}
		start = g.now()
	}
	r, t := TestResult{Model: model}, target{provider: p, served: model}
	call, body := p.trialCall(model)
	call.Header = Headers{{"Accept", "application/json"}, {"Content-Type", "application/json"}, {"User-Agent", "TokenHub"}}
	if call.endpoint() == messages {
		call.Header = append(call.Header, Header{"Anthropic-Version", anthropicVersion})
	}
	request := sending{provider: p, call: call, body: &payload{bytes: body, length: int64(len(body))}}
	resp, err := request.send(ctx, nil)
	if err != nil {
		r.Latency, r.Error = g.now().Sub(start), "it did not answer: "+err.Error()
		if leaves(ctx) {
			return r
		}
		g.tell(t, p.health.failed(model, start, g.now(), r.Error, 0, false), r.Error)
		return r
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, trialBytes))
	now := g.now()
	r.Latency, r.Status = now.Sub(start), resp.StatusCode
	switch {
	case err != nil && leaves(ctx):
		r.Error = "it was not waited for"
	case err != nil:
		r.Error = "it broke off in the middle of its answer: " + err.Error()
		g.tell(t, p.health.failed(model, start, now, r.Error, 0, false), r.Error)
	case resp.StatusCode >= 400:
		r.Error = strings.TrimSuffix(fmt.Sprintf("it answered %d: %s", resp.StatusCode, faultIn(text)), ": ")
		if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests {
			g.tell(t, p.health.failed(model, start, now, r.Error, wishOf(resp.StatusCode, resp.Header, now), false), r.Error)
		}
	default:
		r.OK = true
		g.tell(t, p.health.answered(model, start, now, r.Latency, false), "")
		p.health.completed(model, start)
		r.Usage, r.Cost = st.used(p, model, call, resp, text)
	}
	return r
}

// used reads the usage of a test out of its answer, with its cost.
func (s *state) used(p *provider, model string, call *Call, resp *Response, text []byte) (db.Usage, int64) {
	m := newMeter(answer{endpoint: call.endpoint(), status: resp.StatusCode, encoding: resp.Header.Get("Content-Encoding"), length: int64(len(text))})
	m.pass(text)
	m.finish()
	usage, _ := m.reported()
	price, ok := s.prices.lookupFor(demand{endpoint: call.endpoint()}, p.Name, model)
	if !ok {
		return usage, db.UnknownCost
	}
	return usage, price.cost(usage, m.amounts())
}

// trialModel is the model to test a provider by: the first one by whose name it
// seems to chat, else the first one that makes embeddings; empty when none is known.
func (p *provider) trialModel() string {
	names := p.plainModels()
	if own := p.catalog.Load(); own != nil {
		for _, m := range own.list {
			if _, has := p.has(m.ID); has {
				names = append(names, m.ID)
			}
		}
	}
	embeds := ""
	for _, name := range names {
		switch {
		case isEmbedding(name):
			if embeds == "" {
				embeds = name
			}
		case !isSpecial(name):
			return name
		}
	}
	return embeds
}

// plainModels are the configured names of models that are no globs.
func (p *provider) plainModels() []string {
	var names []string
	for _, name := range p.Models {
		if !strings.ContainsAny(name, "*?") {
			names = append(names, name)
		}
	}
	return names
}

// isSpecial reports whether a model's name says that it does not chat.
func isSpecial(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"whisper", "tts", "dall-e", "image", "moderation", "audio", "realtime", "transcribe",
		"rerank", "babbage", "davinci", "instruct-beta", "sora", "codex", "computer-use", "deep-research"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

func isEmbedding(name string) bool { return strings.Contains(strings.ToLower(name), "embed") }

// trialCall is the cheapest call for a model.
func (p *provider) trialCall(model string) (*Call, []byte) {
	greeting := []map[string]string{{"role": "user", "content": "Hi"}}
	call, body := &Call{Method: http.MethodPost}, map[string]any{"model": model}
	switch {
	case isEmbedding(model):
		call.Path, body["input"] = "/v1/embeddings", "Hi"
	case p.Auth == "x-api-key":
		call.Path, body["messages"], body["max_tokens"] = "/v1/messages", greeting, 1
	default:
		call.Path, body["messages"] = "/v1/chat/completions", greeting
		body[chatCompletions.boundField(p.OutputField)] = 1
	}
	text, err := json.Marshal(body)
	if err != nil { // strings and numbers always marshal
		text = nil
	}
	return call, text
}

// faultIn is what the body of an error says, in short.
func faultIn(text []byte) string {
	var v struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
		Message string `json:"message"`
	}
	message := string(text)
	if json.Unmarshal(text, &v) == nil && v.Error.Message+v.Message != "" {
		message = v.Error.Message + v.Message
	}
	message = strings.Join(strings.Fields(strings.ToValidUTF8(message, "")), " ")
	if runes := []rune(message); len(runes) > 300 {
		message = string(runes[:300]) + "..."
	}
	return message
}

// withoutSecrets takes the provider's credentials out of a text: some repeat
// what they were sent.
func (p *provider) withoutSecrets(text string) string {
	secrets := []string{p.APIKey.Reveal()}
	for _, value := range p.Headers {
		secrets = append(secrets, value.Reveal())
	}
	for _, secret := range secrets {
		if len(secret) >= 8 {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}
