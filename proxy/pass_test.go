package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"tokenhub/config"
	"tokenhub/db"
)

// The provider gets its own credential, in the one header that it takes, and
// nothing of the caller's.
func TestCredentialIsSwapped(t *testing.T) {
	for auth, want := range map[string]http.Header{
		"bearer":    {"Authorization": {"Bearer sk-secret"}},
		"x-api-key": {"X-Api-Key": {"sk-secret"}},
		"api-key":   {"Api-Key": {"sk-secret"}},
		"none":      {},
	} {
		t.Run(auth, func(t *testing.T) {
			p := record(t, good)
			d := newDoor(t, p.URL, func(c *config.Config) {
				c.Providers[0].Auth = auth
				c.Providers[0].Headers = map[string]config.Secret{"openai-organization": "org-1"}
			})
			key := d.key("k", nil)
			for _, headers := range [][]string{{"Authorization", "Bearer " + key}, {"X-Api-Key", key},
				{"Authorization", "Bearer " + key, "X-Api-Key", key, "Api-Key", "sk-mine", "Openai-Organization", "org-2", "Cookie", "a=" + key},
				{"X-Api-Key", key, "X-Goog-Api-Key", key, "X-Note", "with " + key}} {
				if resp, body := d.send("POST", "/v1/chat/completions", chatBody, headers...); resp.StatusCode != 200 {
					t.Fatalf("%d %s", resp.StatusCode, body)
				}
				got := p.one(t)
				have := http.Header{}
				for _, name := range []string{"Authorization", "X-Api-Key", "Api-Key"} {
					if v := got.header[name]; v != nil {
						have[name] = v
					}
				}
				if fmt.Sprint(have) != fmt.Sprint(want) || fmt.Sprint(got.header["Openai-Organization"]) != "[org-1]" {
					t.Errorf("the provider got %v", got.header)
				}
				if text := fmt.Sprint(got); strings.Contains(text, key[3:]) || strings.Contains(text, "sk-mine") {
					t.Errorf("the caller's credential is in %s", text)
				}
			}
		})
	}
}

// A key that stands in the target would go on to the provider.
func TestKeyInTheTarget(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, nil)
	key := d.key("k", everything)
	for _, target := range []string{"/v1/files/" + key, "/v1/" + key + "/x", "/v1/files?a=b" + key, "/v1/files?" + key} {
		resp, body := d.send("GET", target, "", "X-Api-Key", key)
		refused(t, strings.ReplaceAll(target, key, "KEY"), resp, body, 401, "authentication_error", "invalid_api_key")
	}
	if got := p.all(); len(got) != 0 {
		t.Errorf("the provider got %+v", got)
	}
}

// What is the caller's alone, or belongs to one connection, does not reach the
// provider; everything else does, as often as it was sent.
func TestHeadersOfRequests(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, nil)
	w := d.dial()
	w.write("POST /v1/chat/completions HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer %s\r\n"+
		"Connection: keep-alive, X-Named\r\nX-Named: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: X-T\r\nProxy-Authorization: Basic eA==\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"+
		"Cookie: a=b\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Anything: x\r\nX-Real-IP: 1.2.3.4\r\nX-TokenHub-Provider: p\r\nX-Inferoute-Strategy: cost\r\nx-inferoute-anything: x\r\n"+
		"Accept-Encoding: gzip\r\nAccept: */*\r\nContent-Type: application/json\r\nUser-Agent: sdk/1\r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Empty:\r\nX-Latin: caf\xe9\r\n"+
		"Idempotency-Key: i-1\r\nOpenAI-Beta: b\r\nanthropic-version: 2023-06-01\r\nX-Stainless-Lang: go\r\nX-Client-Request-Id: c-1\r\nX-Long: %s\r\nContent-Length: %d\r\n\r\n%s",
		d.key("k", nil), strings.Repeat("l", 7<<10), len(chatBody), chatBody)
	if resp, body := w.answer("POST"); resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	got := p.one(t)
	want := http.Header{"Authorization": {"Bearer sk-secret"}, "Accept-Encoding": {"identity"}, "Accept": {"*/*"}, "Content-Type": {"application/json"},
		"User-Agent": {"sdk/1"}, "X-Twice": {"1", "2"}, "X-Empty": {""}, "X-Latin": {"caf\xe9"}, "Idempotency-Key": {"i-1"}, "Openai-Beta": {"b"},
		"Anthropic-Version": {"2023-06-01"}, "X-Stainless-Lang": {"go"}, "X-Client-Request-Id": {"c-1"}, "X-Long": {strings.Repeat("l", 7<<10)},
		"Content-Length": {fmt.Sprint(len(chatBody))}}
	sameHeader(t, "the provider", got.header, want)
	if got.host != strings.TrimPrefix(p.URL, "http://") || got.body != chatBody {
		t.Errorf("at %s: %s", got.host, got.body)
	}

	// Without a body, type or agent none of them is invented.
	w.write("DELETE /v1/files/1 HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\n\r\n", d.key("all", everything))
	w.answer("DELETE")
	got = p.one(t)
	sameHeader(t, "the provider", got.header, http.Header{"Authorization": {"Bearer sk-secret"}})
	if got.length != 0 || got.te != nil {
		t.Errorf("the provider got %+v", got)
	}
}

