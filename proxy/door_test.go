package proxy

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/db"
)

func TestKeyThatOpensNothing(t *testing.T) {
	p := newFake(t, good)
	d := newDoor(t, p.URL, nil)
	other, _, err := auth.Mint(auth.Key)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := auth.Mint(auth.Token)
	if err != nil {
		t.Fatal(err)
	}
	active := d.key("active", nil)
	wrong, err := auth.Renew(auth.Key, active[3:13])
	if err != nil {
		t.Fatal(err)
	}
	typo := active[:20] + "x" + active[21:]
	if typo == active {
		typo = active[:20] + "y" + active[21:]
	}
	past := time.Now().Add(-time.Second)
	for name, headers := range map[string][]string{
		"none":            {},
		"empty":           {"Authorization", ""},
		"basic":           {"Authorization", "Basic dXNlcjpwYXNz"},
		"malformed":       {"Authorization", "Bearer th-abc"},
		"a provider's":    {"Authorization", "Bearer sk-secret"},
		"an admin's":      {"Authorization", "Bearer " + token},
		"unknown":         {"Authorization", "Bearer " + other},
		"wrong secret":    {"Authorization", "Bearer " + wrong},
		"typing error":    {"Authorization", "Bearer " + typo},
		"expired":         {"X-Api-Key", d.key("expired", func(k *db.Key) { k.ExpiresAt = past })},
		"disabled":        {"X-Api-Key", d.key("disabled", func(k *db.Key) { k.Disabled = true })},
		"revoked":         {"X-Api-Key", d.key("revoked", func(k *db.Key) { k.RevokedAt = past })},
		"rotated out":     {"X-Api-Key", d.key("rotated", func(k *db.Key) { k.Secrets[0].Until = past })},
		"two that differ": {"Authorization", "Bearer " + active, "X-Api-Key", other},
	} {
		for path, want := range map[string]string{
			"/v1/chat/completions": `{"error":{"message":"Invalid API key provided.","type":"authentication_error","code":"invalid_api_key"}}`,
			"/v1/messages":         `{"type":"error","error":{"type":"authentication_error","message":"Invalid API key provided."}}`,
			"/v1/nothing/known":    `{"error":{"message":"Invalid API key provided.","type":"authentication_error","code":"invalid_api_key"}}`,
		} {
			resp, body := d.send("POST", path, chatBody, headers...)
			if resp.StatusCode != 401 || body != want || resp.Header.Get("WWW-Authenticate") != "Bearer" || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("X-TokenHub-Error") != "gateway" {
				t.Errorf("%s at %s: %d %s %v", name, path, resp.StatusCode, body, resp.Header)
			}
		}
	}
	for _, query := range []string{"?key=" + active, "?x=1&api_key=th%2D" + active[3:], "?a=tha-x"} {
		if resp, body := d.send("POST", "/v1/chat/completions"+query, chatBody, "Authorization", "Bearer "+active); resp.StatusCode != 401 {
			t.Errorf("%s: %d %s", query, resp.StatusCode, body)
		}
	}
	if records := d.store.Records(); len(records) != 0 {
		t.Errorf("the provider was asked: %+v", records)
	}
	if log := d.log.String(); strings.Contains(log, active[13:]) || strings.Contains(log, other[13:]) {
		t.Errorf("a secret is in the log:\n%s", log)
	}
}

func TestKeyIsPresentedInManyForms(t *testing.T) {
	p := newFake(t, good)
	d := newDoor(t, p.URL, nil)
	key := d.key("k", nil)
	for _, headers := range [][]string{
		{"Authorization", "Bearer " + key}, {"Authorization", "bearer " + key}, {"Authorization", "BEARER  " + key},
		{"X-Api-Key", key}, {"x-api-key", key}, {"Authorization", "Bearer " + key, "X-Api-Key", key},
	} {
		if resp, body := d.send("POST", "/v1/chat/completions", chatBody, headers...); resp.StatusCode != 200 {
			t.Errorf("%v: %d %s", headers[0], resp.StatusCode, body)
		}
	}
}

