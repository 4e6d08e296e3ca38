package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// call is one row of the matrix: a request by hand, and the answer to it.
type call struct {
	name string
	// first is the request line without the version.
	first string
	// headers besides Host, Authorization and X-Case, each with its line break.
	headers string
	body    string
	// version is that of the request, 1.1 if empty.
	version string
	// reply is the provider's answer; a small JSON object if empty.
	reply reply
	// differs says what the documentation allows to differ.
	differs []string
}

// String is the request as it goes over the wire with a secret.
func (c *call) text(address, secret string) string {
	version := c.version
	if version == "" {
		version = "1.1"
	}
	return c.first + " HTTP/" + version + "\r\nHost: " + address + "\r\nAuthorization: Bearer " + secret +
		"\r\nX-Case: " + c.name + "\r\n" + c.headers + "\r\n" + c.body
}

func (c *call) method() string {
	method, _, _ := strings.Cut(c.first, " ")
	return method
}

// isMetered reports whether the usage of the call is counted: such calls ask for
// an uncompressed answer.
func (c *call) isMetered() bool {
	for _, path := range []string{"/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1/audio/", "/v1/images/", "/v1/responses"} {
		if strings.HasPrefix(c.first, "POST "+path) {
			return true
		}
	}
	return false
}

const chatBody = `{"model" : "gpt-test","messages":[{"role":"user","content":"\u00fc \ud83d\ude00 ü 😀 <&>"}],"temperature":1.0,"seed":12345678901234567890,"x":1e-7,"max_tokens":5,"unknown":{"b":1,"a":[ ]}}`

// jsonCall is a POST of a JSON body.
func jsonCall(name, target, body string) call {
	return call{name: name, first: "POST " + target, body: body,
		headers: "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"}
}

// chunked writes a body in chunks of a size.
func chunked(body string, size int) string {
	var b strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return b.String() + "0\r\n\r\n"
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

// withLength is an answer of a known length.
func withLength(head, body string) reply {
	return reply{head: "HTTP/1.1 " + head + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n", body: body}
}

// usualDate is a date that no clock shows any more.
const usualDate = "Date: Mon, 02 Jan 2006 15:04:05 GMT\r\n"

var usualReply = withLength("200 OK\r\n"+usualDate+"Content-Type: application/json\r\n",
	`{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"}}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}`)

// matrix runs calls directly and through TokenHub and compares what both ends saw.
func matrix(t *testing.T, calls []call) {
	replies := map[string]reply{}
	for i, c := range calls {
		if c.isMetered() {
			calls[i].differs = append(calls[i].differs, "Accept-Encoding")
		}
		if c.reply.head == "" {
			calls[i].reply = usualReply
		}
		replies[c.name] = calls[i].reply
		split := calls[i].reply
		split.pieces = true
		replies["split "+c.name] = split
	}
	p := record(t, func(name string) reply { return replies[name] })
	h := startHub(t, p.config())
	key := h.key(t, "all", "--endpoints", "all")
	for _, c := range calls {
		for _, pieces := range []bool{false, true} {
			name := c.name
			if pieces {
				if len(c.body)+len(c.reply.body) > 200<<10 {
					continue
				}
				c.name = "split " + c.name
				name = c.name
			}
			t.Run(name, func(t *testing.T) {
				direct := dial(t, p.address, pieces)
				direct.send(c.text(p.address, credential))
				wantAnswer := direct.answer(c.method())
				wantRequest := p.next(t)

				through := dial(t, h.url, pieces)
				through.send(c.text(p.address, key))
				gotAnswer := through.answer(c.method())
				gotRequest := p.next(t)
				compareRequests(t, wantRequest, gotRequest, c.differs)
				compareAnswers(t, wantAnswer, gotAnswer, c.differs)
			})
		}
	}
}

func compareRequests(t *testing.T, direct, through *message, differs []string) {
	t.Helper()
	if direct.first != through.first {
		t.Errorf("the provider got %q, directly %q", through.first, direct.first)
	}
	if !bytes.Equal(direct.body, through.body) {
		t.Errorf("the provider got a body of %s, directly %s", through.hash(), direct.hash())
	}
	method, _, _ := strings.Cut(direct.first, " ")
	sent := method == "POST" || method == "PUT" || method == "PATCH"
	ignored := append([]string{"Connection", "Keep-Alive", "Transfer-Encoding", "Expect"}, differs...)
	switch {
	case direct.framing == "none" && sent && through.header.Get("Content-Length") == "0":
		ignored = append(ignored, "Content-Length") // says the same, and says it as RFC 9110 §8.6 asks for
	case (direct.framing == "none") != (through.framing == "none"):
		t.Errorf("the provider got a body framed by %s, directly %s", through.framing, direct.framing)
	}
	if direct.framing != through.framing && len(direct.body) > 0 {
		ignored = append(ignored, "Content-Length") // in chunks or not: the business of the hop
	}
	sameHeaders(t, "request", direct.header, through.header, ignored...)
}

func compareAnswers(t *testing.T, direct, through *message, differs []string) {
	t.Helper()
	if direct.first != through.first {
		t.Errorf("the caller got %q, directly %q", through.first, direct.first)
	}
	if direct.broken && through.broken && direct.framing == "length" && bytes.HasPrefix(direct.body, through.body) {
		// The last bytes before a break may be lost.
	} else if !bytes.Equal(direct.body, through.body) {
		t.Errorf("the caller got a body of %s %.200q, directly %s %.200q", through.hash(), through.body, direct.hash(), direct.body)
	}
	if direct.broken != through.broken {
		t.Errorf("the caller got a broken answer: %v, directly %v", through.broken, direct.broken)
	}
	if through.header.Get("X-Inferoute-Request-Id") == "" || through.header.Get("X-Inferoute-Provider") != "recorder" {
		t.Errorf("the answer does not say whence it came: %v", through.header)
	}
	ignored := append([]string{"X-Inferoute-Request-Id", "X-Inferoute-Provider", "Connection", "Keep-Alive", "Transfer-Encoding"}, differs...)
	if strings.HasPrefix(through.header.Get("Content-Type"), "text/event-stream") {
		ignored = append(ignored, "X-Accel-Buffering")
	}
	if direct.framing != through.framing {
		if direct.framing == "none" || through.framing == "none" || direct.framing == "length" {
			t.Errorf("the caller got a body framed by %s, directly %s", through.framing, direct.framing)
		}
	}
	sameHeaders(t, "answer", direct.header, through.header, ignored...)
}