// sameHeader compares all headers, the names and each value.
func sameHeader(t *testing.T, who string, got, want http.Header) {
	t.Helper()
	for name := range got {
		if !slices.Equal(got[name], want[name]) {
			t.Errorf("%s got %s: %.200q, want %.200q", who, name, got[name], want[name])
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s got no %s, want %.200q", who, name, want[name])
		}
	}
}

// What would act on TokenHub's own origin, or only TokenHub may say, does not
// reach the caller; everything else does.
func TestHeadersOfAnswers(t *testing.T) {
	p := record(t, cut("HTTP/1.1 418 Short and Stout\r\nContent-Length: 2\r\nConnection: keep-alive, X-Named\r\nX-Named: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: Basic\r\nTrailer: X-T\r\n"+
		"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nAlt-Svc: h3\r\nStrict-Transport-Security: max-age=1\r\nClear-Site-Data: *\r\nAccess-Control-Allow-Origin: *\r\n"+
		"X-TokenHub-Error: gateway\r\nX-Inferoute-Provider: evil\r\nX-Inferoute-Anything: x\r\n"+
		"Date: Tue, 03 Mar 2026 01:02:03 GMT\r\nServer: s\r\nX-Request-Id: r-1\r\nRetry-After: 7\r\nX-RateLimit-Limit-Requests: 9\r\nX-Twice: 1\r\nX-Twice: 2\r\nX-Empty:\r\nETag: \"e\"\r\nX-Latin: caf\xe9\r\nX-Long: "+strings.Repeat("l", 11<<10)+"\r\n\r\nhi", false))
	d := newDoor(t, p.URL, nil)
	resp, body := d.chat(d.key("k", nil))
	id := resp.Header.Get("X-Inferoute-Request-Id")
	want := http.Header{"Content-Length": {"2"}, "Date": {"Tue, 03 Mar 2026 01:02:03 GMT"}, "Server": {"s"}, "X-Request-Id": {"r-1"}, "Retry-After": {"7"},
		"X-Ratelimit-Limit-Requests": {"9"}, "X-Twice": {"1", "2"}, "X-Empty": {""}, "Etag": {`"e"`}, "X-Latin": {"caf\xe9"}, "X-Long": {strings.Repeat("l", 11<<10)},
		"X-Inferoute-Provider": {"p"}, "X-Inferoute-Request-Id": {id}}
	sameHeader(t, "the caller", resp.Header, want)
	if resp.Status != "418 Short and Stout" || body != "hi" || !strings.HasPrefix(id, "req_") {
		t.Errorf("%s %q %s", resp.Status, body, id)
	}
	if got := d.settled(); len(got) != 1 || got[0].ID != id || got[0].Status != 418 || got[0].Source != "" {
		t.Errorf("settled as %+v", got)
	}
}

