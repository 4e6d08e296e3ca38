package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

func openaiClient(url, key string) openai.Client {
	return openai.NewClient(option.WithBaseURL(url+"/v1"), option.WithAPIKey(key), option.WithMaxRetries(0))
}

// The answers of the scripted provider. The numbers of their usage are checked
// against the report.
var openaiAnswers = map[string]string{
	"/v1/chat/completions": `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-test-2026-01-01","choices":[{"index":0,"message":{"role":"assistant","content":"Hi <there> \u00fc","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}`,
	"/v1/chat/completions stream": events(
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-test","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-test","choices":[{"index":0,"delta":{"content":"Hi "},"finish_reason":null}],"usage":null}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-test","choices":[{"index":0,"delta":{"content":"there"},"finish_reason":null}],"usage":null}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-test","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}`,
		`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-test","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}`,
		`[DONE]`),
	"/v1/responses": `{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"gpt-test","output":[{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi","annotations":[]}]}],"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":12}}`,
	"/v1/responses stream": "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"status\":\"in_progress\",\"usage\":null}}\n\n" +
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"Hi\"}\n\n" +
		"event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"usage\":{\"input_tokens\":9,\"output_tokens\":3,\"total_tokens\":12}}}\n\n",
	"/v1/embeddings":           `{"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAAAA="}],"model":"text-embedding-test","usage":{"prompt_tokens":9,"total_tokens":9}}`,
	"/v1/audio/transcriptions": `{"text":"Hi there","usage":{"type":"tokens","input_tokens":9,"output_tokens":3,"total_tokens":12}}`,
}

func chatParams(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:     model,
		MaxTokens: openai.Int(64),
		Messages:  []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Say <hi> & \u2028 ü")},
	}
}

// openaiCalls are the calls of the SDK that pass unchanged. Each returns what the
// program that made it sees.
var openaiCalls = []struct {
	name   string
	tokens int64 // input and output, as reported
	call   func(context.Context, openai.Client) (any, error)
}{
	{"chat", 12, func(ctx context.Context, c openai.Client) (any, error) {
		r, err := c.Chat.Completions.New(ctx, chatParams("gpt-test"))
		if err != nil {
			return nil, err
		}
		return r.RawJSON(), nil
	}},
	{"chat with tools", 12, func(ctx context.Context, c openai.Client) (any, error) {
		p := chatParams("gpt-test")
		p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
			Name: "weather", Parameters: shared.FunctionParameters{"type": "object", "properties": map[string]any{}},
		})}
		r, err := c.Chat.Completions.New(ctx, p)
		if err != nil {
			return nil, err
		}
		return r.RawJSON(), nil
	}},
	{"stream with usage", 12, func(ctx context.Context, c openai.Client) (any, error) {
		p := chatParams("gpt-test")
		p.StreamOptions.IncludeUsage = openai.Bool(true)
		return chatStream(ctx, c, p)
	}},
	{"responses", 12, func(ctx context.Context, c openai.Client) (any, error) {
		r, err := c.Responses.New(ctx, responseParams("gpt-test"))
		if err != nil {
			return nil, err
		}
		return r.RawJSON(), nil
	}},
	{"responses stream", 12, func(ctx context.Context, c openai.Client) (any, error) {
		s := c.Responses.NewStreaming(ctx, responseParams("gpt-test"))
		defer s.Close()
		var all []string
		for s.Next() {
			all = append(all, s.Current().RawJSON())
		}
		return all, s.Err()
	}},
	{"embeddings", 9, func(ctx context.Context, c openai.Client) (any, error) {
		r, err := c.Embeddings.New(ctx, openai.EmbeddingNewParams{
			Model: "text-embedding-test", EncodingFormat: openai.EmbeddingNewParamsEncodingFormatBase64,
			Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("hi")},
		})
		if err != nil {
			return nil, err
		}
		return r.RawJSON(), nil
	}},
	{"transcription", 12, transcribe},
}

// transcribe uploads a file that is larger than what a server reads at a time.
func transcribe(ctx context.Context, c openai.Client) (any, error) {
	sound := bytes.Repeat([]byte("RIFF\x00\r\n--\xff"), 20_000)
	r, err := c.Audio.Transcriptions.New(ctx, openai.AudioTranscriptionNewParams{
		Model: "whisper-test", File: openai.File(bytes.NewReader(sound), "sound ü.wav", "audio/wav"),
	})
	if err != nil {
		return nil, err
	}
	return r.RawJSON(), nil
}

func responseParams(model string) responses.ResponseNewParams {
	return responses.ResponseNewParams{
		Model: model, MaxOutputTokens: openai.Int(64),
		Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Say hi")},
	}
}

// chatStream returns the chunks of a stream.
func chatStream(ctx context.Context, c openai.Client, p openai.ChatCompletionNewParams) ([]string, error) {
	s := c.Chat.Completions.NewStreaming(ctx, p)
	defer s.Close()
	var all []string
	for s.Next() {
		chunk := s.Current()
		all = append(all, chunk.RawJSON())
	}
	return all, s.Err()
}

