package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
)

func anthropicClient(url, key string) anthropic.Client {
	return anthropic.NewClient(option.WithBaseURL(url), option.WithAPIKey(key), option.WithMaxRetries(0))
}

var anthropicAnswers = map[string]string{
	"/v1/messages": `{"id":"msg_1","type":"message","role":"assistant","model":"claude-test","content":[{"type":"text","text":"Hi <there> \u00fc"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"cache_creation_input_tokens":1,"cache_read_input_tokens":3,"output_tokens":3}}`,
	"/v1/messages stream": namedEvents(
		"message_start", `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-test","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}`,
		"content_block_start", `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
		"ping", `{"type":"ping"}`,
		"content_block_delta", `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}`,
		"content_block_stop", `{"type":"content_block_stop","index":0}`,
		"message_delta", `{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":3}}`,
		"message_stop", `{"type":"message_stop"}`),
	"/v1/messages/count_tokens": `{"input_tokens":9}`,
}

func namedEvents(pairs ...string) string {
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", pairs[i], pairs[i+1])
	}
	return b.String()
}

func messageParams(model string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: model, MaxTokens: 64,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Say <hi> & \u2028 ü"))},
	}
}

var anthropicCalls = []struct {
	name   string
	tokens int64
	call   func(context.Context, anthropic.Client) (any, error)
}{
	{"message", 12, func(ctx context.Context, c anthropic.Client) (any, error) {
		m, err := c.Messages.New(ctx, messageParams("claude-test"))
		if err != nil {
			return nil, err
		}
		return m.RawJSON(), nil
	}},
	{"message with tools", 12, func(ctx context.Context, c anthropic.Client) (any, error) {
		p := messageParams("claude-test")
		p.Tools = []anthropic.ToolUnionParam{anthropic.ToolUnionParamOfTool(anthropic.ToolInputSchemaParam{}, "weather")}
		p.ToolChoice = anthropic.ToolChoiceParamOfTool("weather")
		m, err := c.Messages.New(ctx, p)
		if err != nil {
			return nil, err
		}
		return m.RawJSON(), nil
	}},
	{"stream", 12, func(ctx context.Context, c anthropic.Client) (any, error) {
		s := c.Messages.NewStreaming(ctx, messageParams("claude-test"))
		defer s.Close()
		var all []string
		for s.Next() {
			event := s.Current()
			all = append(all, event.RawJSON())
		}
		return all, s.Err()
	}},
	{"count_tokens", 0, func(ctx context.Context, c anthropic.Client) (any, error) {
		n, err := c.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{
			Model: "claude-test", Messages: messageParams("claude-test").Messages,
		})
		if err != nil {
			return nil, err
		}
		return n.RawJSON(), nil
	}},
}

func TestAnthropicPassesUnchanged(t *testing.T) {
	p := startProvider(t, answers(anthropicAnswers))
	h := startHub(t, p.config())
	key := h.key(t, "sdk")
	var requests, tokens int64
	for _, tt := range anthropicCalls {
		t.Run(tt.name, func(t *testing.T) {
			want, err := tt.call(t.Context(), anthropicClient(p.URL, credential))
			if err != nil {
				t.Fatalf("directly: %v", err)
			}
			direct := p.next(t)
			got, err := tt.call(t.Context(), anthropicClient(h.url, key))
			if err != nil {
				t.Fatal(err)
			}
			through := p.next(t)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got\n%s\ndirectly\n%s", got, want)
			}
			sameRequest(t, direct, through)
			checkCredential(t, through, key)
		})
		requests++ // counting is a request too, of no tokens
		tokens += tt.tokens
	}
	checkUsage(t, h, requests, tokens)
}

func TestAnthropicErrors(t *testing.T) {
	p := startProvider(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(529)
		fmt.Fprint(w, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)
	})
	h := startHub(t, p.config())
	good := h.key(t, "good")
	for _, tt := range []struct {
		name, key, model, typ string
		status                int
	}{
		{"the provider's", good, "claude-test", "overloaded_error", 529},
		{"no such key", "th-nonsense", "claude-test", "authentication_error", 401},
		{"unknown model", good, "nobody-has-it", "not_found_error", 404},
		{"model not allowed", h.key(t, "narrow", "--models", "claude-other"), "claude-test", "permission_error", 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := anthropicClient(h.url, tt.key)
			_, err := c.Messages.New(t.Context(), messageParams(tt.model))
			var e *anthropic.Error
			if !errors.As(err, &e) {
				t.Fatalf("got the error %v, want one of the API", err)
			}
			if e.StatusCode != tt.status || string(e.Type()) != tt.typ || !strings.Contains(e.RawJSON(), `"type":"error"`) {
				t.Errorf("got %d %s, want %d %s", e.StatusCode, e.RawJSON(), tt.status, tt.typ)
			}
		})
	}
}

// TestDemoWithAnthropic: the SDK understands what the demo provider says, and
// the report agrees with it.
func TestDemoWithAnthropic(t *testing.T) {
	h := startHub(t, "", "--demo")
	c := anthropicClient(h.url, h.key(t, "sdk"))
	ctx := t.Context()
	p := messageParams("demo")
	p.MaxTokens = 16 // it writes no faster than a real model

	m, err := c.Messages.New(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if m.StopReason != "max_tokens" || !strings.Contains(m.Content[0].Text, "TokenHub") {
		t.Errorf("message: got %s", m.RawJSON())
	}

	s := c.Messages.NewStreaming(ctx, p)
	var whole anthropic.Message
	for s.Next() {
		if err := whole.Accumulate(s.Current()); err != nil {
			t.Errorf("the SDK can't add the event %s: %v", s.Current().RawJSON(), err)
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if whole.Content[0].Text != m.Content[0].Text || whole.Usage.OutputTokens != m.Usage.OutputTokens || whole.StopReason != m.StopReason {
		t.Errorf("stream: got %+v, want the same as %s", whole, m.RawJSON())
	}

	n, err := c.Messages.CountTokens(ctx, anthropic.MessageCountTokensParams{Model: "demo", Messages: p.Messages})
	if err != nil || n.InputTokens != m.Usage.InputTokens {
		t.Errorf("count_tokens: got %+v (%v), want %d", n, err, m.Usage.InputTokens)
	}

	p.Tools = []anthropic.ToolUnionParam{anthropic.ToolUnionParamOfTool(anthropic.ToolInputSchemaParam{}, "weather")}
	p.ToolChoice = anthropic.ToolChoiceParamOfTool("weather")
	call, err := c.Messages.New(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if b := call.Content[0]; b.Type != "tool_use" || b.Name != "weather" || call.StopReason != "tool_use" {
		t.Errorf("tools: got %s", call.RawJSON())
	}
	sum := func(u anthropic.Usage) int64 { return u.InputTokens + u.OutputTokens }
	checkUsage(t, h, 4, sum(m.Usage)+sum(whole.Usage)+sum(call.Usage))
}