func TestRotationAndGrace(t *testing.T) {
	p := newFake(t, good)
	d := newDoor(t, p.URL, nil)
	old := d.key("k", nil)
	id := old[3:13]
	ask := func(key string) int {
		resp, _ := d.send("POST", "/v1/chat/completions", chatBody, "X-Api-Key", key)
		return resp.StatusCode
	}
	fresh, err := auth.Renew(auth.Key, id)
	if err != nil {
		t.Fatal(err)
	}
	rotate := func(until time.Time) {
		k, err := d.store.Key(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		k = k.Clone()
		k.Secrets = []db.Secret{{PHC: "plain:" + fresh}, {PHC: "plain:" + old, Until: until}}
		if _, err := d.store.PutKey(t.Context(), k, db.Audit{}); err != nil {
			t.Fatal(err)
		}
	}
	if ask(old) != 200 || ask(fresh) != 401 {
		t.Error("before the rotation")
	}
	rotate(time.Now().Add(time.Hour))
	if ask(old) != 200 || ask(fresh) != 200 {
		t.Error("within the grace")
	}
	rotate(time.Now().Add(-time.Second))
	if ask(old) != 401 || ask(fresh) != 200 {
		t.Error("after the grace")
	}
}

func TestRestrictions(t *testing.T) {
	p := newFake(t, good)
	d := newDoor(t, p.URL, func(c *config.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		other := c.Providers[0]
		other.Name, other.Models = "q", []string{"only-q"}
		c.Providers = append([]config.Provider{other}, c.Providers...)
	})
	for _, c := range []struct {
		name, method, path, body, forwarded string
		edit                                func(*db.Key)
		status                              int
		code                                string
	}{
		{"all open", "POST", "/v1/chat/completions", chatBody, "", nil, 200, ""},
		{"model listed", "POST", "/v1/chat/completions", chatBody, "", func(k *db.Key) { k.Models = []string{"x", "m*"} }, 200, ""},
		{"model as served", "POST", "/v1/chat/completions", chatBody, "", func(k *db.Key) { k.Models = []string{"p/m"} }, 200, ""},
		{"pinned, by its plain name", "POST", "/v1/chat/completions", `{"model":"p/m"}`, "", func(k *db.Key) { k.Models = []string{"m"} }, 200, ""},
		{"model not listed", "POST", "/v1/chat/completions", chatBody, "", func(k *db.Key) { k.Models = []string{"gpt-*"} }, 403, "model_not_allowed"},
		{"case counts", "POST", "/v1/chat/completions", chatBody, "", func(k *db.Key) { k.Models = []string{"M"} }, 403, "model_not_allowed"},
		{"no model", "POST", "/v1/chat/completions", `{}`, "", func(k *db.Key) { k.Models = []string{"*m"} }, 400, "missing_parameter"},
		{"model is no text", "POST", "/v1/chat/completions", `{"model":5}`, "", nil, 400, "missing_parameter"},
		{"two models", "POST", "/v1/chat/completions", `{"model":"m","model":"x"}`, "", nil, 400, "duplicate_parameter"},
		{"long name", "POST", "/v1/chat/completions", `{"model":"` + strings.Repeat("m", 201) + `"}`, "", nil, 400, "invalid_parameter"},
		{"control character", "POST", "/v1/chat/completions", `{"model":"m\n"}`, "", nil, 400, "invalid_parameter"},
		{"provider allowed", "POST", "/v1/chat/completions", chatBody, "", func(k *db.Key) { k.Providers = []string{"p"} }, 200, ""},
		{"provider not allowed", "POST", "/v1/chat/completions", `{"model":"q/m"}`, "", func(k *db.Key) { k.Providers = []string{"p"} }, 403, "provider_not_allowed"},
		{"address allowed", "POST", "/v1/chat/completions", chatBody, "10.1.2.3", func(k *db.Key) { k.AllowedIPs = []string{"10.0.0.0/8"} }, 200, ""},
		{"address not allowed", "POST", "/v1/chat/completions", chatBody, "11.1.2.3", func(k *db.Key) { k.AllowedIPs = []string{"10.0.0.0/8"} }, 403, "ip_not_allowed"},
		{"spoofed address", "POST", "/v1/chat/completions", chatBody, "10.1.2.3, 11.1.2.3", func(k *db.Key) { k.AllowedIPs = []string{"10.0.0.0/8"} }, 403, "ip_not_allowed"},
		{"stored object", "GET", "/v1/files", "", "", nil, 403, "endpoint_not_allowed"},
		{"method of the list", "GET", "/v1/chat/completions", "", "", nil, 403, "endpoint_not_allowed"},
		{"encoded letter", "POST", "/v1/chat%2Fcompletions", chatBody, "", nil, 403, "endpoint_not_allowed"},
		{"all endpoints", "GET", "/v1/files", "", "", func(k *db.Key) { k.Endpoints = db.AllEndpoints }, 200, ""},
		{"all endpoints with a budget", "GET", "/v1/files", "", "", func(k *db.Key) { k.Endpoints = db.AllEndpoints; k.Limits.TotalTokens = 5 }, 403, "endpoint_not_metered"},
		{"batches with a list", "POST", "/v1/batches", `{}`, "", func(k *db.Key) { k.Endpoints = db.AllEndpoints; k.Models = []string{"m"} }, 403, "endpoint_not_metered"},
		{"encoded batches with a list", "POST", "/v1/%62atches", `{}`, "", func(k *db.Key) { k.Endpoints = db.AllEndpoints; k.Models = []string{"m"} }, 403, "endpoint_not_metered"},
		{"a slash behind the path, with a list", "POST", "/v1/chat/completions/", `{"model":"x"}`, "", func(k *db.Key) { k.Endpoints = db.AllEndpoints; k.Models = []string{"m"} }, 403, "endpoint_not_metered"},
		{"an encoded letter with a list", "POST", "/v1/%63hat/completions", `{"model":"x"}`, "", func(k *db.Key) { k.Endpoints = db.AllEndpoints; k.Models = []string{"m"} }, 403, "endpoint_not_metered"},
		{"other letters with a list", "POST", "/v1/Chat/Completions", `{"model":"x"}`, "", func(k *db.Key) { k.Endpoints = db.AllEndpoints; k.Models = []string{"m"} }, 403, "endpoint_not_metered"},
		{"other batches with a list", "POST", "/v1/Batches", `{}`, "", func(k *db.Key) { k.Endpoints = db.AllEndpoints; k.Models = []string{"m"} }, 403, "endpoint_not_metered"},
		{"a list of all is none", "POST", "/v1/batches", `{}`, "", func(k *db.Key) { k.Endpoints = db.AllEndpoints; k.Models = []string{"m", "*"} }, 200, ""},
		{"a slash with a list of all", "POST", "/v1/chat/completions/", chatBody, "", func(k *db.Key) { k.Endpoints = db.AllEndpoints; k.Models = []string{"*"} }, 200, ""},
		{"further models with a list of all", "POST", "/v1/chat/completions", `{"model":"m","models":["x"]}`, "", func(k *db.Key) { k.Models = []string{"*"} }, 200, ""},
		{"no model with a list of all", "POST", "/v1/chat/completions", `{}`, "", func(k *db.Key) { k.Models = []string{"*"} }, 200, ""},
		{"a slash behind the path, without", "POST", "/v1/chat/completions/", chatBody, "", func(k *db.Key) { k.Endpoints = db.AllEndpoints }, 200, ""},
		{"further models", "POST", "/v1/chat/completions", `{"model":"m","models":["x"],"fallbacks":[{"model":"x"}]}`, "", nil, 200, ""},
		{"further models with a list", "POST", "/v1/chat/completions", `{"model":"m","mod\u0065ls":["x"]}`, "", func(k *db.Key) { k.Models = []string{"m"} }, 403, "model_not_allowed"},
		{"fallbacks with a list", "POST", "/v1/messages", `{"model":"m","fallbacks":[{"model":"x"}]}`, "", func(k *db.Key) { k.Models = []string{"m"} }, 403, "model_not_allowed"},
		{"further models with a limit", "POST", "/v1/chat/completions", `{"models":["x"],"model":"m"}`, "", func(k *db.Key) { k.Limits.TotalUSD = 5_000_000 }, 403, "model_not_allowed"},
		{"no further models", "POST", "/v1/chat/completions", `{"model":"m","models":[ ],"fallbacks":null}`, "", func(k *db.Key) { k.Models = []string{"m"} }, 200, ""},
		{"background with a budget", "POST", "/v1/responses", `{"model":"m","background":true}`, "", func(k *db.Key) { k.Limits.TotalTokens = 5000 }, 403, "endpoint_not_metered"},
		{"dot segment", "POST", "/v1/x/%2e%2e/chat/completions", chatBody, "", nil, 400, "invalid_path"},
		{"double slash", "POST", "/v1//chat/completions", chatBody, "", nil, 400, "invalid_path"},
		{"not JSON", "POST", "/v1/chat/completions", `{"model":`, "", nil, 400, "invalid_json"},
		{"strategy", "POST", "/v1/chat/completions", chatBody, "", nil, 200, ""},
	} {
		key := d.key(c.name, c.edit)
		headers := []string{"Authorization", "Bearer " + key}
		if c.forwarded != "" {
			headers = append(headers, "X-Forwarded-For", c.forwarded)
		}
		resp, body := d.send(c.method, c.path, c.body, headers...)
		if resp.StatusCode != c.status || c.code != "" && !strings.Contains(body, `"code":"`+c.code+`"`) {
			t.Errorf("%s: %d %s, want %d %s", c.name, resp.StatusCode, body, c.status, c.code)
		}
	}
	resp, body := d.send("POST", "/v1/chat/completions", chatBody, "Authorization", "Bearer "+d.key("x", nil), "X-Inferoute-Strategy", "luck")
	if resp.StatusCode != 400 || !strings.Contains(body, "invalid_strategy") {
		t.Errorf("strategy: %d %s", resp.StatusCode, body)
	}
}

// What is read of X-Forwarded-For is tried in auth.
func TestCallerAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		peer net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 5}, "1.2.3.4"},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5}, "9.9.9.9"}, // net.IPv4 is mapped into IPv6
		{&net.TCPAddr{IP: net.ParseIP("fd00::1"), Port: 5, Zone: "eth0"}, "9.9.9.9"},
		{&net.UnixAddr{Name: "tokenhub.sock", Net: "unix"}, "invalid IP"},
	} {
		if got := callerAddress(c.peer, []string{"9.9.9.9"}, trusted); got.String() != c.want {
			t.Errorf("callerAddress(%s) = %s, want %s", c.peer, got, c.want)
		}
	}
}