func TestOpenAIPassesUnchanged(t *testing.T) {
	p := startProvider(t, answers(openaiAnswers))
	h := startHub(t, p.config())
	key := h.key(t, "sdk")
	var requests, tokens int64
	for _, tt := range openaiCalls {
		t.Run(tt.name, func(t *testing.T) {
			want, err := tt.call(t.Context(), openaiClient(p.URL, credential))
			if err != nil {
				t.Fatalf("directly: %v", err)
			}
			direct := p.next(t)
			got, err := tt.call(t.Context(), openaiClient(h.url, key))
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
		requests++
		tokens += tt.tokens
	}
	checkUsage(t, h, requests, tokens)
}

func TestOpenAIModels(t *testing.T) {
	p := startProvider(t, answers(nil))
	h := startHub(t, p.config())
	c := openaiClient(h.url, h.key(t, "sdk"))
	list, err := c.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	if !slices.Contains(ids, "org/model:free") {
		t.Errorf("got the models %q, want the provider's among them", ids)
	}
	if m, err := c.Models.Get(t.Context(), "org/model:free"); err != nil || m.ID != "org/model:free" {
		t.Errorf("got %+v (%v)", m, err)
	}
}

// TestUsageIsAskedFor: who streams without asking for usage gets the stream
// without it, and is counted all the same.
func TestUsageIsAskedFor(t *testing.T) {
	p := startProvider(t, answers(openaiAnswers))
	h := startHub(t, p.config())
	chunks, err := chatStream(t.Context(), openaiClient(h.url, h.key(t, "sdk")), chatParams("gpt-test"))
	if err != nil {
		t.Fatal(err)
	}
	if len(chunks) != 4 || strings.Contains(chunks[3], "prompt_tokens") {
		t.Errorf("got the chunks %s, want the four with choices", chunks)
	}
	if got := p.next(t); !bytes.Contains(got.body, []byte(`"include_usage":true`)) {
		t.Errorf("the provider was not asked for usage: %s", got.body)
	}
	checkUsage(t, h, 1, 12)
}

func TestOpenAIErrorsOfTheProvider(t *testing.T) {
	p := startProvider(t, func(w http.ResponseWriter, _ *http.Request, body []byte) {
		var status int
		if _, after, ok := bytes.Cut(body, []byte("gpt-")); ok {
			fmt.Sscan(string(after[:3]), &status)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After-Ms", "1500")
		w.Header().Set("X-Should-Retry", "false")
		w.Header().Set("X-Request-Id", "req_of_the_provider")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"message":"No <%d>.","type":"some_error","param":"messages","code":"code_%d"}}`, status, status)
	})
	h := startHub(t, p.config())
	c := openaiClient(h.url, h.key(t, "sdk"))
	for _, status := range []int{400, 401, 404, 422, 429, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			_, err := c.Chat.Completions.New(t.Context(), chatParams(fmt.Sprint("gpt-", status)))
			e := openaiError(t, err)
			if e.StatusCode != status || e.Code != fmt.Sprint("code_", status) || e.Type != "some_error" || e.Param != "messages" || e.Message != fmt.Sprintf("No <%d>.", status) {
				t.Errorf("got %d %s", e.StatusCode, e.RawJSON())
			}
			for name, want := range map[string]string{"Retry-After-Ms": "1500", "X-Should-Retry": "false", "X-Request-Id": "req_of_the_provider"} {
				if got := e.Response.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			p.next(t)
			if n := len(p.got); n != 0 {
				t.Errorf("the provider was called %d times more", n)
			}
		})
	}
}

func TestOpenAIErrorsOfTheGateway(t *testing.T) {
	p := startProvider(t, answers(openaiAnswers))
	h := startHub(t, p.config())
	once := h.key(t, "once", "--rpm", "1")
	small := h.key(t, "small", "--max-tokens", "10")
	narrow := h.key(t, "narrow", "--models", "gpt-other")
	poor := h.key(t, "poor", "--total-tokens", "70")
	good := h.key(t, "good")
	for _, tt := range []struct {
		name, key, model, typ, code string
		status, before              int // before: calls that succeed
	}{
		{"no such key", "th-nonsense", "gpt-test", "authentication_error", "invalid_api_key", 401, 0},
		{"a typo", good[:len(good)-1] + "_", "gpt-test", "authentication_error", "invalid_api_key", 401, 0},
		{"unknown model", good, "nobody-has-it", "not_found_error", "model_not_found", 404, 0},
		{"model not allowed", narrow, "gpt-test", "permission_error", "model_not_allowed", 403, 0},
		{"bound above the key's", small, "gpt-test", "invalid_request_error", "max_tokens_exceeded", 422, 0},
		{"too often", once, "gpt-test", "rate_limit_error", "requests_per_minute_exceeded", 429, 1},
		{"budget", poor, "gpt-test", "usage_limit_exceeded", "total_token_limit_reached", 402, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := openaiClient(h.url, tt.key)
			for range tt.before {
				if _, err := c.Chat.Completions.New(t.Context(), chatParams(tt.model)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := c.Chat.Completions.New(t.Context(), chatParams(tt.model))
			e := openaiError(t, err)
			if e.StatusCode != tt.status || e.Type != tt.typ || e.Code != tt.code || e.Message == "" {
				t.Errorf("got %d %s, want %d %s %s", e.StatusCode, e.RawJSON(), tt.status, tt.typ, tt.code)
			}
			if got := e.Response.Header.Get("Retry-After"); (got != "") != (tt.status == 429) {
				t.Errorf("Retry-After is %q with status %d", got, tt.status)
			}
			if got := e.Response.Header.Get("X-Tokenhub-Error"); got != "gateway" {
				t.Errorf("X-TokenHub-Error is %q", got)
			}
			_, err = chatStream(t.Context(), c, chatParams(tt.model))
			if s := openaiError(t, err); s.Code != tt.code {
				t.Errorf("asked to stream: got %d %s, want %s", s.StatusCode, s.RawJSON(), tt.code)
			}
		})
	}
}

func openaiError(t *testing.T, err error) *openai.Error {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) {
		t.Fatalf("got the error %v, want one of the API", err)
	}
	return e
}

// TestDemoWithOpenAI: the SDK understands what the demo provider says, and the
// report agrees with it.
func TestDemoWithOpenAI(t *testing.T) {
	h := startHub(t, "", "--demo")
	c := openaiClient(h.url, h.key(t, "sdk"))
	ctx := t.Context()
	var requests, tokens int64
	count := func(n int64) { requests++; tokens += n }

	p := chatParams("demo")
	p.MaxTokens = openai.Int(16) // it writes no faster than a real model
	chat, err := c.Chat.Completions.New(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	count(chat.Usage.TotalTokens)
	if m := chat.Choices[0]; m.FinishReason != "length" || !strings.Contains(m.Message.Content, "TokenHub") {
		t.Errorf("chat: got %s", chat.RawJSON())
	}

	p.StreamOptions.IncludeUsage = openai.Bool(true)
	s := c.Chat.Completions.NewStreaming(ctx, p)
	var whole openai.ChatCompletionAccumulator
	for s.Next() {
		if !whole.AddChunk(s.Current()) {
			t.Errorf("the SDK can't add the chunk %s", s.Current().RawJSON())
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if whole.Choices[0].Message.Content != chat.Choices[0].Message.Content || whole.Usage.TotalTokens != chat.Usage.TotalTokens {
		t.Errorf("stream: got %+v, want the same as %s", whole.ChatCompletion, chat.RawJSON())
	}
	count(whole.Usage.TotalTokens)

	p = chatParams("demo")
	p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{Name: "weather"})}
	p.ToolChoice = openai.ToolChoiceOptionFunctionToolChoice(openai.ChatCompletionNamedToolChoiceFunctionParam{Name: "weather"})
	call, err := c.Chat.Completions.New(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if calls := call.Choices[0].Message.ToolCalls; len(calls) != 1 || calls[0].Function.Name != "weather" {
		t.Errorf("tools: got %s", call.RawJSON())
	}
	count(call.Usage.TotalTokens)

	rp := responseParams("demo")
	rp.MaxOutputTokens = openai.Int(16)
	r, err := c.Responses.New(ctx, rp)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.OutputText(), "TokenHub") {
		t.Errorf("responses: got %s", r.RawJSON())
	}
	count(r.Usage.TotalTokens)

	e, err := c.Embeddings.New(ctx, openai.EmbeddingNewParams{
		Model: "demo-embedding", EncodingFormat: openai.EmbeddingNewParamsEncodingFormatBase64,
		Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "two"}}, Dimensions: openai.Int(8),
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(e.Data[1].JSON.Embedding.Raw()[1 : len(e.Data[1].JSON.Embedding.Raw())-1])
	if err != nil || len(raw) != 8*4 {
		t.Errorf("embeddings: got %s (%v)", e.RawJSON(), err)
	}
	count(e.Usage.TotalTokens)

	checkUsage(t, h, requests, tokens)
}

// TestModelOfAnUpload: a multipart body says its model too, behind a large file.
func TestModelOfAnUpload(t *testing.T) {
	p := startProvider(t, answers(openaiAnswers))
	h := startHub(t, p.config())
	for models, allowed := range map[string]bool{"whisper-*": true, "gpt-*": false} {
		_, err := transcribe(t.Context(), openaiClient(h.url, h.key(t, "only "+models, "--models", models)))
		if !allowed {
			if e := openaiError(t, err); e.Code != "model_not_allowed" {
				t.Errorf("a key for %s gets %d %s", models, e.StatusCode, e.RawJSON())
			}
		} else if err != nil {
			t.Errorf("a key for %s: %v", models, err)
		}
	}
}
