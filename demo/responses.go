package demo

import (
	"encoding/json"
	"net/http"
)

// responsesRequest holds the fields of OpenAI's responses that the provider honours.
type responsesRequest struct {
	Model           string          `json:"model"`
	Input           json.RawMessage `json:"input"`
	Instructions    json.RawMessage `json:"instructions"`
	MaxOutputTokens *int            `json:"max_output_tokens"`
	Stream          bool            `json:"stream"`
	Background      bool            `json:"background"`
	Previous        string          `json:"previous_response_id"`
	Tools           json.RawMessage `json:"tools"`
	ToolChoice      json.RawMessage `json:"tool_choice"`
	Metadata        json.RawMessage `json:"metadata"`
}

// read counts the prompt.
func (req *responsesRequest) read() (prompt, error) {
	var in prompt
	if _, err := in.content(req.Instructions); err != nil {
		return in, err
	}
	in.extra(req.Tools)
	var text string
	if json.Unmarshal(req.Input, &text) == nil && text != "" {
		return in, in.message("user", req.Input)
	}
	var items []struct {
		Role      string          `json:"role"`
		Content   json.RawMessage `json:"content"`
		Arguments string          `json:"arguments"` // of a call
		Output    json.RawMessage `json:"output"`    // of a call's result
	}
	if json.Unmarshal(req.Input, &items) != nil || len(items) == 0 {
		return in, badRequest("input", "input must be a text or an array of items.")
	}
	for _, item := range items {
		if err := in.message(item.Role, item.Content); err != nil {
			return in, err
		}
		in.tokens += Tokens(item.Arguments)
		if _, err := in.content(item.Output); err != nil {
			return in, err
		}
	}
	return in, nil
}

// responseUsage is OpenAI's usage of responses.
type responseUsage struct {
	Input int `json:"input_tokens"`
	In    struct {
		Cached int `json:"cached_tokens"`
	} `json:"input_tokens_details"`
	Output int `json:"output_tokens"`
	Out    struct {
		Reasoning int `json:"reasoning_tokens"`
	} `json:"output_tokens_details"`
	Total int `json:"total_tokens"`
}

// responseObject is OpenAI's response.
type responseObject struct {
	ID                string            `json:"id"`
	Object            string            `json:"object"`
	CreatedAt         int64             `json:"created_at"`
	Status            string            `json:"status"`
	Background        bool              `json:"background"`
	Error             *struct{}         `json:"error"`
	Incomplete        map[string]string `json:"incomplete_details"`
	Instructions      json.RawMessage   `json:"instructions"`
	MaxOutputTokens   *int              `json:"max_output_tokens"`
	Model             string            `json:"model"`
	Output            []outputItem      `json:"output"`
	ParallelToolCalls bool              `json:"parallel_tool_calls"`
	Previous          *string           `json:"previous_response_id"`
	Store             bool              `json:"store"`
	Temperature       float64           `json:"temperature"`
	ToolChoice        json.RawMessage   `json:"tool_choice"`
	Tools             json.RawMessage   `json:"tools"`
	TopP              float64           `json:"top_p"`
	Truncation        string            `json:"truncation"`
	Usage             *responseUsage    `json:"usage"`
	Metadata          json.RawMessage   `json:"metadata"`
}

// outputItem is a message, or the call of a function.
type outputItem struct {
	ID        string       `json:"id"`
	Type      string       `json:"type"`
	Status    string       `json:"status"`
	Role      string       `json:"role,omitempty"`
	Content   []outputText `json:"content,omitzero"` // nil in calls, never in messages
	CallID    string       `json:"call_id,omitempty"`
	Name      string       `json:"name,omitempty"`
	Arguments *string      `json:"arguments,omitempty"`
}

type outputText struct {
	Type        string     `json:"type"`
	Text        string     `json:"text"`
	Annotations []struct{} `json:"annotations"`
}

func newOutputText(text string) outputText { return outputText{"output_text", text, []struct{}{}} }

// responseAnswer is what goes back, as JSON or as a stream.
type responseAnswer struct {
	head   responseObject
	item   outputItem // empty, as it is announced
	answer answer
	in     int
}