// The headers of a stream come before its first event, and each event comes
// while the provider is silent.
func TestStreamArrivesEventByEvent(t *testing.T) {
	s := newSteps()
	d := newDoor(t, calls(t, s.serve).URL, nil)
	resp, lines := d.open(d.key("k", nil)) // would hang if headers waited for an event
	if resp.Header.Get("X-Accel-Buffering") != "no" || resp.Header.Get("X-Inferoute-Provider") != "p" {
		t.Errorf("headers %v", resp.Header)
	}
	for i := range 3 {
		s.next <- fmt.Sprint(i)
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q %v", line, err)
		}
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	close(s.next)
	if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
		t.Errorf("%q %v", rest, err)
	}
}

// What a caller who stopped reading has left of an answer never reaches the
// next one, and the provider is cut off.
func TestPoisonedPool(t *testing.T) {
	var calls atomic.Int64
	gone := make(chan struct{})
	p := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || calls.Add(1) > 1 {
			good(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			if _, err := io.WriteString(w, "data: poison\n\n"); err != nil || r.Context().Err() != nil {
				close(gone)
				return
			}
			w.(http.Flusher).Flush()
		}
	})
	d := newDoor(t, p.URL, nil)
	key := d.key("k", nil)
	resp, lines := d.open(key)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	within(t, time.Second, "the provider is cut off", gone)
	for range 20 {
		if resp, body := d.send("POST", "/v1/chat/completions", chatBody, "Authorization", "Bearer "+key); resp.StatusCode != 200 || !strings.Contains(body, "hello") || strings.Contains(body, "poison") {
			t.Fatalf("%d %.200s", resp.StatusCode, body)
		}
	}
}

