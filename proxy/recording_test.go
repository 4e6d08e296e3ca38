package proxy

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// recording is a provider that notes what it receives, byte for byte.
type recording struct {
	*httptest.Server
	mu   sync.Mutex
	got  []received
	then http.HandlerFunc
}

// received is one request as it came over the wire.
type received struct {
	line, host string
	header     http.Header
	te         []string
	length     int64
	body       string
}

// record starts a provider that answers by then.
func record(t *testing.T, then http.HandlerFunc) *recording {
	r := &recording{then: then}
	r.Server = httptest.NewServer(posted(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.got = append(r.got, received{req.Method + " " + req.RequestURI, req.Host, req.Header.Clone(), req.TransferEncoding, req.ContentLength, string(body)})
		r.mu.Unlock()
		req.Body = io.NopCloser(bytes.NewReader(body))
		r.then(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

// all returns what came, and forgets it.
func (r *recording) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = nil
	return got
}

// one returns the only request that came.
func (r *recording) one(t *testing.T) received {
	t.Helper()
	got := r.all()
	if len(got) != 1 {
		t.Fatalf("the provider got %d requests, want one: %+v", len(got), got)
	}
	return got[0]
}