func (p *provider) responses(w http.ResponseWriter, r *http.Request) error {
	var req responsesRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	b := bounds{tokens: req.MaxOutputTokens}
	switch {
	case req.Model != Model:
		return noSuchModel(req.Model)
	case req.Background:
		return badRequest("background", "The demo provider answers in the foreground only.")
	case req.Previous != "":
		return badRequest("previous_response_id", "The demo provider stores nothing: send the whole conversation as input.")
	}
	if err := b.check("max_output_tokens"); err != nil {
		return err
	}
	in, err := req.read()
	if err != nil {
		return err
	}

	a := responseAnswer{in: in.tokens, head: responseObject{
		ID: newID("resp_"), Object: "response", CreatedAt: p.now().Unix(), Status: "in_progress", Model: Model,
		Instructions: req.Instructions, MaxOutputTokens: req.MaxOutputTokens, Output: []outputItem{},
		ParallelToolCalls: true, Temperature: 1, TopP: 1, Truncation: "disabled",
		Tools:      orJSON(req.Tools, "[]"),
		ToolChoice: orJSON(req.ToolChoice, `"auto"`),
		Metadata:   orJSON(req.Metadata, "{}"),
	}}
	if tool := forcedTool(req.ToolChoice, req.Tools); tool != "" {
		empty := ""
		a.answer = answer{tokens: split(noArguments), full: true}
		a.item = outputItem{ID: newID("fc_"), Type: "function_call", CallID: newID("call_"), Name: tool, Arguments: &empty}
	} else {
		a.answer = b.cut(reply(in.question))
		a.item = outputItem{ID: newID("msg_"), Type: "message", Role: "assistant", Content: []outputText{}}
	}
	a.item.Status = "in_progress"
	if req.Stream {
		return a.stream(startEvents(r.Context(), w, p.pace()))
	}
	if err := p.pace().skip(r.Context(), len(a.answer.tokens)); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, a.object())
	return nil
}

func orJSON(raw json.RawMessage, instead string) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return json.RawMessage(instead)
	}
	return raw
}

func (a responseAnswer) isCall() bool { return a.item.Type == "function_call" }

// whole is the item when all of it was said.
func (a responseAnswer) whole() outputItem {
	item, text := a.item, a.answer.text()
	item.Status = "completed"
	if !a.answer.full {
		item.Status = "incomplete"
	}
	if a.isCall() {
		item.Arguments = &text
	} else {
		item.Content = []outputText{newOutputText(text)}
	}
	return item
}

// object is the response when all of it was said.
func (a responseAnswer) object() responseObject {
	o, out := a.head, len(a.answer.tokens)
	o.Status, o.Output = "completed", []outputItem{a.whole()}
	if !a.answer.full {
		o.Status, o.Incomplete = "incomplete", map[string]string{"reason": "max_output_tokens"}
	}
	o.Usage = &responseUsage{Input: a.in, Output: out, Total: a.in + out}
	return o
}

// stream sends the response as OpenAI does: each event is named and numbered.
func (a responseAnswer) stream(e *events) error {
	number := 0
	send := func(typ string, v map[string]any) {
		v["type"], v["sequence_number"] = "response."+typ, number
		number++
		e.send("response."+typ, v)
	}
	// at adds where in the response an event belongs.
	at := func(v map[string]any) map[string]any {
		v["item_id"], v["output_index"] = a.item.ID, 0
		if !a.isCall() {
			v["content_index"] = 0
		}
		return v
	}
	delta, text := "output_text", a.answer.text()
	if a.isCall() {
		delta = "function_call_arguments"
	}

	send("created", map[string]any{"response": a.head})
	send("in_progress", map[string]any{"response": a.head})
	send("output_item.added", map[string]any{"output_index": 0, "item": a.item})
	if !a.isCall() {
		send("content_part.added", at(map[string]any{"part": newOutputText("")}))
	}
	for _, token := range a.answer.tokens {
		e.wait()
		send(delta+".delta", at(map[string]any{"delta": token}))
	}
	if a.isCall() {
		send(delta+".done", at(map[string]any{"name": a.item.Name, "arguments": text}))
	} else {
		send(delta+".done", at(map[string]any{"text": text}))
		send("content_part.done", at(map[string]any{"part": newOutputText(text)}))
	}
	send("output_item.done", map[string]any{"output_index": 0, "item": a.whole()})
	o := a.object()
	send(o.Status, map[string]any{"response": o})
	return e.err
}
