package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
)

// encode is json.Marshal without the escapes that only HTML needs. The values
// are this package's own and always have a JSON form.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("demo: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// writeJSON answers with v. An error of the connection shows in the request's
// context and needs no second mention.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encode(v))
}

// events is the stream of one answer. After its first error it does nothing
// more; err is that error: a caller that left, in one way or another.
type events struct {
	ctx  context.Context
	w    http.ResponseWriter
	c    *http.ResponseController
	pace *pace
	err  error
}

// startEvents sends the headers of a stream at once, before the first token.
func startEvents(ctx context.Context, w http.ResponseWriter, p *pace) *events {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	e := &events{ctx: ctx, w: w, c: http.NewResponseController(w), pace: p}
	e.err = e.c.Flush()
	return e
}

// wait returns when the next token is due.
func (e *events) wait() {
	if e.err == nil {
		e.err = e.pace.skip(e.ctx, 1)
	}
}

// send writes one event; without a name it has no event: line, as at OpenAI's
// chat completions.
func (e *events) send(name string, v any) {
	var b bytes.Buffer
	if name != "" {
		b.WriteString("event: " + name + "\n")
	}
	b.WriteString("data: ")
	b.Write(encode(v))
	b.WriteString("\n\n")
	e.flush(b.Bytes())
}

// done writes OpenAI's end of a stream.
func (e *events) done() { e.flush([]byte("data: [DONE]\n\n")) }

func (e *events) flush(text []byte) {
	if e.err == nil {
		_, e.err = e.w.Write(text)
	}
	if e.err == nil {
		e.err = e.c.Flush()
	}
}
