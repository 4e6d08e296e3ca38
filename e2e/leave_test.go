package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"
)

// soon is within what a provider must have noticed that the caller left.
const soon = 500 * time.Millisecond

// TestCallerLeaves: whoever presses stop stops the provider, wherever the answer
// is at that moment.
func TestCallerLeaves(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before string // what the provider says before it falls silent
		header bool   // whether it sends its headers
	}{
		{"in the middle of a stream", events(`{"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"}}]}`), true},
		{"after the headers", "", true},
		{"before the first byte", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			silent := make(chan struct{})
			p := startProvider(t, func(w http.ResponseWriter, r *http.Request, _ []byte) {
				if tt.header {
					w.Header().Set("Content-Type", "text/event-stream")
					w.WriteHeader(200)
					io.WriteString(w, tt.before)
					w.(http.Flusher).Flush()
				}
				close(silent)
				<-r.Context().Done()
			})
			h := startHub(t, p.config())
			c := openaiClient(h.url, h.key(t, "sdk", "--concurrency", "1"))

			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			seen, ended := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				s := c.Chat.Completions.NewStreaming(ctx, chatParams("gpt-test"))
				defer s.Close()
				if s.Next() {
					close(seen)
				}
				s.Next()
			}()
			<-silent
			if tt.before != "" {
				<-seen // the caller has what the provider said
			}
			left := time.Now()
			leave()
			got := p.next(t)
			if after := got.left.Sub(left); got.left.IsZero() || after > soon {
				t.Errorf("the provider noticed after %v, want at most %v", after, soon)
			}
			<-ended

			// What the request held is given back: the one place is free again.
			waitIdle(t, h)
		})
	}
}

// TestProviderBreaksOff: half an answer is never taken for a whole one.
func TestProviderBreaksOff(t *testing.T) {
	p := startProvider(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		sendEvents(w, events(`{"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"}}]}`))
		panic(http.ErrAbortHandler)
	})
	h := startHub(t, p.config())
	chunks, err := chatStream(t.Context(), openaiClient(h.url, h.key(t, "sdk")), chatParams("gpt-test"))
	if err == nil {
		t.Errorf("got %s and a clean end, want an error", chunks)
	}
	if len(chunks) != 1 {
		t.Errorf("got %d chunks, want the one that the provider sent", len(chunks))
	}
}

// TestRevokeEndsRunningAnswers within a second, and not as a clean end.
func TestRevokeEndsRunningAnswers(t *testing.T) {
	p := startProvider(t, func(w http.ResponseWriter, r *http.Request, _ []byte) {
		sendEvents(w, events(`{"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"}}]}`))
		<-r.Context().Done()
	})
	h := startHub(t, p.config())
	c := openaiClient(h.url, h.key(t, "sdk"))
	s := c.Chat.Completions.NewStreaming(t.Context(), chatParams("gpt-test"))
	defer s.Close()
	if !s.Next() {
		t.Fatal(s.Err())
	}
	h.run(t, "keys", "revoke", "sdk")
	revoked := time.Now()
	for s.Next() {
		t.Logf("after the revocation: %s", s.Current().RawJSON())
	}
	if s.Err() == nil {
		t.Error("the stream of a revoked key ended like a whole one")
	}
	if took := time.Since(revoked); took > time.Second {
		t.Errorf("the stream went on for %v", took)
	}
	_, err := c.Chat.Completions.New(t.Context(), chatParams("gpt-test"))
	if e := openaiError(t, err); e.StatusCode != 401 {
		t.Errorf("a revoked key gets %d %s", e.StatusCode, e.RawJSON())
	}
}

// keyObject is what the tests look at of a key.
type keyObject struct {
	Usage struct {
		Running int64
		Total   struct{ Requests, Tokens int64 }
	}
}

// waitIdle returns when no request of the key named sdk runs any more.
func waitIdle(t *testing.T, h *hub) keyObject {
	t.Helper()
	late := time.Now().Add(5 * time.Second)
	for {
		var k keyObject
		if out := h.run(t, "keys", "show", "sdk", "--json"); json.Unmarshal([]byte(out), &k) != nil {
			t.Fatalf("keys show --json printed %s", out)
		}
		if k.Usage.Running == 0 {
			return k
		}
		if time.Now().After(late) {
			t.Fatalf("%d requests of the key run after 5 s", k.Usage.Running)
		}
	}
}

// checkUsage compares the use of the key named sdk with what the provider reported.
func checkUsage(t *testing.T, h *hub, requests, tokens int64) {
	t.Helper()
	k := waitIdle(t, h)
	if got := k.Usage.Total; got.Requests != requests || got.Tokens != tokens {
		t.Errorf("the key used %d requests and %d tokens, want %d and %d", got.Requests, got.Tokens, requests, tokens)
	}
}