// A provider behind TLS with an authority of its own is spoken to in HTTP/2;
// without that authority's certificate it is not spoken to at all.
func TestProviderWithItsOwnAuthority(t *testing.T) {
	var proto atomic.Value
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto.Store(r.Proto + " " + r.Header.Get("Authorization"))
		good(w, r)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("with its certificate", func(t *testing.T) {
		d := newDoor(t, s.URL, func(c *config.Config) { c.Providers[0].CA = ca })
		if resp, body := d.chat(d.key("k", nil)); resp.StatusCode != 200 || proto.Load() != "HTTP/2.0 Bearer sk-secret" {
			t.Errorf("%d %s %v", resp.StatusCode, body, proto.Load())
		}
	})
	proto.Store("")
	t.Run("without", func(t *testing.T) {
		d := newDoor(t, s.URL, nil)
		resp, body := d.chat(d.key("k", nil))
		refused(t, "without", resp, body, 503, "provider_error", "provider_unreachable")
		if proto.Load() != "" {
			t.Errorf("it was spoken to: %v", proto.Load())
		}
	})
}

// The environment's proxy is used: the transport asks for CONNECT and speaks
// TLS through the tunnel.
func TestProviderThroughAProxy(t *testing.T) {
	target := httptest.NewTLSServer(http.HandlerFunc(good))
	t.Cleanup(target.Close)
	var tunnels atomic.Int64
	tunnel := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		tunnels.Add(1)
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		in, early, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(out, early); out.Close() }()
		_, _ = io.Copy(in, out)
		in.Close()
	}))
	t.Cleanup(tunnel.Close)
	h := newHub(t, nil, target.URL) // which asks for nothing by itself
	transport := h.g.state.Load().providers[0].upstream.(*http.Transport)
	if transport.Proxy == nil {
		t.Fatal("the environment's proxy is not asked for")
	}
	proxy, err := url.Parse(tunnel.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport.Proxy = http.ProxyURL(proxy) // the environment's is read once in a process
	transport.TLSClientConfig = &tls.Config{RootCAs: target.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}
	h.want(h.ask("m"), 200, "a")
	if tunnels.Load() != 1 {
		t.Errorf("%d tunnels", tunnels.Load())
	}
}

