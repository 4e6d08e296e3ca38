package demo

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// chatAnswerJSON is a chat completion as a caller reads it.
type chatAnswerJSON struct {
	Object  string
	Created int64
	Choices []struct {
		Index   int
		Message struct {
			Role      string
			Content   *string
			ToolCalls []toolCall `json:"tool_calls"`
		}
		Delta struct {
			Role      string
			Content   *string
			ToolCalls []toolCall `json:"tool_calls"`
		}
		FinishReason *string `json:"finish_reason"`
	}
	Usage *chatUsage
}

const hello = `"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":[{"type":"text","text":"Hello, world!"}]}]`

// helloTokens is the size of hello: two messages, "Be kind." and "Hello, world!".
const helloTokens = 2*messageTokens + 3 + 4

func TestChat(t *testing.T) {
	whole := Tokens(reply("Hello, world!"))
	for _, tt := range []struct {
		name, fields, finish string
		tokens               int
	}{
		{"whole", ``, "stop", whole},
		{"max_tokens", `,"max_tokens":5`, "length", 5},
		{"max_completion_tokens counts first", `,"max_tokens":5,"max_completion_tokens":7`, "length", 7},
		{"a bound that is not reached", `,"max_tokens":4096`, "stop", whole},
		{"one stop", `,"stop":" from"`, "stop", Tokens("Hello")},
		{"the first of two stops", `,"stop":["demo"," from"]`, "stop", Tokens("Hello")},
		{"no stop", `,"stop":null`, "stop", whole},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := post[chatAnswerJSON](t, "/v1/chat/completions", `{"model":"demo",`+hello+tt.fields+`}`)
			c := got.Choices[0]
			if got.Object != "chat.completion" || got.Created != 1_800_000_000 || c.Message.Role != "assistant" {
				t.Errorf("got %+v", got)
			}
			if *c.FinishReason != tt.finish || Tokens(*c.Message.Content) != tt.tokens {
				t.Errorf("got %q (%d tokens) %s, want %d tokens, %s", *c.Message.Content, Tokens(*c.Message.Content), *c.FinishReason, tt.tokens, tt.finish)
			}
			if u := got.Usage; u.Prompt != helloTokens || u.Completion != tt.tokens || u.Total != helloTokens+tt.tokens {
				t.Errorf("usage %+v, want %d in and %d out", u, helloTokens, tt.tokens)
			}
		})
	}
}

func TestChatChoices(t *testing.T) {
	got := post[chatAnswerJSON](t, "/v1/chat/completions", `{"model":"demo","n":3,"max_tokens":4,`+hello+`}`)
	if len(got.Choices) != 3 || got.Choices[2].Index != 2 || got.Usage.Completion != 12 {
		t.Errorf("got %+v, want three choices of 4 tokens each", got)
	}
}

// TestChatStream: a stream says what the answer in one piece says, and tells its
// usage only to those who ask, as OpenAI does.
func TestChatStream(t *testing.T) {
	for _, options := range []string{``, `,"stream_options":{"include_usage":false}`, `,"stream_options":{"include_usage":true}`} {
		for _, n := range []int{1, 2} {
			t.Run(fmt.Sprint(options, n), func(t *testing.T) {
				body := fmt.Sprintf(`{"model":"demo","n":%d,"max_tokens":9,%s`, n, hello)
				want := post[chatAnswerJSON](t, "/v1/chat/completions", body+`}`)
				events := stream(t, "/v1/chat/completions", body+`,"stream":true`+options+`}`)

				if last := events[len(events)-1].data; last != "[DONE]" {
					t.Errorf("the stream ends with %q", last)
				}
				events = events[:len(events)-1]
				asked := strings.Contains(options, "true")
				if asked {
					last := events[len(events)-1].data
					events = events[:len(events)-1]
					var got chatAnswerJSON
					if err := json.Unmarshal([]byte(last), &got); err != nil || got.Usage == nil || *got.Usage != *want.Usage {
						t.Errorf("last chunk %s, want usage %+v", last, want.Usage)
					}
					if !strings.Contains(last, `"choices":[]`) {
						t.Errorf("the chunk with the usage has choices: %s", last)
					}
				}
				texts, finish := make([]string, n), make([]string, n)
				for i, e := range events {
					if has := strings.Contains(e.data, `"usage":null`); has != asked || strings.Contains(e.data, `"usage":{`) {
						t.Errorf("usage in chunk %d: %s", i, e.data)
					}
					var got chatAnswerJSON
					if err := json.Unmarshal([]byte(e.data), &got); err != nil || len(got.Choices) != 1 {
						t.Fatalf("chunk %s: %v", e.data, err)
					}
					c := got.Choices[0]
					if (i < n) != (c.Delta.Role == "assistant") {
						t.Errorf("chunk %d has role %q", i, c.Delta.Role)
					}
					if c.Delta.Content != nil {
						texts[c.Index] += *c.Delta.Content
					}
					if c.FinishReason != nil {
						finish[c.Index] += *c.FinishReason
					}
				}
				for i, c := range want.Choices {
					if texts[i] != *c.Message.Content || finish[i] != *c.FinishReason {
						t.Errorf("choice %d: got %q %s, want %q %s", i, texts[i], finish[i], *c.Message.Content, *c.FinishReason)
					}
				}
			})
		}
	}
}