// A provider's own answers pass as they are: status, type and bytes; redirects
// are not followed, an empty answer gains nothing.
func TestAnswersPassUnchanged(t *testing.T) {
	var answer atomic.Pointer[http.HandlerFunc]
	p := record(t, func(w http.ResponseWriter, r *http.Request) { (*answer.Load())(w, r) })
	d := newDoor(t, p.URL, nil)
	key := d.key("k", everything)
	odd := "\x00\xff{ not json ,\r\n\r\n"
	for name, c := range map[string]struct {
		method string
		serve  http.HandlerFunc
		status int
		body   string
		check  func(http.Header) bool
	}{
		"an error of its own": {"POST", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(422)
			_, _ = io.WriteString(w, odd)
		}, 422, odd, func(h http.Header) bool {
			return h.Get("Content-Type") == "application/problem+json" && h.Get("X-TokenHub-Error") == ""
		}},
		"401": {"POST", fails(401, "WWW-Authenticate", "Bearer realm=p"), 401, `{"error":{"message":"fault 401"}}`, func(h http.Header) bool { return h.Get("WWW-Authenticate") == "Bearer realm=p" }},
		"a 3xx": {"POST", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(307)
		}, 307, "", func(h http.Header) bool { return h.Get("Location") == "/elsewhere" }},
		"204": {"DELETE", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, 204, "", func(h http.Header) bool {
			return h.Get("Content-Type") == "" && h.Get("Content-Length") == ""
		}},
		"304": {"GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"e"`)
			w.WriteHeader(304)
		}, 304, "", func(h http.Header) bool { return h.Get("ETag") == `"e"` && h.Get("Content-Type") == "" }},
		"HEAD": {"HEAD", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "12345")
			w.Header().Set("Content-Type", "application/json")
		}, 200, "", func(h http.Header) bool {
			return h.Get("Content-Length") == "12345" && h.Get("Transfer-Encoding") == ""
		}},
		"206": {"GET", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-1/10")
			w.WriteHeader(206)
			_, _ = io.WriteString(w, "ab")
		}, 206, "ab", func(h http.Header) bool { return h.Get("Content-Range") == "bytes 0-1/10" }},
		"no type": {"POST", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "plain")
		}, 200, "plain", func(h http.Header) bool { return len(h["Content-Type"]) == 0 }},
		"empty": {"POST", func(w http.ResponseWriter, _ *http.Request) {}, 200, "", func(h http.Header) bool { return h.Get("Content-Length") == "0" }},
		"compressed unasked": {"POST", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bytes.Repeat([]byte{0x1f, 0x8b, 0}, 5))
		}, 200, strings.Repeat("\x1f\x8b\x00", 5), func(h http.Header) bool { return h.Get("Content-Encoding") == "gzip" }},
	} {
		answer.Store(&c.serve)
		path := "/v1/files/1"
		if c.method == "POST" {
			path = "/v1/chat/completions"
		}
		resp, body := d.send(c.method, path, chatBody, "Authorization", "Bearer "+key, "Content-Type", "application/json")
		if resp.StatusCode != c.status || body != c.body || !c.check(resp.Header) {
			t.Errorf("%s: %d %q %v", name, resp.StatusCode, body, resp.Header)
		}
		if len(p.all()) != 1 {
			t.Errorf("%s: the provider was not asked once", name)
		}
	}
}

// A POST reaches the provider once, whatever becomes of it, also where the
// transport would send it again: over a connection that was used before and is
// dropped, with a header that tells it that it may.
func TestPostIsSentOnce(t *testing.T) {
	var posts atomic.Int64
	drop := make(chan struct{})
	p := calls(t, func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		select {
		case <-drop:
			cut("", false)(w, r)
		default:
			good(w, r)
		}
	})
	d := newDoor(t, p.URL, nil)
	key := d.key("k", nil)
	ask := func() (*http.Response, string) {
		return d.send("POST", "/v1/chat/completions", chatBody, "Authorization", "Bearer "+key, "Idempotency-Key", "i", "X-Idempotency-Key", "i")
	}
	if resp, body := ask(); resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	close(drop)
	for want := int64(2); want < 5; want++ {
		resp, body := ask()
		refused(t, "dropped", resp, body, 503, "provider_error", "provider_unreachable")
		if resp.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if got := posts.Load(); got != want {
			t.Errorf("the provider was asked %d times, want %d", got, want)
		}
	}
	if got := d.settled(); len(got) != 4 || got[3].Status != 0 || got[3].Error != "broken" || got[3].Usage.Tokens() != 0 {
		t.Errorf("settled as %+v", got)
	}
}

// Our own errors speak the dialect of the path.
func TestErrorsInBothDialects(t *testing.T) {
	d := newDoor(t, deadPort(t), nil)
	key := d.key("k", func(k *db.Key) { k.Models = []string{"m"} })
	for path, want := range map[string]string{
		"/v1/chat/completions":      `{"error":{"message":"This API key may not call the model \"x\". GET /v1/models lists those that it may call.","type":"permission_error","code":"model_not_allowed"}}`,
		"/v1/messages":              `{"type":"error","error":{"type":"permission_error","message":"This API key may not call the model \"x\". GET /v1/models lists those that it may call.","code":"model_not_allowed"}}`,
		"/v1/messages/count_tokens": `{"type":"error","error":{"type":"permission_error","message":"This API key may not call the model \"x\". GET /v1/models lists those that it may call.","code":"model_not_allowed"}}`,
	} {
		resp, body := d.send("POST", path, `{"model":"x","stream":true}`, "X-Api-Key", key)
		refused(t, path, resp, body, 403, "permission_error", "model_not_allowed")
		if body != want {
			t.Errorf("%s: %s", path, body)
		}
		resp, body = d.send("POST", path, `{"model":"m","stream":true}`, "X-Api-Key", key)
		refused(t, path, resp, body, 503, "provider_error", "provider_unreachable")
	}
	if got := d.settled(); len(got) != 0 {
		t.Errorf("nothing was sent, and settled as %+v", got)
	}
}