// A key sees itself: its limits, and what it used of them.
func TestOwnKey(t *testing.T) {
	d := newDoor(t, newFake(t, good).URL, nil)
	key := d.key("mine", func(k *db.Key) { k.Limits = db.Limits{RequestsPerMinute: 60, MonthlyUSD: 1_500_000, TotalTokens: 1000} })
	if resp, body := d.send("POST", "/v1/chat/completions", `{"model":"m","max_tokens":5}`, "Authorization", "Bearer "+key); resp.StatusCode != 403 || !strings.Contains(body, "model_not_priced") {
		t.Errorf("without a price: %d %s", resp.StatusCode, body)
	}
	resp, body := d.send("GET", "/v1/key", "", "Authorization", "Bearer "+key)
	for _, want := range []string{`"name":"mine"`, `"requests_per_minute":60`, `"monthly_usd":1.5`, `"total_tokens":1000`, `"running":0`, `"resets_at":null`, `"expires_at":null`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
	if resp.StatusCode != 200 || resp.Header.Get("X-RateLimit-Limit-Requests") != "60" || resp.Header.Get("X-RateLimit-Remaining-Requests") != "60" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// A key with a list of models gets none that is not on it by asking for "auto" at
// a provider that it names, which went out as it was.
func TestAutoAtANamedProvider(t *testing.T) {
	d := newDoor(t, newFake(t, good).URL, nil)
	for models, want := range map[string]int{"gpt-4o": 403, "auto": 200} {
		key := d.key(models, func(k *db.Key) { k.Models = []string{models} })
		for _, headers := range [][]string{nil, {"X-TokenHub-Provider", "p"}} {
			resp, body := d.send("POST", "/v1/chat/completions", `{"model":"auto"}`, append(headers, "Authorization", "Bearer "+key)...)
			if resp.StatusCode != want {
				t.Errorf("models = [%s], %v: %d %s", models, headers, resp.StatusCode, body)
			}
		}
	}
}

// A WebSocket of a key with a list of models has one model, which is on it: not
// one in each message, nor two in the query of which the provider takes either.
func TestWebSocketOfAKeyWithModels(t *testing.T) {
	d := newDoor(t, newFake(t, good).URL, nil)
	key := d.key("k", func(k *db.Key) { k.Endpoints, k.Models = db.AllEndpoints, []string{"m"} })
	for target, code := range map[string]string{
		"/v1/realtime?model=m":           "",
		"/v1/realtime?model=x":           "model_not_allowed",
		"/v1/realtime?model=m&model=x":   "endpoint_not_metered",
		"/v1/realtime?model=m&mod%65l=x": "endpoint_not_metered",
		"/v1/realtime":                   "endpoint_not_metered",
		"/v1/responses?model=m":          "endpoint_not_metered",
	} {
		resp, body := d.send("GET", target, "", "Authorization", "Bearer "+key, "Connection", "Upgrade", "Upgrade", "websocket")
		if code == "" && resp.StatusCode != 200 || code != "" && !strings.Contains(body, `"code":"`+code+`"`) {
			t.Errorf("%s: %d %s, want %q", target, resp.StatusCode, body, code)
		}
	}
}

// Two codings of a body on two lines could hide a form from the scanner that the
// provider reads.
func TestTwoContentEncodings(t *testing.T) {
	d := newDoor(t, newFake(t, good).URL, nil)
	key := d.key("k", func(k *db.Key) { k.Models = []string{"m"} })
	resp, body := d.send("POST", "/v1/chat/completions", chatBody, "Authorization", "Bearer "+key, "Content-Encoding", "identity", "Content-Encoding", "gzip")
	refused(t, "two codings", resp, body, 400, "invalid_request_error", "invalid_request")
}
