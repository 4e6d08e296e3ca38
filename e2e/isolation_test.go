package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// visit makes a request with headers in pairs and follows no redirect.
func (h *hub) visit(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// unheard fails the test if the provider got a request.
func (p *provider) unheard(t *testing.T, what string) {
	t.Helper()
	select {
	case got := <-p.got:
		t.Errorf("%s: the provider got %s %s with %v", what, got.method, got.target, got.header)
	default:
	}
}

// Each credential opens its own side and no other: a key /v1, a token /api and
// /metrics, a session the pages and /api.
func TestCredentialsOpenTheirOwnSide(t *testing.T) {
	p := startProvider(t, answers(map[string]string{"/v1/files": "{}", "/v1/chat/completions": "{}"}))
	h := startHub(t, p.config())
	h.setPassword(t, password)
	key := h.key(t, "all", "--endpoints", "all")
	token := h.run(t, "admin", "token", "create", "--name", "t", "--quiet")
	in, _ := h.visit(t, "POST", "/sign-in", url.Values{"password": {password}}.Encode(),
		"Content-Type", "application/x-www-form-urlencoded", "Origin", h.url, "Sec-Fetch-Site", "same-origin")
	if len(in.Cookies()) != 1 || !in.Cookies()[0].HttpOnly || in.Cookies()[0].SameSite < http.SameSiteLaxMode || in.Cookies()[0].SameSite > http.SameSiteStrictMode {
		t.Fatalf("signing in was answered %d with %v", in.StatusCode, in.Cookies())
	}
	session := in.Cookies()[0].Name + "=" + in.Cookies()[0].Value
	shown := map[string][]string{
		"a key":                  {"Authorization", "Bearer " + key},
		"a key in x-api-key":     {"X-Api-Key", key},
		"a key as a cookie":      {"Cookie", in.Cookies()[0].Name + "=" + key},
		"a token":                {"Authorization", "Bearer " + token},
		"a token in x-api-key":   {"X-Api-Key", token},
		"a session":              {"Cookie", session, "Origin", h.url, "Sec-Fetch-Site", "same-origin"},
		"a session as a bearer":  {"Authorization", "Bearer " + in.Cookies()[0].Value},
		"the password as basic":  {"Authorization", "Basic YWRtaW46Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ=="},
		"the password as bearer": {"Authorization", "Bearer " + password},
		"nothing":                nil,
	}
	sides := []struct {
		name   string
		paths  []string
		opened []string // by these
	}{
		{"/v1", []string{"GET /v1/files", "POST /v1/chat/completions", "GET /v1/key", "GET /v1/models"}, []string{"a key", "a key in x-api-key"}},
		{"/api", []string{"GET /api/keys", "GET /api/tokens", "GET /api/usage", "GET /api/requests", "GET /api/audit", "GET /api/providers", "GET /api/backup", "GET /api/openapi.json"}, []string{"a token", "a session"}},
		{"/metrics", []string{"GET /metrics"}, []string{"a token"}},
		{"pages", []string{"GET /", "GET /keys", "GET /keys/new", "GET /usage", "GET /requests", "GET /providers", "GET /connect", "GET /audit", "GET /settings"}, []string{"a session"}},
	}
	for _, side := range sides {
		for who, headers := range shown {
			want := false
			for _, o := range side.opened {
				want = want || o == who
			}
			for _, target := range side.paths {
				method, path, _ := strings.Cut(target, " ")
				resp, body := h.visit(t, method, path, plainChat, headers...)
				if opened := resp.StatusCode == 200; opened != want {
					t.Errorf("%s with %s: %d %.100s, want it opened: %v", target, who, resp.StatusCode, body, want)
				}
				if !want {
					p.unheard(t, target+" with "+who)
				} else if path == "/v1/files" || path == "/v1/chat/completions" {
					checkCredential(t, p.next(t), key)
				}
			}
		}
	}
	// What changes something is no better open.
	for _, target := range []string{"POST /api/keys", "POST /api/tokens", "POST /api/reload", "PUT /api/admin/password", "POST /keys/new", "POST /settings/tokens", "POST /settings/reload"} {
		for _, who := range []string{"a key", "a key in x-api-key", "a key as a cookie", "a session as a bearer", "the password as basic", "nothing"} {
			method, path, _ := strings.Cut(target, " ")
			resp, body := h.visit(t, method, path, `{"name":"evil"}`, append([]string{"Content-Type", "application/json"}, shown[who]...)...)
			if resp.StatusCode < 300 || strings.Contains(body, `"key"`) || resp.StatusCode < 400 && !strings.Contains(resp.Header.Get("Location"), "sign-in") {
				t.Errorf("%s with %s: %d %.100s", target, who, resp.StatusCode, body)
			}
		}
	}
	if list := h.run(t, "keys", "list", "--json"); strings.Contains(list, "evil") {
		t.Errorf("a key was made: %s", list)
	}
}

// A key for inference reaches nothing that is stored at the provider, where all
// keys share one account.
func TestInferenceKeysReachNothingStored(t *testing.T) {
	p := startProvider(t, answers(nil))
	h := startHub(t, p.config())
	key := h.key(t, "inference")
	for _, path := range []string{"files", "files/f", "files/f/content", "batches", "batches/b/cancel", "responses/r", "responses/r/input_items", "responses/r/cancel",
		"chat/completions", "chat/completions/c", "chat/completions/c/messages", "assistants", "threads", "threads/t/runs", "vector_stores", "uploads", "fine_tuning/jobs",
		"containers", "conversations/c", "messages/batches", "messages/batches/b/results", "models/m", "organization/admin_api_keys", "evals", "realtime", "realtime/sessions",
		"images", "audio", "embeddings/x", "chat/completions/", "Files", "chat%2Fcompletions", "x"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"} {
			if path == "models/m" && (method == "GET" || method == "HEAD") || path == "chat/completions" && method == "POST" {
				continue
			}
			resp, body := h.visit(t, method, "/v1/"+path, `{"model":"gpt-4o-mini"}`, "X-Api-Key", key, "Content-Type", "application/json")
			if resp.StatusCode != 403 || method != "HEAD" && !strings.Contains(body, `"code":"endpoint_not_allowed"`) {
				t.Errorf("%s %s: %d %s", method, path, resp.StatusCode, body)
			}
			p.unheard(t, method+" "+path)
		}
	}
}

