package proxy

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// A bound in a field that the endpoint does not have is none: lenient providers
// take no notice of it, so that the key's own is put in.
func TestBoundOfAnotherEndpoint(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, nil)
	key := d.key("k", func(k *db.Key) { k.Limits.MaxTokensPerRequest = 100 })
	for _, c := range []struct{ path, body, want string }{
		{"chat/completions", `{"model":"m","max_output_tokens":1}`, `{"max_tokens":100,"model":"m","max_output_tokens":1}`},
		{"chat/completions", `{"model":"m","max_completion_tokens":1}`, ""},
		{"completions", `{"model":"m","max_completion_tokens":1}`, `{"max_tokens":100,"model":"m","max_completion_tokens":1}`},
		{"completions", `{"model":"m","prompt":["a","b"],"max_output_tokens":1}`, `{"max_tokens":50,"model":"m","prompt":["a","b"],"max_output_tokens":1}`},
		{"messages", `{"model":"m","max_tokens":1}`, ""},
		{"responses", `{"model":"m","max_tokens":1}`, `{"max_output_tokens":100,"model":"m","max_tokens":1}`},
		{"responses", `{"model":"m","max_output_tokens":1}`, ""},
	} {
		want := c.want
		if want == "" {
			want = c.body
		}
		resp, body := d.send("POST", "/v1/"+c.path, c.body, "X-Api-Key", key)
		if got := p.all(); resp.StatusCode != 200 || len(got) != 1 || got[0].body != want {
			t.Errorf("%s %s: %d %s, the provider got %+v, want %s", c.path, c.body, resp.StatusCode, body, got, want)
		}
	}
	resp, body := d.send("POST", "/v1/chat/completions", `{"model":"m","max_output_tokens":101}`, "X-Api-Key", key)
	refused(t, "more than the key may", resp, body, 422, "invalid_request_error", "max_tokens_exceeded")
}

// A context window holds one text: of many together it says nothing.
func TestManyTextsFillManyWindows(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, nil)
	key := d.key("k", func(k *db.Key) { k.Limits.TotalTokens = 20_000 })
	texts := `["` + strings.Repeat("to be or not ", 4000) + `","` + strings.Repeat("to be or not ", 4000) + `"]` // 34,000 tokens
	for path, body := range map[string]string{
		"/v1/embeddings":  `{"model":"text-embedding-3-small","input":` + texts + `}`,
		"/v1/completions": `{"model":"gpt-3.5-turbo-instruct","max_tokens":5,"prompt":[` + strings.Repeat(`"a",`, 20_000) + `"a"]}`,
	} {
		resp, answer := d.send("POST", path, body, "X-Api-Key", key)
		refused(t, path, resp, answer, 402, "usage_limit_exceeded", "total_token_limit_reached")
	}
	resp, answer := d.send("POST", "/v1/completions", `{"model":"gpt-3.5-turbo-instruct","max_tokens":5,"prompt":"`+strings.Repeat("to be or not ", 8000)+`"}`, "X-Api-Key", key)
	if resp.StatusCode != 200 {
		t.Errorf("one text of more than a window: %d %s", resp.StatusCode, answer)
	}
}

// A request counts in the minute in which it was reserved, not in that of its
// headers: who holds back the bodies of many requests would otherwise send the
// requests of many minutes at once.
func TestBodiesHeldBack(t *testing.T) {
	p := newFake(t, good)
	h := newHub(t, nil, p.URL+"/v1")
	now := noon
	h.g.now = func() time.Time { return now }
	h.addKey("slow", db.Limits{RequestsPerMinute: 1})
	served := 0
	for i := range 5 {
		call := h.call("slow", "/v1/chat/completions", boundBody)
		call.Start = noon.Add(time.Duration(i-5) * time.Minute)
		if r := h.do(t.Context(), call); r.status == 200 {
			served++
		} else if r.code != "requests_per_minute_exceeded" {
			t.Errorf("%v", r)
		}
	}
	if served != 1 || p.hits.Load() != 1 {
		t.Errorf("%d requests of a minute were served, want 1", served)
	}
}

