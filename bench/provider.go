//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// runProvider serves the scripted provider on an address.
func runProvider(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: bench provider ADDRESS")
	}
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	return serveProvider(ln)
}

// serveProvider answers like an OpenAI-compatible provider, as cheaply as it
// goes, until ln is closed. What it answers follows from the request:
//
//	GET                            an empty list
//	POST .../embeddings            a vector of 1,536 numbers, 19 KB
//	"model":"stream-CHUNKS-MILLIS" CHUNKS events, MILLIS apart, each with its time
//	otherwise                      a completion of 700 bytes, after reading the body
func serveProvider(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		p := &scripted{conn: c, buf: make([]byte, 64<<10)}
		go p.serve()
	}
}

// scripted is one connection to the provider.
type scripted struct {
	conn net.Conn
	buf  []byte
	n    int // bytes of buf that are filled
}

var (
	endOfHead     = []byte("\r\n\r\n")
	modelField    = []byte(`"model":"`)
	smallAnswer   = whole(completion)
	vectorAnswer  = whole(embedding())
	emptyList     = whole(`{"object":"list","data":[]}`)
	embeddingPath = []byte("/embeddings ")
)

const completion = `{
  "id": "chatcmpl-CfzH1q0WbqGQpXcRPnP8mZ1yV5u2L",
  "object": "chat.completion",
  "created": 1761000000,
  "model": "small",
  "choices": [
    {
      "index": 0,
      "message": {
        "role": "assistant",
        "content": "A gateway sits between programs and the models that they call. It knows who asks, what they may use, and what it has cost.",
        "refusal": null,
        "annotations": []
      },
      "logprobs": null,
      "finish_reason": "stop"
    }
  ],
  "usage": {
    "prompt_tokens": 31,
    "completion_tokens": 27,
    "total_tokens": 58,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}
  },
  "service_tier": "default"
}
`

func embedding() string {
	return `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[` +
		strings.Repeat("-0.01234567,", 1535) + `0.5]}],"model":"small","usage":{"prompt_tokens":31,"total_tokens":31}}`
}

// whole is an answer with its head, which has the headers that OpenAI's have.
func whole(body string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nDate: Mon, 20 Oct 2025 22:40:00 GMT\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"+
		"openai-processing-ms: 312\r\nopenai-version: 2020-10-01\r\nx-request-id: req_5f0c1c0b6c9a4b6f8a1d2e3f40516273\r\n\r\n%s", len(body), body)
}

func (p *scripted) serve() {
	defer p.conn.Close()
	for p.answer() == nil {
	}
}

// errPeer says that the other side ended, or is not to be understood.
var errPeer = errors.New("not a request")

// answer reads one request and answers it.
func (p *scripted) answer() error {
	end := -1
	for scanned := 0; end < 0; {
		if p.n > scanned {
			if end = bytes.Index(p.buf[max(0, scanned-3):p.n], endOfHead); end >= 0 {
				end += max(0, scanned-3) + len(endOfHead)
				break
			}
			scanned = p.n
		}
		if p.n == len(p.buf) {
			return errPeer
		}
		n, err := p.conn.Read(p.buf[p.n:])
		if err != nil {
			return err
		}
		p.n += n
	}
	head := p.buf[:end]
	out := wholeAnswer(head)
	length, err := contentLength(head)
	if err != nil || length < 0 && head[0] != 'G' {
		return errPeer
	}
	script, err := p.body(end, max(length, 0))
	if err != nil {
		return err
	}
	if script.chunks > 0 {
		return p.stream(script)
	}
	_, err = p.conn.Write(out)
	return err
}

// wholeAnswer is the answer to a request that does not ask for a stream.
func wholeAnswer(head []byte) []byte {
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	switch {
	case head[0] == 'G':
		return emptyList
	case bytes.Contains(line, embeddingPath):
		return vectorAnswer
	}
	return smallAnswer
}

// body reads the request's body behind the head; the model is looked for in its
// beginning only. What follows the body stays in the buffer.
func (p *scripted) body(head, length int) (s script, err error) {
	for length <= 4096 && p.n < head+length || p.n == head && length > 0 {
		n, err := p.conn.Read(p.buf[p.n:])
		if err != nil {
			return s, err
		}
		p.n += n
	}
	there := min(length, p.n-head)
	s = scriptOf(p.buf[head : head+min(there, 4096)])
	p.n = copy(p.buf, p.buf[head+there:p.n])
	for left := length - there; left > 0; {
		n, err := p.conn.Read(p.buf[:min(left, len(p.buf))])
		if err != nil {
			return s, err
		}
		left -= n
	}
	return s, nil
}

// script is what a model's name asks for.
type script struct {
	chunks int
	pause  time.Duration
}

func scriptOf(body []byte) (s script) {
	i := bytes.Index(body, modelField)
	if i < 0 {
		return s
	}
	name := body[i+len(modelField):]
	if i = bytes.IndexByte(name, '"'); i < 0 || !bytes.HasPrefix(name, []byte("stream-")) {
		return s
	}
	var millis int
	if _, err := fmt.Sscanf(string(name[:i]), "stream-%d-%d", &s.chunks, &millis); err != nil {
		return script{}
	}
	s.pause = time.Duration(millis) * time.Millisecond
	return s
}

// timeMark stands before the time of a chunk in nanoseconds, 19 digits.
const timeMark = `"id":"chatcmpl-`

// stream sends events with the time at which each was sent.
func (p *scripted) stream(s script) error {
	if _, err := p.conn.Write([]byte(streamHead)); err != nil {
		return err
	}
	event := newEvent()
	at := bytes.Index(event, []byte(timeMark)) + len(timeMark)
	tick := time.NewTicker(s.pause)
	defer tick.Stop()
	for range s.chunks {
		<-tick.C
		strconv.AppendInt(event[:at], time.Now().UnixNano(), 10)
		if _, err := p.conn.Write(event); err != nil {
			return err
		}
	}
	last := chunked(`data: {"id":"chatcmpl-last","object":"chat.completion.chunk","created":1761000000,"model":"gpt-4o-mini-2024-07-18","choices":[],` +
		`"usage":{"prompt_tokens":31,"completion_tokens":` + strconv.Itoa(s.chunks) + `,"total_tokens":` + strconv.Itoa(31+s.chunks) + `}}` + "\n\ndata: [DONE]\n\n")
	_, err := p.conn.Write(append(last, "0\r\n\r\n"...))
	return err
}

// streamHead is the head of an answer that is a stream.
const streamHead = "HTTP/1.1 200 OK\r\nDate: Mon, 20 Oct 2025 22:40:00 GMT\r\nContent-Type: text/event-stream; charset=utf-8\r\n" +
	"Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"

// newEvent is an event with a place for its time.
func newEvent() []byte {
	return chunked(`data: {` + timeMark + `0000000000000000000","object":"chat.completion.chunk","created":1761000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default",` +
		`"system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" gateway"},"logprobs":null,"finish_reason":null}],"usage":null}` + "\n\n")
}

// chunked frames bytes as one chunk of HTTP/1.1.
func chunked(body string) []byte { return fmt.Appendf(nil, "%x\r\n%s\r\n", len(body), body) }
