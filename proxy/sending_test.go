package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// sent are the headers of a request as both ways send them, sorted.
func sent(t *testing.T, s *sending) (plainly, byHTTP []string) {
	t.Helper()
	out := []byte{}
	if err := (&plain{}).write(&out, s); err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(out), "\r\n\r\n")
	for _, line := range strings.Split(head, "\r\n")[2:] { // behind the target and Host
		plainly = append(plainly, strings.ToLower(line))
	}
	for name, values := range s.request(t.Context()).Header {
		for _, v := range values {
			byHTTP = append(byHTTP, strings.ToLower(name+": "+v))
		}
	}
	slices.Sort(plainly)
	slices.Sort(byHTTP)
	return plainly, byHTTP
}

// What goes to a provider of a caller's headers is the same whichever way it goes,
// and what Connection names stays here, of however many names that list is.
func TestHeadersThatGoOn(t *testing.T) {
	p := &provider{host: "x", path: "/v1", own: Headers{{"Authorization", "Bearer provider"}, {"X-Own", "1"}}}
	call := &Call{Method: "POST", Path: "/v1/chat/completions", secret: "th-secret", Header: Headers{
		{"Host", "y"}, {"Authorization", "Bearer th-secret"}, {"X-Key", "my th-secret"}, {"Connection", "keep-alive, x-gone,, X-Gone-Too"},
		{"X-Gone", "1"}, {"X-Gone-Too", "1"}, {"X-Own", "the caller's"}, {"Accept-Encoding", "gzip"}, {"X-Forwarded-For", "10.0.0.1"},
		{"X-Two", "b"}, {"X-Two", "a"}, {"Idempotency-Key", "i"}, {"X-Tokenhub-Provider", "x"}, {"Te", "trailers"}, {"Keep-Alive", "1"}, {"User-Agent", "u"}}}
	many := strings.Builder{}
	for i := range 500 {
		fmt.Fprintf(&many, "x-%d,", i)
		call.Header = append(call.Header, Header{fmt.Sprintf("X-%d", i), "gone"})
	}
	call.Header = append(call.Header, Header{"Connection", many.String()})
	s := &sending{provider: p, call: call, body: &payload{none: true}}
	want := []string{"accept-encoding: identity", "authorization: bearer provider", "idempotency-key: i", "user-agent: u", "x-own: 1", "x-two: a", "x-two: b"}
	plainly, byHTTP := sent(t, s)
	if !slices.Equal(plainly, want) || !slices.Equal(byHTTP, want) {
		t.Errorf("plainly %q\nby net/http %q\nwant %q", plainly, byHTTP, want)
	}
	h := append(Headers{}, call.Header...)
	answerHeaders(&h)
	if h.has("X-Gone") || h.has("X-499") || !h.has("X-Two") || h.has("Connection") {
		t.Errorf("of an answer stays %q", h)
	}
}

// The caller's key is taken out of the subprotocols of a WebSocket; what the
// operator has configured there is the provider's, and stays.
func TestOwnSubprotocol(t *testing.T) {
	call := &Call{Method: "GET", Path: "/v1/realtime", Upgrade: true, secret: "th-secret", Header: Headers{
		{"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-Websocket-Protocol", "realtime, openai-insecure-api-key.th-secret"}}}
	for own, want := range map[string]string{"": "realtime", "realtime, openai-insecure-api-key.sk-provider": "realtime, openai-insecure-api-key.sk-provider"} {
		p := &provider{host: "x", path: "/v1"}
		if own != "" {
			p.own = Headers{{"Sec-Websocket-Protocol", own}}
		}
		h := (&sending{provider: p, call: call, body: &payload{none: true}}).request(t.Context()).Header
		if got := h["Sec-Websocket-Protocol"]; len(got) != 1 || got[0] != want || h.Get("Connection") != "Upgrade" || h.Get("Upgrade") != "websocket" {
			t.Errorf("%q is sent, want %q", h, want)
		}
	}
}
