package demo

import (
	"encoding/json"
	"slices"
	"testing"
)

const bonjour = `"system":"Be kind.","messages":[{"role":"user","content":"Hello, world!"}]`

func TestMessages(t *testing.T) {
	for _, tt := range []struct {
		name, fields, reason, sequence string
		tokens                         int
	}{
		{"whole", `"max_tokens":4096`, "end_turn", "", Tokens(reply("Hello, world!"))},
		{"bound", `"max_tokens":5`, "max_tokens", "", 5},
		{"stop", `"max_tokens":4096,"stop_sequences":[" from"]`, "stop_sequence", " from", 1},
		{"bound before stop", `"max_tokens":2,"stop_sequences":["demo"]`, "max_tokens", "", 2},
		{"tool", `"max_tokens":9,"tools":[{"name":"weather"}],"tool_choice":{"type":"tool","name":"weather"}`, "tool_use", "", 2},
		{"any tool", `"max_tokens":9,"tools":[{"name":"weather"}],"tool_choice":{"type":"any"}`, "tool_use", "", 2},
		{"no tool", `"max_tokens":1,"tools":[{"name":"weather"}],"tool_choice":{"type":"auto"}`, "max_tokens", "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := `{"model":"demo",` + bonjour + `,` + tt.fields
			m := post[messageObject](t, "/v1/messages", body+`}`)
			sequence := ""
			if m.StopSequence != nil {
				sequence = *m.StopSequence
			}
			if *m.StopReason != tt.reason || sequence != tt.sequence || m.Usage.Output != tt.tokens {
				t.Errorf("got %s %q %+v, want %s %q, %d tokens", *m.StopReason, sequence, m.Usage, tt.reason, tt.sequence, tt.tokens)
			}
			count := post[messageUsage](t, "/v1/messages/count_tokens", body+`}`)
			if count.Input != m.Usage.Input || count.Input < 3+3+4 {
				t.Errorf("count_tokens says %d, the usage %d", count.Input, m.Usage.Input)
			}
			checkMessageStream(t, stream(t, "/v1/messages", body+`,"stream":true}`), m)
		})
	}
}

// checkMessageStream compares a stream with the same message in one piece.
func checkMessageStream(t *testing.T, events []event, m messageObject) {
	t.Helper()
	var names []string
	var text, partial string
	for _, e := range events {
		var v struct {
			Type         string
			Message      messageObject
			ContentBlock contentBlock `json:"content_block"`
			Delta        struct {
				Text        string
				PartialJSON string  `json:"partial_json"`
				StopReason  *string `json:"stop_reason"`
			}
			Usage messageUsage
		}
		if err := json.Unmarshal([]byte(e.data), &v); err != nil || v.Type != e.name {
			t.Fatalf("event %s with data %s: %v", e.name, e.data, err)
		}
		if len(names) == 0 || names[len(names)-1] != e.name {
			names = append(names, e.name)
		}
		text += v.Delta.Text
		partial += v.Delta.PartialJSON
		switch e.name {
		case "message_start":
			if u := v.Message.Usage; u.Input != m.Usage.Input || u.Output > m.Usage.Output || v.Message.StopReason != nil {
				t.Errorf("the stream starts with %s", e.data)
			}
		case "content_block_start":
			if b := v.ContentBlock; b.Type != m.Content[0].Type || b.Name != m.Content[0].Name {
				t.Errorf("the block starts with %s", e.data)
			}
		case "message_delta":
			if v.Usage != m.Usage || *v.Delta.StopReason != *m.StopReason {
				t.Errorf("the stream ends with %s, want %+v", e.data, m)
			}
		}
	}
	want := []string{"message_start", "content_block_start", "ping", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}
	if !slices.Equal(names, want) {
		t.Errorf("events %v, want %v", names, want)
	}
	if c := m.Content[0]; c.Type == "text" && text != *c.Text || c.Type == "tool_use" && partial != noArguments {
		t.Errorf("the stream says %q %q, want %+v", text, partial, c)
	}
}

func TestPromptParts(t *testing.T) {
	var in prompt
	parts := `[{"type":"text","text":"What is this?"},{"type":"image","source":{}},{"type":"tool_result","content":[{"type":"text","text":"three more words"}]}]`
	if err := in.message("user", json.RawMessage(parts)); err != nil {
		t.Fatal(err)
	}
	if want := messageTokens + 4 + mediaTokens + 3; in.tokens != want || in.question != "What is this? three more words" {
		t.Errorf("got %+v, want %d tokens", in, want)
	}
}
