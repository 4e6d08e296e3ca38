package demo

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestResponses(t *testing.T) {
	whole := Tokens(reply("Hello, world!"))
	for _, tt := range []struct {
		name, fields, status string
		in, out              int
	}{
		{"text", `"input":"Hello, world!"`, "completed", 7, whole},
		{"instructions", `"input":"Hello, world!","instructions":"Be kind."`, "completed", 10, whole},
		{"items", `"input":[{"role":"user","content":[{"type":"input_text","text":"Hello, world!"}]}]`, "completed", 7, whole},
		{"a call and its result", `"input":[{"role":"user","content":"Hello, world!"},{"type":"function_call","arguments":"{}"},{"type":"function_call_output","output":"42"}]`, "completed", 7 + 3 + 2 + 3 + 1, whole},
		{"bound", `"input":"Hello, world!","max_output_tokens":16`, "incomplete", 7, 16},
		{"tool", `"input":"Hello, world!","tools":[{"type":"function","name":"weather"}],"tool_choice":"required"`, "completed", 0, 2},
		{"named tool", `"input":"Hello, world!","tools":[{"type":"function","name":"weather"}],"tool_choice":{"type":"function","name":"weather"}`, "completed", 0, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := `{"model":"demo",` + tt.fields
			o := post[responseObject](t, "/v1/responses", body+`}`)
			if o.Status != tt.status || o.Usage.Output != tt.out || o.Usage.Total != o.Usage.Input+tt.out || tt.in > 0 && o.Usage.Input != tt.in {
				t.Errorf("got %s %+v, want %s, %d in, %d out", o.Status, o.Usage, tt.status, tt.in, tt.out)
			}
			if (o.Incomplete == nil) != (tt.status == "completed") {
				t.Errorf("status %s with incomplete_details %v", o.Status, o.Incomplete)
			}
			if item := o.Output[0]; item.Type == "function_call" && (item.Name != "weather" || *item.Arguments != noArguments) ||
				item.Type == "message" && Tokens(item.Content[0].Text) != tt.out {
				t.Errorf("got %+v", item)
			}
			checkResponseStream(t, stream(t, "/v1/responses", body+`,"stream":true}`), o)
		})
	}
}

// checkResponseStream compares a stream with the same response in one piece.
func checkResponseStream(t *testing.T, events []event, o responseObject) {
	t.Helper()
	var names []string
	var deltas string
	for i, e := range events {
		var v struct {
			Type     string
			Number   int `json:"sequence_number"`
			Delta    string
			Response *responseObject
		}
		if err := json.Unmarshal([]byte(e.data), &v); err != nil || v.Type != e.name || v.Number != i {
			t.Fatalf("event %d %s with data %s: %v", i, e.name, e.data, err)
		}
		if len(names) == 0 || names[len(names)-1] != e.name {
			names = append(names, e.name)
		}
		deltas += v.Delta
		if v.Response == nil {
			continue
		}
		if last := i == len(events)-1; last && (v.Response.Status != o.Status || *v.Response.Usage != *o.Usage) || !last && v.Response.Usage != nil {
			t.Errorf("event %s with response %s", e.name, e.data)
		}
	}
	want := []string{"response.created", "response.in_progress", "response.output_item.added",
		"response.content_part.added", "response.output_text.delta", "response.output_text.done", "response.content_part.done",
		"response.output_item.done", "response." + o.Status}
	text := ""
	if item := o.Output[0]; item.Type == "function_call" {
		text = *item.Arguments
		want = slices.Replace(want, 3, 7, "response.function_call_arguments.delta", "response.function_call_arguments.done")
	} else {
		text = item.Content[0].Text
	}
	if !slices.Equal(names, want) {
		t.Errorf("events %v, want %v", names, want)
	}
	if deltas != text {
		t.Errorf("the stream says %q, want %q", deltas, text)
	}
}