// trap is a server that nobody may be led to.
type trap struct {
	address string
	visits  atomic.Int64
}

func setTrap(t *testing.T) *trap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	tr := &trap{address: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tr.visits.Add(1)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ntrapped")
			conn.Close()
		}
	}()
	return tr
}

// Neither a caller nor a provider leads TokenHub to another host: it goes where
// its configuration says, follows no redirect, and is no open proxy.
func TestNobodyIsLedElsewhere(t *testing.T) {
	tr := setTrap(t)
	p := startProvider(t, func(w http.ResponseWriter, r *http.Request, body []byte) {
		var status int
		if _, err := fmt.Sscan(r.Header.Get("X-Redirect"), &status); err == nil {
			w.Header().Set("Location", "http://"+tr.address+"/v1/stolen")
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	})
	h := startHub(t, p.config())
	key := h.key(t, "all", "--endpoints", "all")
	send := func(raw string) string {
		conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, raw); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		body, _ := io.ReadAll(resp.Body) // a switched protocol ends when we leave
		return resp.Status + " " + string(body)
	}
	get := func(target string, headers ...string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + key + "\r\nConnection: close\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
	}
	post := func(body string, headers ...string) string {
		return "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + key + "\r\nConnection: close\r\nContent-Type: application/json\r\n" +
			strings.Join(append(headers, fmt.Sprintf("Content-Length: %d", len(body)), ""), "\r\n") + "\r\n" + body
	}
	a := tr.address
	for _, raw := range []string{
		get("http://" + a + "/v1/files"), get("https://" + a + "/v1/files"), get("http://" + a), get("//" + a + "/v1/files"), get("/v1//" + a + "/x"),
		get("/v1@" + a + "/x"), get("/v1/@" + a + "/x"), get("/v1/http://" + a + "/x"), get("/v1/..//" + a + "/x"), get("/v1/%2e%2e/%2f" + a), get("/v1/x?url=http://" + a + "/"),
		get(":" + a), get("@" + a + "/v1/x"), get("/v1/\\\\" + a + "\\x"),
		strings.Replace(get("/v1/files"), "Host: x", "Host: "+a, 1),
		get("/v1/files", "X-Forwarded-Host: "+a, "X-Forwarded-Server: "+a, "X-Original-URL: http://"+a, "X-Rewrite-URL: http://"+a, "X-Host: "+a, "Forwarded: host="+a),
		get("/v1/files", "X-TokenHub-Provider: http://"+a+"/v1"), get("/v1/files", "X-TokenHub-Provider: "+a),
		post(plainChat, "X-Inferoute-Fallback: http://"+a+"/x", "X-Inferoute-Strategy: latency"),
		post(strings.Replace(plainChat, "gpt-4o-mini", "http://"+a+"/v1", 1)), post(strings.Replace(plainChat, "gpt-4o-mini", "@"+a+"/gpt-4o-mini", 1)),
		post(strings.Replace(plainChat, "{", `{"base_url":"http://`+a+`","api_base":"http://`+a+`",`, 1)),
		"CONNECT " + a + " HTTP/1.1\r\nHost: " + a + "\r\nX-Api-Key: " + key + "\r\nConnection: close\r\n\r\n",
		get("http://"+a+"/v1/realtime", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"),
		get("/v1/realtime?model=http://"+a+"/x", "Upgrade: websocket", "Origin: http://"+a),
		get("/v1/files", "Upgrade: TLS/1.0, http://"+a), get("/v1/files", "Proxy-Authorization: Basic eA==", "Proxy-Connection: keep-alive"),
	} {
		if said := send(raw); strings.Contains(said, "trapped") {
			t.Errorf("%q was answered by the trap: %s", raw, said)
		}
	}
	for _, status := range []string{"301", "302", "303", "307", "308"} {
		for _, raw := range []string{get("/v1/files", "X-Redirect: "+status), post(plainChat, "X-Redirect: "+status)} {
			if said := send(raw); !strings.HasPrefix(said, status) {
				t.Errorf("a redirect by %s was answered %s", status, said)
			}
		}
	}
	if n := tr.visits.Load(); n != 0 {
		t.Errorf("the trap was visited %d times", n)
	}
}