// In which order a name is looked for: an own name, provider/model, the first
// provider whose models match.
func TestModelsAreFound(t *testing.T) {
	a, b := record(t, good), record(t, good)
	d := newDoor(t, a.URL, func(c *config.Config) {
		c.Providers[0].Models = []string{"both", "only-a", "b/odd", "org/*"}
		other := c.Providers[0]
		other.Name, other.BaseURL, other.Models = "b", b.URL, []string{"both", "only-b", "house", "b/odd"}
		c.Providers = append(c.Providers, other)
		c.Models = []config.Model{
			{Name: "house", Targets: []config.Target{{Provider: "b", Model: "deep/inside", Weight: 1}}},
			{Name: "b/alias", Targets: []config.Target{{Provider: "p", Model: "both", Weight: 1}}},
		}
	})
	key := d.key("k", nil)
	for _, c := range []struct{ asked, provider, served string }{
		{"both", "p", "both"},
		{"only-a", "p", "only-a"},
		{"only-b", "b", "only-b"},
		{"house", "b", "deep/inside"},         // an own name comes before all
		{"b/alias", "p", "both"},              // also where it looks like provider/model
		{"b/odd", "b", "odd"},                 // the prefix pins, although p serves the whole name
		{"b/anything/at", "b", "anything/at"}, // and is cut
		{"p/both", "p", "both"},
		{"org/x", "p", "org/x"}, // org is no provider
		{"nobody", "", ""}, {"org", "", ""}, {"b/", "", ""}, {"Both", "", ""}, {"c/both", "", ""},
	} {
		resp, body := d.send("POST", "/v1/chat/completions", `{"a":1.0, "model" : "`+c.asked+`","z":[]}`, "Authorization", "Bearer "+key)
		got := append(a.all(), b.all()...)
		if c.provider == "" {
			refused(t, c.asked, resp, body, 404, "not_found_error", "model_not_found")
			if len(got) != 0 {
				t.Errorf("%s: a provider got %+v", c.asked, got)
			}
			continue
		}
		if resp.StatusCode != 200 || resp.Header.Get("X-Inferoute-Provider") != c.provider || len(got) != 1 || got[0].body != `{"a":1.0, "model" : "`+c.served+`","z":[]}` {
			t.Errorf("%s: %d %s by %s: %+v", c.asked, resp.StatusCode, body, resp.Header.Get("X-Inferoute-Provider"), got)
		}
	}
}

// An answer that states its length passes as it comes, too, with TLS or without.
func TestAnswerOfKnownLengthIsNotHeldBack(t *testing.T) {
	first, second := "data: {\"choices\":[]}\n\n", "data: [DONE]\n\n"
	for _, kind := range []string{"text/event-stream", "application/octet-stream"} {
		seen := make(chan struct{})
		p := calls(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Length", strconv.Itoa(len(first+second)))
			_, _ = io.WriteString(w, first)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-seen:
			case <-r.Context().Done():
			}
			_, _ = io.WriteString(w, second)
		})
		for name, more := range map[string][]func(*door){"plain": nil, "TLS": {secureDoor}} {
			t.Run(kind+" "+name, func(t *testing.T) {
				d := newDoor(t, p.URL, func(c *config.Config) { c.Providers[0].AskUsage = false }, more...)
				w := d.dial() // which gives up after a while
				w.write("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", d.key("k", nil), len(streamBody), streamBody)
				resp, err := http.ReadResponse(w.r, nil)
				if err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(first))
				if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != first {
					t.Fatalf("%q came while the provider waits, %v", got, err)
				}
				seen <- struct{}{}
				if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != second || resp.ContentLength != int64(len(first+second)) {
					t.Errorf("%q came, of %d bytes, %v", rest, resp.ContentLength, err)
				}
			})
		}
	}
}
