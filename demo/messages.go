package demo

import (
	"encoding/json"
	"net/http"
)

// messagesRequest holds the fields of Anthropic's messages that the provider honours.
type messagesRequest struct {
	Model    string          `json:"model"`
	System   json.RawMessage `json:"system"`
	Messages []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	MaxTokens  *int            `json:"max_tokens"`
	Stop       texts           `json:"stop_sequences"`
	Stream     bool            `json:"stream"`
	Tools      json.RawMessage `json:"tools"`
	ToolChoice json.RawMessage `json:"tool_choice"`
}

// read decodes a request and counts its prompt.
func (req *messagesRequest) read(w http.ResponseWriter, r *http.Request) (prompt, error) {
	var in prompt
	if err := decode(w, r, req); err != nil {
		return in, err
	}
	if req.Model != Model {
		return in, noSuchModel(req.Model)
	}
	if len(req.Messages) == 0 {
		return in, badRequest("messages", "messages: at least one message is required.")
	}
	if _, err := in.content(req.System); err != nil {
		return in, err
	}
	for _, m := range req.Messages {
		if err := in.message(m.Role, m.Content); err != nil {
			return in, err
		}
	}
	in.extra(req.Tools)
	return in, nil
}

// messageUsage is Anthropic's usage; nothing is ever cached here.
type messageUsage struct {
	Input      int `json:"input_tokens"`
	CacheWrite int `json:"cache_creation_input_tokens"`
	CacheRead  int `json:"cache_read_input_tokens"`
	Output     int `json:"output_tokens"`
}

// messageObject is Anthropic's message.
type messageObject struct {
	ID           string         `json:"id"`
	Type         string         `json:"type"`
	Role         string         `json:"role"`
	Model        string         `json:"model"`
	Content      []contentBlock `json:"content"`
	StopReason   *string        `json:"stop_reason"`
	StopSequence *string        `json:"stop_sequence"`
	Usage        messageUsage   `json:"usage"`
}

// contentBlock is a text, or the call of a tool.
type contentBlock struct {
	Type  string    `json:"type"`
	Text  *string   `json:"text,omitempty"`
	ID    string    `json:"id,omitempty"`
	Name  string    `json:"name,omitempty"`
	Input *struct{} `json:"input,omitempty"`
}

func (p *provider) countTokens(w http.ResponseWriter, r *http.Request) error {
	var req messagesRequest
	in, err := req.read(w, r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, map[string]int{"input_tokens": in.tokens})
	return nil
}

func (p *provider) messages(w http.ResponseWriter, r *http.Request) error {
	var req messagesRequest
	in, err := req.read(w, r)
	if err != nil {
		return err
	}
	if req.MaxTokens == nil {
		return badRequest("max_tokens", "max_tokens: the field is required.")
	}
	b := bounds{tokens: req.MaxTokens, stop: req.Stop}
	if err := b.check("max_tokens"); err != nil {
		return err
	}

	m := messageObject{ID: newID("msg_"), Type: "message", Role: "assistant", Model: Model,
		Content: []contentBlock{}, Usage: messageUsage{Input: in.tokens}}
	tool := forcedTool(req.ToolChoice, req.Tools)
	a, reason := b.cut(reply(in.question)), "end_turn"
	var stop *string
	switch {
	case tool != "":
		a, reason = answer{tokens: split(noArguments), full: true}, "tool_use"
	case !a.full:
		reason = "max_tokens"
	case a.stop != "":
		reason, stop = "stop_sequence", &a.stop
	}
	if req.Stream {
		return streamMessage(startEvents(r.Context(), w, p.pace()), m, a, tool, reason, stop)
	}
	if err := p.pace().skip(r.Context(), len(a.tokens)); err != nil {
		return err
	}
	text := a.text()
	block := contentBlock{Type: "text", Text: &text}
	if tool != "" {
		block = contentBlock{Type: "tool_use", ID: newID("toolu_"), Name: tool, Input: &struct{}{}}
	}
	m.Content, m.StopReason, m.StopSequence = []contentBlock{block}, &reason, stop
	m.Usage.Output = len(a.tokens)
	writeJSON(w, http.StatusOK, m)
	return nil
}

// streamMessage sends a message as Anthropic does. The usage of message_start
// knows the input, that of message_delta replaces it with the whole truth.
func streamMessage(e *events, m messageObject, a answer, tool, reason string, stop *string) error {
	send := func(typ string, v map[string]any) {
		v["type"] = typ
		e.send(typ, v)
	}
	empty := ""
	block := contentBlock{Type: "text", Text: &empty}
	if tool != "" {
		block = contentBlock{Type: "tool_use", ID: newID("toolu_"), Name: tool, Input: &struct{}{}}
	}
	m.Usage.Output = min(1, len(a.tokens))
	send("message_start", map[string]any{"message": m})
	send("content_block_start", map[string]any{"index": 0, "content_block": block})
	send("ping", map[string]any{})
	for _, token := range a.tokens {
		delta := map[string]string{"type": "text_delta", "text": token}
		if tool != "" {
			delta = map[string]string{"type": "input_json_delta", "partial_json": token}
		}
		e.wait()
		send("content_block_delta", map[string]any{"index": 0, "delta": delta})
	}
	send("content_block_stop", map[string]any{"index": 0})
	m.Usage.Output = len(a.tokens)
	send("message_delta", map[string]any{
		"delta": map[string]any{"stop_reason": reason, "stop_sequence": stop},
		"usage": m.Usage,
	})
	send("message_stop", map[string]any{})
	return e.err
}
