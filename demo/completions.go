package demo

import (
	"encoding/json"
	"net/http"
)

// completionTokens is OpenAI's default bound of a completion.
const completionTokens = 16

// completionObject is a completion of the older kind, or one chunk of it.
type completionObject struct {
	ID      string             `json:"id"`
	Object  string             `json:"object"`
	Created int64              `json:"created"`
	Model   string             `json:"model"`
	Choices []completionChoice `json:"choices"`
	Usage   json.RawMessage    `json:"usage,omitempty"` // as in chatObject
}

type completionChoice struct {
	Text     string    `json:"text"`
	Index    int       `json:"index"`
	Logprobs *struct{} `json:"logprobs"`
	Finish   *string   `json:"finish_reason"`
}

func (p *provider) completions(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Model         string         `json:"model"`
		Prompt        inputs         `json:"prompt"`
		MaxTokens     *int           `json:"max_tokens"`
		Stop          texts          `json:"stop"`
		N             *int           `json:"n"`
		Stream        bool           `json:"stream"`
		StreamOptions *streamOptions `json:"stream_options"`
	}
	if err := decode(w, r, &req); err != nil {
		return err
	}
	if req.Model != Model {
		return noSuchModel(req.Model)
	}
	n := 1
	if req.N != nil {
		n = *req.N
	}
	if n < 1 || n > mostChoices {
		return badRequest("n", "n must be between 1 and %d, not %d.", mostChoices, n)
	}
	b := bounds{tokens: req.MaxTokens, stop: req.Stop}
	if b.tokens == nil {
		bound := completionTokens
		b.tokens = &bound
	}
	if err := b.check("max_tokens"); err != nil {
		return err
	}
	if len(req.Prompt) == 0 {
		req.Prompt = inputs{{}}
	}

	var answers []answer // n for each prompt, in order
	in, out, longest := 0, 0, 0
	for _, prompt := range req.Prompt {
		in += prompt.tokens
		a := b.cut(reply(prompt.text))
		longest = max(longest, len(a.tokens))
		for range n {
			answers = append(answers, a)
			out += len(a.tokens)
		}
	}
	head := completionObject{ID: newID("cmpl-"), Object: "text_completion", Created: p.now().Unix(), Model: Model}
	usage := encode(newChatUsage(in, out))
	t := p.pace()
	if !req.Stream {
		if err := t.skip(r.Context(), longest); err != nil {
			return err
		}
		head.Usage = usage
		for i, a := range answers {
			head.Choices = append(head.Choices, completionChoice{Text: a.text(), Index: i, Finish: finish(a)})
		}
		writeJSON(w, http.StatusOK, head)
		return nil
	}

	e := startEvents(r.Context(), w, t)
	if req.StreamOptions != nil && req.StreamOptions.IncludeUsage {
		head.Usage = json.RawMessage("null")
	}
	for step := range longest + 1 { // one more than tokens: the reason of the end
		if step < longest {
			e.wait()
		}
		for i, a := range answers {
			c := completionChoice{Index: i}
			switch {
			case step < len(a.tokens):
				c.Text = a.tokens[step]
			case step == len(a.tokens):
				c.Finish = finish(a)
			default:
				continue
			}
			chunk := head
			chunk.Choices = []completionChoice{c}
			e.send("", chunk)
		}
	}
	if head.Usage != nil {
		head.Choices, head.Usage = []completionChoice{}, usage
		e.send("", head)
	}
	e.done()
	return e.err
}

func finish(a answer) *string {
	reason := "stop"
	if !a.full {
		reason = "length"
	}
	return &reason
}
