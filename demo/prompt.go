package demo

import (
	"bytes"
	"encoding/json"
	"strings"
)

const (
	// messageTokens is what a message costs besides its text: its role and its ends.
	messageTokens = 3
	// mediaTokens is what an image, a file or a sound costs, whatever its size.
	mediaTokens = 85
)

// prompt is what the model was given: how large it is, and what was asked last.
type prompt struct {
	tokens   int
	question string
}

// message adds one message of a conversation.
func (p *prompt) message(role string, content json.RawMessage) error {
	text, err := p.content(content)
	if err != nil {
		return err
	}
	p.tokens += messageTokens
	if role == "user" && strings.TrimSpace(text) != "" {
		p.question = text
	}
	return nil
}

// extra adds JSON that is read as text: tool definitions, tool calls.
func (p *prompt) extra(raw json.RawMessage) {
	if raw = bytes.TrimSpace(raw); len(raw) > 0 && string(raw) != "null" {
		p.tokens += Tokens(string(raw))
	}
}

// part is one piece of a message's content, in any of the three dialects.
type part struct {
	Text    *string         `json:"text"`
	Content json.RawMessage `json:"content"` // of a tool's result
}

// content counts the content of a message and returns its text: a string, null
// or an array of parts.
func (p *prompt) content(raw json.RawMessage) (string, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		p.tokens += Tokens(text)
		return text, nil
	}
	var parts []part
	if json.Unmarshal(raw, &parts) != nil {
		return "", badRequest("", "The content of a message must be a string or an array of parts.")
	}
	var texts []string
	for _, part := range parts {
		switch {
		case part.Text != nil:
			p.tokens += Tokens(*part.Text)
			texts = append(texts, *part.Text)
		case part.Content != nil:
			text, err := p.content(part.Content)
			if err != nil {
				return "", err
			}
			texts = append(texts, text)
		default:
			p.tokens += mediaTokens
		}
	}
	return strings.Join(texts, " "), nil
}

// texts is a field that is one string or an array of them: stop, prompt, system.
type texts []string

func (t *texts) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		if string(raw) != "null" {
			*t = texts{one}
		}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(t))
}
