package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// within sends a request and fails the test unless its answer comes in time and
// without much memory.
func (h *hub) within(t *testing.T, what string, limit time.Duration, req *http.Request) (int, string) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", h.pid), []byte("5"), 0); err != nil {
		t.Fatal(err) // the peak can't be set back
	}
	memory, began := h.memory(t), time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return 0, ""
	}
	defer resp.Body.Close()
	var answer bytes.Buffer
	n, err := io.Copy(&answer, io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	took, grown := time.Since(began), peakMemory(t, h.pid)-memory
	t.Logf("%s: %d, %d bytes in %v, memory %+d KiB", what, resp.StatusCode, n, took.Round(time.Millisecond), grown>>10)
	if took > limit {
		t.Errorf("%s took %v, want at most %v", what, took, limit)
	}
	if grown > 150<<20 {
		t.Errorf("%s took %d MiB of memory", what, grown>>20)
	}
	return resp.StatusCode, answer.String()
}

// tiny gives away one byte at a time, so that each becomes a chunk.
type tiny struct{ left int }

func (r *tiny) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	r.left--
	p[0] = ' '
	return 1, nil
}

// What is made to cost much costs little: bodies that unpack to gigabytes, JSON
// of a hundred thousand levels, uploads larger than allowed, a million chunks.
func TestInputThatIsMadeToCost(t *testing.T) {
	const million = 1_000_000
	got := make(chan int64, 10)
	p := httptest.NewServer(http.HandlerFunc(func(a http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			a.WriteHeader(http.StatusNotFound)
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			n = -1
		}
		got <- n
		w, _, err := http.NewResponseController(a).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer w.Close()
		if r.URL.Path != "/v1/chunks" {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
			return
		}
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		for block := strings.Repeat("1\r\nx\r\n", 1000); n < million; n += 1000 {
			if _, err := io.WriteString(w, block); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, "0\r\n\r\n")
	}))
	t.Cleanup(p.Close)
	h := startHub(t, fmt.Sprintf("max_body = \"64MiB\"\n[[providers]]\nname = \"p\"\nbase_url = %q\nmodels = [\"*\"]\n", p.URL+"/v1"))
	key := h.key(t, "free", "--endpoints", "all")
	limited := h.key(t, "limited", "--total-tokens", "1000000")
	request := func(method, path, key string, body io.Reader, headers ...string) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), method, h.url+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", key)
		for i := 0; i+1 < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		return req
	}

	var bomb bytes.Buffer
	w, err := gzip.NewWriterLevel(&bomb, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 1 << 9 { // half a gigabyte in half a megabyte
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	packed := int64(bomb.Len())
	status, _ := h.within(t, "a bomb", 10*time.Second, request("POST", "/v1/chat/completions", key, bytes.NewReader(bomb.Bytes()), "Content-Type", "application/json", "Content-Encoding", "gzip"))
	if n := <-got; status != 200 || n != packed {
		t.Errorf("a bomb: %d, the provider got %d bytes of %d", status, n, packed)
	}
	status, body := h.within(t, "a bomb that has to be read", 10*time.Second, request("POST", "/v1/chat/completions", limited, bytes.NewReader(bomb.Bytes()), "Content-Type", "application/json", "Content-Encoding", "gzip"))
	if status != 415 || !strings.Contains(body, "unsupported_encoding") {
		t.Errorf("a bomb that has to be read: %d %s", status, body)
	}

	for what, text := range map[string]string{
		"deep lists":    strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
		"deep objects":  strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000),
		"deep, unended": strings.Repeat("[", 10<<20),
	} {
		status, body := h.within(t, what, 10*time.Second, request("POST", "/v1/chat/completions", limited, strings.NewReader(`{"model":"m","messages":`+text+`}`), "Content-Type", "application/json"))
		if status != 400 || !strings.Contains(body, "invalid_json") {
			t.Errorf("%s: %d %.200s", what, status, body)
		}
	}

	for _, path := range []string{"/v1/chat/completions", "/v1/files"} {
		status, body := h.within(t, "100 MB to "+path, 20*time.Second, request("POST", path, key, bytes.NewReader(make([]byte, 100<<20)), "Content-Type", "application/octet-stream"))
		if status != 413 || !strings.Contains(body, "request_too_large") {
			t.Errorf("100 MB to %s: %d %s", path, status, body)
		}
	}

	status, _ = h.within(t, "a million chunks", 60*time.Second, request("POST", "/v1/files", key, &tiny{million}, "Content-Type", "application/octet-stream"))
	if n := <-got; status != 200 || n != million {
		t.Errorf("a million chunks: %d, the provider got %d bytes", status, n)
	}
	status, body = h.within(t, "a million chunks of JSON", 60*time.Second, request("POST", "/v1/chat/completions", limited, io.MultiReader(strings.NewReader(`{"model":"m","max_tokens":1`), &tiny{million}, strings.NewReader("}")), "Content-Type", "application/json"))
	if n := <-got; status != 200 || n != million+28 {
		t.Errorf("a million chunks of JSON: %d %s, the provider got %d bytes", status, body, n)
	}
	status, body = h.within(t, "a million chunks of an answer", 60*time.Second, request("GET", "/v1/chunks", key, nil))
	if <-got; status != 200 || len(body) != million {
		t.Errorf("a million chunks of an answer: %d, %d bytes", status, len(body))
	}
}
