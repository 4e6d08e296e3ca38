package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// noon is a moment in the middle of a minute; the minute ends 40 s later.
var noon = time.Date(2027, 3, 17, 12, 0, 20, 0, time.UTC)

// livesAt makes the gateway and its verifier live at a moment that the test moves.
func livesAt(at *atomic.Pointer[time.Time]) func(*door) {
	moment := noon
	at.Store(&moment)
	return func(d *door) { d.clock = func() time.Time { return *at.Load() } }
}

// priced gives all models of "p" a price of 1 and 2 dollars per million tokens,
// so that what good answers costs 17 micro-dollars.
func priced(c *config.Config) {
	c.Prices = []config.Price{{Model: "p/*", Input: 1_000_000, CachedInput: 1_000_000, CacheWrite: 1_000_000, Output: 2_000_000, Tokens: true}}
}

// boundBody is worth 10 tokens of input and 5 of output.
const boundBody = `{"model":"m","max_tokens":5}`

// Each limit is refused with its own code, and the message says what was used.
// The first request fits, the second does not.
func TestEachLimitHasItsCode(t *testing.T) {
	p := record(t, good)
	var at atomic.Pointer[time.Time]
	d := newDoor(t, p.URL, priced, livesAt(&at))
	for _, c := range []struct {
		limits    db.Limits
		status    int
		typ, code string
		retry     string
		message   string
		fits      int // requests before it
	}{
		{limits: db.Limits{RequestsPerMinute: 2}, status: 429, typ: "rate_limit_error", code: "requests_per_minute_exceeded", retry: "40", fits: 2,
			message: "This API key may make 2 requests per minute; 2 were made in this minute. It begins anew at 2027-03-17T12:01:00Z."},
		{limits: db.Limits{TokensPerMinute: 20}, status: 429, typ: "rate_limit_error", code: "tokens_per_minute_exceeded", retry: "40", fits: 1,
			message: "This API key may use 20 tokens per minute; 12 are used and 0 held by running requests, and this one may need 15. The minute ends at 2027-03-17T12:01:00Z."},
		{limits: db.Limits{DailyTokens: 20}, status: 402, typ: "usage_limit_exceeded", code: "daily_token_limit_reached", fits: 1,
			message: "The limit daily tokens of this API key is 20; 12 are used and 0 held by running requests, and this one may need 15. It resets at 2027-03-18T00:00:00Z."},
		{limits: db.Limits{MonthlyTokens: 20}, status: 402, typ: "usage_limit_exceeded", code: "monthly_token_limit_reached", fits: 1,
			message: "It resets at 2027-04-01T00:00:00Z."},
		{limits: db.Limits{TotalTokens: 20}, status: 402, typ: "usage_limit_exceeded", code: "total_token_limit_reached", fits: 1,
			message: "It does not reset; its owner can raise it."},
		{limits: db.Limits{DailyUSD: 30}, status: 402, typ: "usage_limit_exceeded", code: "daily_spend_limit_reached", fits: 1,
			message: "The limit daily usd of this API key is $0.00003; $0.000017 are used and $0.00 held by running requests, and this one may need $0.00002. It resets at 2027-03-18T00:00:00Z."},
		{limits: db.Limits{MonthlyUSD: 30}, status: 402, typ: "usage_limit_exceeded", code: "monthly_spend_limit_reached", fits: 1, message: "$0.00003"},
		{limits: db.Limits{TotalUSD: 30}, status: 402, typ: "usage_limit_exceeded", code: "total_spend_limit_reached", fits: 1, message: "$0.00003"},
		{limits: db.Limits{MaxTokensPerRequest: 4}, status: 422, typ: "invalid_request_error", code: "max_tokens_exceeded",
			message: "The request asks for up to 5 output tokens; this API key allows 4 per request. Ask for less."},
	} {
		t.Run(c.code, func(t *testing.T) {
			key := d.key(c.code, func(k *db.Key) { k.Limits = c.limits })
			for range c.fits {
				if resp, body := d.send("POST", "/v1/chat/completions", boundBody, "X-Api-Key", key); resp.StatusCode != 200 {
					t.Fatalf("one that fits: %d %s", resp.StatusCode, body)
				}
			}
			p.all()
			for range 3 { // what was refused is not counted
				resp, body := d.send("POST", "/v1/chat/completions", boundBody, "X-Api-Key", key)
				refused(t, c.code, resp, body, c.status, c.typ, c.code)
				var e struct{ Error struct{ Message string } }
				if err := json.Unmarshal([]byte(body), &e); err != nil || !strings.Contains(e.Error.Message, c.message) || resp.Header.Get("Retry-After") != c.retry {
					t.Errorf("%s, Retry-After %q; want %q, %q", body, resp.Header.Get("Retry-After"), c.message, c.retry)
				}
			}
			if resp, body := d.send("POST", "/v1/messages", boundBody, "X-Api-Key", key); resp.StatusCode != c.status ||
				!strings.HasPrefix(body, `{"type":"error","error":{"type":"`+c.typ+`","message":"`) || !strings.HasSuffix(body, `"code":"`+c.code+`"}}`) {
				t.Errorf("messages: %d %s", resp.StatusCode, body)
			}
			if got := p.all(); len(got) != 0 {
				t.Errorf("the provider got %d refused requests", len(got))
			}
			use, err := d.store.KeyUsage(t.Context(), key[3:13], noon)
			if err != nil || use.Total.Requests != int64(c.fits) || use.Total.Tokens != int64(12*c.fits) || use.Total.HeldTokens != 0 {
				t.Errorf("the key used %+v (%v)", use.Total, err)
			}
		})
	}
}

