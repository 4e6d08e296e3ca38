package e2e

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// credential is what TokenHub shows to the scripted provider.
const credential = "sk-provider-secret"

// provider answers by script and records what it receives.
type provider struct {
	*httptest.Server
	// got takes each request when its answer ended.
	got chan received
}

// received is one request as it arrived.
type received struct {
	method, target string
	header         http.Header
	body           []byte
	// left is when the caller was gone before the script had ended; zero otherwise.
	left time.Time
}

// script answers one request; its body was read already.
type script func(w http.ResponseWriter, r *http.Request, body []byte)

func startProvider(t *testing.T, answer script) *provider {
	t.Helper()
	p := &provider{got: make(chan received, 100)}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if r.URL.Path == "/v1/models" { // TokenHub asks by itself what there is
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"object":"list","data":[{"id":"org/model:free","object":"model","created":1,"owned_by":"org"}]}`)
			return
		}
		got := received{method: r.Method, target: r.RequestURI, header: r.Header.Clone(), body: body}
		defer func() {
			if r.Context().Err() != nil {
				got.left = time.Now()
			}
			p.got <- got
		}()
		answer(w, r, body)
	}))
	t.Cleanup(p.Close)
	return p
}

// next returns the next request that the provider has answered.
func (p *provider) next(t *testing.T) received {
	t.Helper()
	select {
	case got := <-p.got:
		return got
	case <-time.After(10 * time.Second):
		t.Fatal("the provider got no request within 10 s")
		return received{}
	}
}

// config is a configuration with the scripted provider in both dialects.
func (p *provider) config() string {
	return `
[[providers]]
name     = "openai"
base_url = "` + p.URL + `/v1"
api_key  = "` + credential + `"
models   = ["gpt-*", "text-embedding-*", "whisper-*", "org/*"]

[[providers]]
name     = "anthropic"
base_url = "` + p.URL + `/v1"
api_key  = "` + credential + `"
auth     = "x-api-key"
models   = ["claude-*"]

[[prices]]
model  = "*"
input  = 1.0
output = 2.0
`
}

// answers is a script of fixed answers by path; one that is asked to stream takes
// the entry of the path with " stream" behind it.
func answers(table map[string]string) script {
	return func(w http.ResponseWriter, r *http.Request, body []byte) {
		w.Header().Set("X-Request-Id", "req_of_the_provider")
		w.Header().Set("Request-Id", "req_of_the_provider")
		path := r.URL.Path
		if bytes.Contains(body, []byte(`"stream":true`)) {
			sendEvents(w, table[path+" stream"])
			return
		}
		text, ok := table[path]
		w.Header().Set("Content-Type", "application/json")
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		io.WriteString(w, text)
	}
}

// sendEvents sends a stream event by event.
func sendEvents(w http.ResponseWriter, events string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for event := range strings.SplitAfterSeq(events, "\n\n") {
		io.WriteString(w, event)
		w.(http.Flusher).Flush()
	}
}

// events gives data lines the form of a stream without names.
func events(data ...string) string {
	var b strings.Builder
	for _, d := range data {
		b.WriteString("data: " + d + "\n\n")
	}
	return b.String()
}

// sameRequest compares what the provider received from the SDK itself and
// through TokenHub: all but the credential must be the same.
func sameRequest(t *testing.T, direct, through received) {
	t.Helper()
	if direct.method != through.method || direct.target != through.target {
		t.Errorf("the provider got %s %s, directly %s %s", through.method, through.target, direct.method, direct.target)
	}
	direct, through = plainBoundary(direct), plainBoundary(through)
	if !bytes.Equal(direct.body, through.body) {
		t.Errorf("the provider got the body\n%.2000q\ndirectly\n%.2000q", through.body, direct.body)
	}
	want, got := direct.header, through.header
	for _, name := range []string{
		"Authorization", "X-Api-Key", // swapped, and looked at elsewhere
		"Accept-Encoding", // what is metered is asked for uncompressed
	} {
		delete(want, name)
		delete(got, name)
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("the provider got a header that the SDK didn't send: %s: %q", name, got[name])
		}
	}
	for name, v := range want {
		if strings.Join(v, "\n") != strings.Join(got[name], "\n") {
			t.Errorf("the provider got %s: %q, directly %q", name, got[name], v)
		}
	}
}

// plainBoundary returns a copy of r in which the random boundary of a multipart
// body is a fixed one.
func plainBoundary(r received) received {
	r.header = r.header.Clone()
	if _, boundary, ok := strings.Cut(r.header.Get("Content-Type"), "boundary="); ok {
		r.header.Set("Content-Type", "multipart")
		r.body = bytes.ReplaceAll(r.body, []byte(boundary), []byte("boundary"))
	}
	return r
}

// checkCredential makes sure that the provider saw its own credential, once, and
// nothing of the caller's key.
func checkCredential(t *testing.T, r received, key string) {
	t.Helper()
	seen := strings.Join(r.header.Values("Authorization"), ",") + "|" + strings.Join(r.header.Values("X-Api-Key"), ",")
	if seen != "Bearer "+credential+"|" && seen != "|"+credential {
		t.Errorf("the provider got the credentials %q", seen)
	}
	for name, v := range r.header {
		if strings.Contains(strings.Join(v, " "), key) {
			t.Errorf("the provider got the caller's key in %s", name)
		}
	}
}