const weather = `"tools":[{"type":"function","function":{"name":"weather","parameters":{}}}]`

func TestChatTools(t *testing.T) {
	for choice, called := range map[string]bool{
		`"auto"`:     false,
		`"none"`:     false,
		`null`:       false,
		`"required"`: true,
		`{"type":"function","function":{"name":"weather"}}`: true,
	} {
		body := `{"model":"demo",` + hello + `,` + weather + `,"tool_choice":` + choice
		got := post[chatAnswerJSON](t, "/v1/chat/completions", body+`}`)
		c := got.Choices[0]
		if called != (len(c.Message.ToolCalls) == 1) || called != (*c.FinishReason == "tool_calls") || called != (c.Message.Content == nil) {
			t.Errorf("tool_choice %s: got %+v", choice, c)
			continue
		}
		if got.Usage.Prompt <= helloTokens {
			t.Errorf("tools are not counted: %+v", got.Usage)
		}
		if !called {
			continue
		}
		if f := c.Message.ToolCalls[0]; f.Function != (functionCall{"weather", "{}"}) || f.ID == "" || f.Index != nil {
			t.Errorf("tool_choice %s: called %+v", choice, f)
		}
		var name, arguments, id string
		for _, e := range stream(t, "/v1/chat/completions", body+`,"stream":true}`) {
			var got chatAnswerJSON
			if json.Unmarshal([]byte(e.data), &got) != nil {
				continue
			}
			for _, f := range got.Choices[0].Delta.ToolCalls {
				name, arguments, id = name+f.Function.Name, arguments+f.Function.Arguments, id+f.ID
			}
		}
		if name != "weather" || arguments != "{}" || strings.Count(id, "call_") != 1 {
			t.Errorf("tool_choice %s: the stream calls %q %q %q", choice, name, arguments, id)
		}
	}
}

func TestCompletions(t *testing.T) {
	type object struct {
		Choices []struct {
			Text         string
			Index        int
			FinishReason *string `json:"finish_reason"`
		}
		Usage *chatUsage
	}
	for _, tt := range []struct {
		fields            string
		choices, in, each int
	}{
		{`"prompt":"Hello, world!"`, 1, 4, completionTokens},
		{`"prompt":["one","two words"],"max_tokens":3`, 2, 3, 3},
		{`"prompt":["one","two words"],"n":2,"max_tokens":3`, 4, 3, 3},
		{`"prompt":[17,4,99],"max_tokens":3`, 1, 3, 3},
		{`"prompt":[[17,4],[99]],"max_tokens":3`, 2, 3, 3},
		{`"max_tokens":3`, 1, 0, 3},
	} {
		body := `{"model":"demo",` + tt.fields
		got := post[object](t, "/v1/completions", body+`}`)
		if len(got.Choices) != tt.choices || got.Usage.Prompt != tt.in || got.Usage.Completion != tt.choices*tt.each {
			t.Errorf("%s: got %+v %+v", tt.fields, got.Choices, got.Usage)
		}
		events := stream(t, "/v1/completions", body+`,"stream":true,"stream_options":{"include_usage":true}}`)
		texts := make([]string, tt.choices)
		var usage *chatUsage
		for _, e := range events[:len(events)-1] {
			var chunk object
			if err := json.Unmarshal([]byte(e.data), &chunk); err != nil {
				t.Fatal(err)
			}
			for _, c := range chunk.Choices {
				texts[c.Index] += c.Text
			}
			usage = chunk.Usage
		}
		for i, c := range got.Choices {
			if texts[i] != c.Text || *c.FinishReason != "length" {
				t.Errorf("%s: choice %d streams %q, want %q", tt.fields, i, texts[i], c.Text)
			}
		}
		if usage == nil || *usage != *got.Usage {
			t.Errorf("%s: the stream's usage is %+v, want %+v", tt.fields, usage, got.Usage)
		}
	}
}
