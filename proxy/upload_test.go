package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tokenhub/config"
)

// Who sends a long body before looking for the answer reads why it was refused,
// and not that the connection was reset.
func TestRefusalOfAnUploadIsReadable(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, func(c *config.Config) { c.MaxBody = 1 << 20 })
	key := d.key("k", everything)
	const length = 8 << 20
	chunk := "10000\r\n" + strings.Repeat("x", 1<<16) + "\r\n"
	for name, c := range map[string]struct {
		head   string
		status int
		code   string
	}{
		"a wrong key":             {"Authorization: Bearer th-x\r\nContent-Length: 8388608\r\n", 401, "invalid_api_key"},
		"a wrong key, in chunks":  {"Authorization: Bearer th-x\r\nTransfer-Encoding: chunked\r\n", 401, "invalid_api_key"},
		"too large":               {"Authorization: Bearer " + key + "\r\nContent-Length: 8388608\r\n", 413, "request_too_large"},
		"too large, in chunks":    {"Authorization: Bearer " + key + "\r\nTransfer-Encoding: chunked\r\n", 413, "request_too_large"},
		"JSON, too large":         {"Authorization: Bearer " + key + "\r\nContent-Type: application/json\r\nContent-Length: 8388608\r\n", 413, "request_too_large"},
		"JSON, large, in chunks":  {"Authorization: Bearer " + key + "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n", 413, "request_too_large"},
		"a form, large in chunks": {"Authorization: Bearer " + key + "\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n", 413, "request_too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			w := d.dial()
			w.write("POST /v1/uploads HTTP/1.1\r\nHost: x\r\n%s\r\n", c.head)
			piece := strings.Repeat("x", 1<<16)
			if strings.Contains(c.head, "chunked") {
				piece = chunk
			}
			for range length / (1 << 16) {
				w.write("%s", piece) // fails on a reset
			}
			if strings.Contains(c.head, "chunked") {
				w.write("0\r\n\r\n")
			}
			resp, body := w.answer("POST")
			if resp.StatusCode != c.status || !strings.Contains(body, c.code) || !resp.Close {
				t.Errorf("%d %s, closing: %v", resp.StatusCode, body, resp.Close)
			}
			w.over()
		})
	}
	for _, got := range p.all() {
		t.Errorf("the provider got all of %s", got.line)
	}
}

// A provider's refusal of an upload that it did not read is readable too, to its
// last byte, and the connection is closed behind it: what is left of the body is
// no request.
func TestProviderRefusesAnUpload(t *testing.T) {
	answer := `{"error":"` + strings.Repeat("no", 50_000) + `"}`
	for name, framing := range map[string]string{
		"with a length": "Content-Length: %d\r\n\r\n%s",
		"in chunks":     "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			answered := make(chan struct{})
			p := httptest.NewServer(posted(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.CopyN(io.Discard, r.Body, 1<<16)
				// By hand, for it must not read on before its answer has arrived.
				conn, rest, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 415 Unsupported Media Type\r\n"+framing, len(answer), answer)
				<-answered
				_, _ = io.Copy(io.Discard, rest) // so that its own end is no reset
			}))
			t.Cleanup(p.Close)
			d := newDoor(t, p.URL, nil)
			w := d.dial()
			w.write("POST /v1/uploads HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n", d.key("k", everything), 8<<20)
			piece := strings.Repeat("x", 1<<16)
			for range (8 << 20) / (1 << 16) {
				w.write("%s", piece) // fails on a reset
			}
			resp, body := w.answer("POST")
			close(answered)
			if resp.StatusCode != 415 || body != answer || !resp.Close || resp.Header.Get("X-Inferoute-Provider") != "p" {
				t.Errorf("%d, %d bytes %v, closing: %v", resp.StatusCode, len(body), resp.Header, resp.Close)
			}
			w.over()
		})
	}
}

// A body of exactly the largest size passes.
func TestLargestBody(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, func(c *config.Config) { c.MaxBody = 1 << 20 })
	key := d.key("k", everything)
	body := `{"model":"m","x":"` + strings.Repeat("x", 1<<20-20) + `"}`
	for _, kind := range []string{"application/json", "application/octet-stream"} {
		path := map[string]string{"application/json": "/v1/chat/completions", "application/octet-stream": "/v1/files"}[kind]
		if resp, text := d.send("POST", path, body, "Authorization", "Bearer "+key, "Content-Type", kind); resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", kind, resp.StatusCode, text)
		}
		if got := p.one(t); got.body != body || got.length != 1<<20 {
			t.Errorf("%s: %d bytes", kind, len(got.body))
		}
		if resp, text := d.send("POST", path, body+" ", "Authorization", "Bearer "+key, "Content-Type", kind); resp.StatusCode != 413 {
			t.Errorf("%s: %d %s", kind, resp.StatusCode, text)
		}
		if got := p.all(); len(got) != 0 {
			t.Errorf("%s: the provider got %d requests", kind, len(got))
		}
	}
}