func TestMinutesBeginAnew(t *testing.T) {
	var at atomic.Pointer[time.Time]
	d := newDoor(t, calls(t, good).URL, nil, livesAt(&at))
	key := d.key("k", func(k *db.Key) { k.Limits.RequestsPerMinute = 1 })
	for minute := range 3 {
		now := noon.Add(time.Duration(minute) * time.Minute)
		at.Store(&now)
		if resp, body := d.chat(key); resp.StatusCode != 200 {
			t.Errorf("minute %d: %d %s", minute, resp.StatusCode, body)
		}
		if resp, body := d.chat(key); resp.StatusCode != 429 {
			t.Errorf("minute %d: %d %s", minute, resp.StatusCode, body)
		}
	}
}

// A running answer takes one of the places, whatever it waits for, and gives it
// back when it has ended.
func TestConcurrentRequests(t *testing.T) {
	s := newSteps()
	d := newDoor(t, calls(t, s.serve).URL, nil)
	key := d.key("k", func(k *db.Key) { k.Limits.ConcurrentRequests = 1 })
	_, lines := d.open(key)
	resp, body := d.chat(key)
	refused(t, "a second one", resp, body, 429, "rate_limit_error", "concurrent_requests_exceeded")
	if resp.Header.Get("Retry-After") != "1" || !strings.Contains(body, "may have 1 concurrent requests, and 1 are running") {
		t.Errorf("%s %v", body, resp.Header)
	}
	if resp, _ := d.send("GET", "/v1/key", "", "X-Api-Key", key); resp.StatusCode != 200 {
		t.Errorf("the key itself: %d", resp.StatusCode)
	}
	close(s.next)
	if _, err := io.ReadAll(lines); err != nil {
		t.Fatal(err)
	}
	d.settled()
	s.next = make(chan string)
	close(s.next)
	if resp, body := d.chat(key); resp.StatusCode != 200 {
		t.Errorf("afterwards: %d %s", resp.StatusCode, body)
	}
}

// A key with limits per minute reads where it stands on every answer, for the
// kinds that it limits; a provider's own of the other kind pass.
func TestRateHeaders(t *testing.T) {
	p := calls(t, func(w http.ResponseWriter, r *http.Request) {
		for _, kind := range []string{"Limit-Requests", "Remaining-Requests", "Limit-Tokens", "Remaining-Tokens"} {
			w.Header().Set("X-RateLimit-"+kind, "999")
		}
		good(w, r)
	})
	var at atomic.Pointer[time.Time]
	d := newDoor(t, p.URL, nil, livesAt(&at))
	reset := fmt.Sprint(noon.Add(40 * time.Second).Unix())
	rpm := d.key("rpm", func(k *db.Key) { k.Limits.RequestsPerMinute = 3; k.Models = []string{"m"} })
	both := d.key("both", func(k *db.Key) { k.Limits.RequestsPerMinute, k.Limits.TokensPerMinute = 9, 100 })
	free := d.key("free", nil)
	for _, c := range []struct {
		name, method, path, body, key string
		status                        int
		want                          [4]string // limit and rest of requests, and of tokens
		resets                        string
	}{
		{"no limit", "POST", "/v1/chat/completions", boundBody, free, 200, [4]string{"999", "999", "999", "999"}, ""},
		{"the list of models", "GET", "/v1/models", "", rpm, 200, [4]string{"3", "3", "", ""}, reset},
		{"the key", "GET", "/v1/key", "", rpm, 200, [4]string{"3", "3", "", ""}, reset},
		{"the first request", "POST", "/v1/chat/completions", boundBody, rpm, 200, [4]string{"3", "2", "999", "999"}, reset},
		{"not allowed", "POST", "/v1/chat/completions", `{"model":"x"}`, rpm, 403, [4]string{"3", "2", "", ""}, reset},
		{"not JSON", "POST", "/v1/chat/completions", `{`, rpm, 400, [4]string{"3", "2", "", ""}, reset},
		{"the second", "POST", "/v1/chat/completions", boundBody, rpm, 200, [4]string{"3", "1", "999", "999"}, reset},
		{"the third", "POST", "/v1/chat/completions", boundBody, rpm, 200, [4]string{"3", "0", "999", "999"}, reset},
		{"one too many", "POST", "/v1/chat/completions", boundBody, rpm, 429, [4]string{"3", "0", "", ""}, reset},
		{"both kinds", "POST", "/v1/chat/completions", boundBody, both, 200, [4]string{"9", "8", "100", "85"}, reset},
		{"both again", "POST", "/v1/chat/completions", boundBody, both, 200, [4]string{"9", "7", "100", "73"}, reset},
		{"refused before its body", "POST", "/v1/files", "waits", rpm, 403, [4]string{"3", "0", "", ""}, reset},
		{"no key", "POST", "/v1/chat/completions", boundBody, "th-x", 401, [4]string{}, ""},
	} {
		headers := []string{"X-Api-Key", c.key}
		if c.body == "waits" {
			headers = append(headers, "Expect", "100-continue")
		}
		resp, body := d.send(c.method, c.path, c.body, headers...)
		h := resp.Header
		got := [4]string{h.Get("X-RateLimit-Limit-Requests"), h.Get("X-RateLimit-Remaining-Requests"), h.Get("X-RateLimit-Limit-Tokens"), h.Get("X-RateLimit-Remaining-Tokens")}
		if resp.StatusCode != c.status || got != c.want || h.Get("X-RateLimit-Reset-Requests") != c.resets {
			t.Errorf("%s: %d %s %v, resets %s; want %d %v %s", c.name, resp.StatusCode, body, got, h.Get("X-RateLimit-Reset-Requests"), c.status, c.want, c.resets)
		}
	}
}

