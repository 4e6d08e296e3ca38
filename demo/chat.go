package demo

import (
	"encoding/json"
	"net/http"
)

// mostChoices is the largest n, as at OpenAI.
const mostChoices = 128

// chatRequest holds the fields of a chat completion that the provider honours.
type chatRequest struct {
	Model    string `json:"model"`
	Messages []struct {
		Role      string          `json:"role"`
		Content   json.RawMessage `json:"content"`
		ToolCalls json.RawMessage `json:"tool_calls"`
	} `json:"messages"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Stop                texts           `json:"stop"`
	N                   *int            `json:"n"`
	Stream              bool            `json:"stream"`
	StreamOptions       *streamOptions  `json:"stream_options"`
	Tools               json.RawMessage `json:"tools"`
	ToolChoice          json.RawMessage `json:"tool_choice"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// chatUsage is OpenAI's usage of chat completions and completions.
type chatUsage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
	In         struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	Out struct {
		Reasoning int `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

func newChatUsage(in, out int) *chatUsage {
	return &chatUsage{Prompt: in, Completion: out, Total: in + out}
}

// chatObject is a completion, or one chunk of it.
type chatObject struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []chatChoice `json:"choices"`
	// Usage is left out of a stream nobody asked it of, and null in all chunks
	// but the last of one that it was asked of.
	Usage json.RawMessage `json:"usage,omitempty"`
}

type chatChoice struct {
	Index    int          `json:"index"`
	Message  *chatMessage `json:"message,omitempty"`
	Delta    *chatMessage `json:"delta,omitempty"`
	Logprobs *struct{}    `json:"logprobs"`
	Finish   *string      `json:"finish_reason"`
}

type chatMessage struct {
	Role      string     `json:"role,omitempty"`
	Content   any        `json:"content,omitempty"` // a string; nil is left out
	ToolCalls []toolCall `json:"tool_calls,omitempty"`
}

func (p *provider) chat(w http.ResponseWriter, r *http.Request) error {
	var req chatRequest
	if err := decode(w, r, &req); err != nil {
		return err
	}
	if req.Model != Model {
		return noSuchModel(req.Model)
	}
	if len(req.Messages) == 0 {
		return badRequest("messages", "messages must hold at least one message.")
	}
	if req.StreamOptions != nil && !req.Stream {
		return badRequest("stream_options", "stream_options is allowed only when stream is true.")
	}
	n := 1
	if req.N != nil {
		n = *req.N
	}
	if n < 1 || n > mostChoices {
		return badRequest("n", "n must be between 1 and %d, not %d.", mostChoices, n)
	}
	b := bounds{tokens: req.MaxCompletionTokens, stop: req.Stop}
	if b.tokens == nil {
		b.tokens = req.MaxTokens
	}
	if err := b.check("max_completion_tokens"); err != nil {
		return err
	}
	var in prompt
	for _, m := range req.Messages {
		if err := in.message(m.Role, m.Content); err != nil {
			return err
		}
		in.extra(m.ToolCalls)
	}
	in.extra(req.Tools)

	c := chatAnswer{n: n, in: in.tokens, tool: forcedTool(req.ToolChoice, req.Tools)}
	c.head = chatObject{ID: newID("chatcmpl-"), Created: p.now().Unix(), Model: Model}
	if c.tool == "" {
		c.answer = b.cut(reply(in.question))
	} else {
		c.answer = answer{tokens: split(noArguments), full: true}
	}
	if req.Stream {
		return c.stream(startEvents(r.Context(), w, p.pace()), req.StreamOptions)
	}
	if err := p.pace().skip(r.Context(), len(c.answer.tokens)); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, c.object())
	return nil
}

// chatAnswer is what goes back, as JSON or as a stream.
type chatAnswer struct {
	head   chatObject
	answer answer
	n, in  int
	tool   string // the function that is called instead of writing; empty = none
}

func (c chatAnswer) usage() json.RawMessage {
	return encode(newChatUsage(c.in, c.n*len(c.answer.tokens)))
}

func (c chatAnswer) finish() *string {
	reason := "stop"
	switch {
	case c.tool != "":
		reason = "tool_calls"
	case !c.answer.full:
		reason = "length"
	}
	return &reason
}

// choices returns the choices of one object, made by fill.
func (c chatAnswer) choices(fill func(*chatChoice)) []chatChoice {
	all := make([]chatChoice, c.n)
	for i := range all {
		all[i].Index = i
		fill(&all[i])
	}
	return all
}

func (c chatAnswer) object() chatObject {
	o := c.head
	o.Object, o.Usage = "chat.completion", c.usage()
	o.Choices = c.choices(func(ch *chatChoice) {
		ch.Finish, ch.Message = c.finish(), &chatMessage{Role: "assistant", Content: c.answer.text()}
		if c.tool != "" {
			ch.Message.Content = json.RawMessage("null")
			ch.Message.ToolCalls = []toolCall{c.call(nil, newID("call_"), noArguments)}
		}
	})
	return o
}

func (c chatAnswer) call(index *int, id, arguments string) toolCall {
	return toolCall{index, id, "function", functionCall{c.tool, arguments}}
}

// stream sends the answer as OpenAI does: a chunk with the role, one per token,
// one with the reason of the end, one with the usage if it was asked for, [DONE].
func (c chatAnswer) stream(e *events, o *streamOptions) error {
	c.head.Object = "chat.completion.chunk"
	if o != nil && o.IncludeUsage {
		c.head.Usage = json.RawMessage("null")
	}
	send := func(fill func(*chatChoice)) {
		for _, ch := range c.choices(fill) { // a chunk holds one choice
			chunk := c.head
			chunk.Choices = []chatChoice{ch}
			e.send("", chunk)
		}
	}
	zero := 0
	e.wait()
	send(func(ch *chatChoice) {
		ch.Delta = &chatMessage{Role: "assistant", Content: ""}
		if c.tool != "" {
			ch.Delta.Content = json.RawMessage("null")
			ch.Delta.ToolCalls = []toolCall{c.call(&zero, newID("call_"), "")}
		}
	})
	for i, token := range c.answer.tokens {
		if i > 0 {
			e.wait()
		}
		send(func(ch *chatChoice) {
			ch.Delta = &chatMessage{Content: token}
			if c.tool != "" {
				ch.Delta = &chatMessage{ToolCalls: []toolCall{{Index: &zero, Function: functionCall{Arguments: token}}}}
			}
		})
	}
	send(func(ch *chatChoice) { ch.Delta, ch.Finish = &chatMessage{}, c.finish() })
	if c.head.Usage != nil {
		last := c.head
		last.Choices, last.Usage = []chatChoice{}, c.usage()
		e.send("", last)
	}
	e.done()
	return e.err
}