// Audio that is charged by the second costs something also where the provider
// does not say how long it is, and where the caller leaves.
func TestSecondsThatNobodyReports(t *testing.T) {
	const form = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n" +
		"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"
	upload := form + strings.Repeat("a", 40_000-len(form)-9) + "\r\n--x--\r\n"
	for _, c := range []struct {
		name, answer string
		cost         int64
	}{
		{"text", "to be or not to be", 1000}, // 10 s of 4,000 bytes at 100 micro-dollars
		{"duration", `{"text":"to be","duration":2.0}`, 200},
		{"usage", `{"text":"to be","usage":{"type":"duration","seconds":3}}`, 300},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDoor(t, calls(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, c.answer) }).URL, nil)
			key := d.key("k", func(k *db.Key) { k.Limits.TotalUSD = 1100 })
			for _, want := range []int{200, 402} {
				resp, body := d.send("POST", "/v1/audio/transcriptions", upload, "X-Api-Key", key, "Content-Type", "multipart/form-data; boundary=x")
				if resp.StatusCode != want {
					t.Errorf("%d %s, want %d", resp.StatusCode, body, want)
				}
				if got := d.settled(); len(got) != 1 || got[0].Cost != c.cost {
					t.Errorf("settled as %+v, want %d micro-dollars", got, c.cost)
				}
			}
		})
	}
}

// Sound that is named by its address has a length that nobody knows: a key with a
// limit in USD can't pay for it by the length of the name.
func TestSoundByItsAddress(t *testing.T) {
	d := newDoor(t, calls(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hours of it") }).URL, nil)
	key := d.key("k", func(k *db.Key) { k.Limits.TotalUSD = 1100 })
	const part = "--x\r\nContent-Disposition: form-data; name="
	for _, decoy := range []string{"", part + "\"other\"; filename=\"a\"\r\n\r\na\r\n", part + "\"file\"; filename=\"a\"\r\n\r\na\r\n"} {
		form := part + "\"model\"\r\n\r\nwhisper-1\r\n" + decoy + part + "\"url\"\r\n\r\nhttps://example.com/10h.mp3\r\n--x--\r\n"
		resp, body := d.send("POST", "/v1/audio/transcriptions", form, "X-Api-Key", key, "Content-Type", "multipart/form-data; boundary=x")
		refused(t, "an address", resp, body, 403, "permission_error", "model_not_priced")
	}
}

// The cap of a provider could not count a response in the background, nor what
// another model takes.
func TestUncountedAtACappedProvider(t *testing.T) {
	for capped, status := range map[int64]int{0: 200, 1_000_000: 403} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			d := newDoor(t, newFake(t, good).URL, func(c *config.Config) { priced(c); c.Providers[0].MonthlyUSD = capped })
			key := d.key("k", nil)
			limited := d.key("limited", func(k *db.Key) { k.Limits.TotalTokens = 100_000 })
			for _, key := range []string{key, limited} { // where it means the background of the image
				resp, body := d.send("POST", "/v1/images/generations", `{"model":"m","background":"transparent"}`, "X-Api-Key", key, "Content-Type", "application/json")
				if resp.StatusCode != 200 {
					t.Errorf("an image: %d %s", resp.StatusCode, body)
				}
			}
			for _, field := range []string{`"background":true`, `"models":["x"]`} {
				resp, body := d.send("POST", "/v1/responses", `{"model":"m",`+field+`,"max_output_tokens":5}`, "X-Api-Key", key)
				if resp.StatusCode != status {
					t.Errorf("%s: %d %s", field, resp.StatusCode, body)
				}
			}
		})
	}
}

// The places at a provider are enough for a request that falls back there: the
// failed attempt does not keep its own.
func TestFallbackWithinAFullProvider(t *testing.T) {
	p := record(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "ill") {
			fails(500)(w, r)
			return
		}
		good(w, r)
	})
	h := newHub(t, func(c *config.Config) {
		c.Providers[0].MaxConcurrency = 1
		c.Models[0].Targets = []config.Target{{Provider: "a", Model: "ill", Weight: 1}, {Provider: "a", Model: "well", Weight: 1}}
	}, p.URL+"/v1")
	h.want(h.ask("house"), 200, "a")
}

// What is charged without a report is what was reserved: never above what the
// model that was asked can take.
func TestEstimateOfAFullWindow(t *testing.T) {
	f := &flight{demand: demand{input: 1 << 40, contexts: 1}}
	if got, want := f.inputAt(target{served: "gpt-4o"}), contextWindow("gpt-4o"); got != want || want == 0 {
		t.Errorf("%d tokens, want %d", got, want)
	}
}

// A caller may list so many models to fall back to: each is looked up in turn.
func TestFallbacksAreBounded(t *testing.T) {
	if got := splitNames(strings.Repeat("a, ,b,", 1000)); len(got) != maxFallbacks || got[1] != "b" {
		t.Errorf("%d names: %v", len(got), got)
	}
}