// A request that reached nobody was not counted, and the headers say so.
func TestRateHeadersWhereNobodyAnswers(t *testing.T) {
	d := newDoor(t, "http://127.0.0.1:1", nil)
	key := d.key("k", func(k *db.Key) { k.Limits.RequestsPerMinute = 3 })
	for range 2 {
		resp, body := d.chat(key)
		refused(t, "nobody there", resp, body, 503, "provider_error", "provider_unreachable")
		if left := resp.Header.Get("X-RateLimit-Remaining-Requests"); left != "3" {
			t.Errorf("%s requests are left, want 3", left)
		}
	}
}

// Who asks for more than a limit has at all is told that waiting does not help, and
// nobody else is.
func TestRequestThatNeverFits(t *testing.T) {
	d := newDoor(t, calls(t, good).URL, priced)
	for name, c := range map[string]struct {
		limits db.Limits
		status int
		never  bool
	}{
		"a minute too small":      {db.Limits{TokensPerMinute: 14}, 429, true},
		"a day too small":         {db.Limits{DailyTokens: 14}, 402, true},
		"too little money":        {db.Limits{TotalUSD: 1}, 402, true},
		"a minute that is enough": {db.Limits{TokensPerMinute: 15}, 429, false},
		"a month that is enough":  {db.Limits{MonthlyTokens: 15}, 402, false},
	} {
		key := d.key(name, func(k *db.Key) { k.Limits = c.limits })
		if !c.never {
			d.chat(key)
		}
		resp, body := d.send("POST", "/v1/chat/completions", boundBody, "X-Api-Key", key)
		const hint = "Even with none of it used this request would not fit: make it smaller, or have the limit raised."
		if resp.StatusCode != c.status || strings.Contains(body, hint) != c.never {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
}

// The minute may end between the claim and the answer to it.
func TestRetryAfterOfAMinuteThatIsOver(t *testing.T) {
	for _, limit := range []string{db.LimitRPM, db.LimitTPM} {
		if e := limitError(&db.LimitError{Limit: limit, Resets: noon}, noon.Add(time.Millisecond)); e.RetryAfter != time.Second {
			t.Errorf("%s: retry after %v, want 1s", limit, e.RetryAfter)
		}
	}
}

// While the store can't write, keys without any limit are served, and those with
// one are told to come again: it could not be held.
func TestStorageThatCannotWrite(t *testing.T) {
	d := newDoor(t, calls(t, good).URL, nil)
	free, limited := d.key("free", nil), d.key("limited", func(k *db.Key) { k.Limits.TotalTokens = 10_000 })
	d.store.FailWrites(io.ErrShortWrite)
	resp, body := d.chat(limited)
	refused(t, "a limited key", resp, body, 503, "api_error", "storage_unavailable")
	if resp.Header.Get("Retry-After") == "" || strings.Contains(body, io.ErrShortWrite.Error()) {
		t.Errorf("%s %v", body, resp.Header)
	}
	if resp, body := d.chat(free); resp.StatusCode != 200 {
		t.Errorf("a key without limits: %d %s", resp.StatusCode, body)
	}
	d.store.FailWrites(nil)
	if resp, body := d.chat(limited); resp.StatusCode != 200 {
		t.Errorf("afterwards: %d %s", resp.StatusCode, body)
	}
}

// A key sees the models that it may call, and can ask for one of them.
func TestModelsOfAKey(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, func(c *config.Config) {
		c.Providers[0].Models = []string{"one", "two", "org/three", "many-*"}
		c.Models = []config.Model{{Name: "house", Targets: []config.Target{{Provider: "p", Model: "two", Weight: 1}}, ContextWindow: 128_000}}
	})
	all, few, none := d.key("all", nil), d.key("few", func(k *db.Key) { k.Models = []string{"t*", "org/*"} }), d.key("none", func(k *db.Key) { k.Providers = []string{"q"} })
	for key, want := range map[string]string{all: "house one two org/three", few: "house two org/three", none: ""} {
		resp, body := d.send("GET", "/v1/models", "", "Authorization", "Bearer "+key)
		var list struct {
			Object string
			Data   []struct{ ID, Object string }
		}
		if err := json.Unmarshal([]byte(body), &list); err != nil || resp.StatusCode != 200 || list.Object != "list" || list.Data == nil {
			t.Fatalf("%d %s %v", resp.StatusCode, body, err)
		}
		var ids []string
		for _, m := range list.Data {
			ids = append(ids, m.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for path, status := range map[string]int{"/v1/models/one": 403, "/v1/models/two": 200, "/v1/models/org/three": 200, "/v1/models/org%2Fthree": 200, "/v1/models/nobody": 404} {
		resp, body := d.send("GET", path, "", "Authorization", "Bearer "+few)
		if resp.StatusCode != status || status == 200 && !strings.Contains(body, `"object":"model"`) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
		if head, body := d.send("HEAD", path, "", "Authorization", "Bearer "+few); head.StatusCode != status || body != "" || head.ContentLength != resp.ContentLength {
			t.Errorf("HEAD %s: %d, %d bytes, want %d", path, head.StatusCode, head.ContentLength, resp.ContentLength)
		}
	}
	if got := p.all(); len(got) != 0 {
		t.Errorf("the provider got %+v", got)
	}
}

// What is priced by something that an endpoint does not have would cost nothing
// there: a key with a limit in USD may not call it, for others the cost is unknown.
func TestPricesOfAnotherKind(t *testing.T) {
	p := newFake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }) // which tells nothing
	d := newDoor(t, p.URL, func(c *config.Config) {
		c.Prices = []config.Price{{Model: "drawn", Image: 40_000}, {Model: "heard", Second: 100}, {Model: "called", Call: 5}}
	})
	poor := d.key("poor", func(k *db.Key) { k.Limits = db.Limits{TotalUSD: 1_000_000} })
	rich := d.key("rich", nil)
	for _, c := range []struct {
		path, model string
		cost        int64
	}{
		{"/v1/chat/completions", "drawn", db.UnknownCost},
		{"/v1/chat/completions", "heard", db.UnknownCost},
		{"/v1/chat/completions", "called", 5},
		{"/v1/embeddings", "drawn", db.UnknownCost},
		{"/v1/audio/speech", "drawn", db.UnknownCost},
		{"/v1/audio/speech", "heard", db.UnknownCost}, // nobody tells how long it is
		{"/v1/audio/transcriptions", "heard", 100},
		{"/v1/audio/transcriptions", "drawn", db.UnknownCost},
		{"/v1/images/generations", "heard", db.UnknownCost},
		{"/v1/images/generations", "drawn", 40_000},
		{"/v1/images/generations", "called", 5},
	} {
		body, kind := `{"model":"`+c.model+`","max_tokens":5}`, "application/json"
		if strings.HasSuffix(c.path, "transcriptions") { // a second of it
			kind = "multipart/form-data; boundary=b"
			body = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n" + c.model +
				"\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n"
			body += strings.Repeat("x", 4000-len(body)-len("\r\n--b--\r\n")) + "\r\n--b--\r\n"
		}
		what := c.model + " at " + c.path
		resp, text := d.send("POST", c.path, body, "Authorization", "Bearer "+poor, "Content-Type", kind)
		if c.cost == db.UnknownCost {
			refused(t, what, resp, text, 403, "permission_error", "model_not_priced")
		} else if resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", what, resp.StatusCode, text)
		}
		if resp, text := d.send("POST", c.path, body, "Authorization", "Bearer "+rich, "Content-Type", kind); resp.StatusCode != 200 {
			t.Errorf("%s without a limit: %d %s", what, resp.StatusCode, text)
		}
		records := d.settled()
		if last := records[len(records)-1]; last.Cost != c.cost {
			t.Errorf("%s costs %d instead of %d", what, last.Cost, c.cost)
		}
	}
}
