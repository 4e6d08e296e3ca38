package ui

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"tokenhub/auth"
	"tokenhub/db"
)

func TestOnlyAdminTokensOpenTheAPI(t *testing.T) {
	w := newWorld(t)
	_, key := w.key(`{"name":"x"}`)
	unknown, _, _ := auth.Mint(auth.Token)
	token := w.token
	var first string
	for _, c := range []struct{ name, path, authorization string }{
		{"nothing", "/api/keys", ""},
		{"an API key", "/api/keys", "Bearer " + key},
		{"an unknown token", "/api/keys", "Bearer " + unknown},
		{"a damaged token", "/api/keys", "Bearer " + token[:len(token)-1] + "!"},
		{"another scheme", "/api/keys", "Basic " + token},
		{"a token in the query", "/api/keys?search=" + token, "Bearer " + token},
		{"a key in the query", "/api/keys?search=" + key, "Bearer " + token},
		{"no such route", "/api/nothing", ""},
		{"the document", "/api/openapi.json", ""},
		{"metrics", "/metrics", ""},
	} {
		a := w.call("GET", c.path, "", "Authorization", c.authorization)
		if a.status != 401 || a.header.Get("WWW-Authenticate") != "Bearer" || !strings.Contains(string(a.body), `"code":"invalid_admin_token"`) {
			t.Errorf("%s: got %d %s", c.name, a.status, a.body)
		}
		if first == "" {
			first = string(a.body)
		}
		if string(a.body) != first {
			t.Errorf("%s is told apart: %s", c.name, a.body)
		}
	}
	if a := w.call("GET", "/api/keys", "", "Authorization", "", "X-Api-Key", token); a.status != 401 {
		t.Errorf("x-api-key opened the admin API: %d", a.status)
	}
	if a := w.call("GET", "/api/keys", "", "Authorization", "bEARER  "+token); a.status != 200 {
		t.Errorf("the scheme is held to its case: %d", a.status)
	}
	w.want(200, "DELETE", "/api/tokens/ops", "")
	if a := w.call("GET", "/api/keys", ""); a.status != 401 {
		t.Errorf("a revoked token: %d", a.status)
	}
}

func TestVerifierErrors(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		err          error
		status       int
		code, retry  string
		expectLogged bool
	}{
		{&auth.TooMany{RetryAfter: 30*time.Second + 1}, 429, "too_many_failures", "31", false},
		{&auth.Busy{RetryAfter: time.Second}, 503, "server_busy", "1", true},
		{fmt.Errorf("read: %w", db.ErrStorage), 503, "storage_unavailable", "5", true},
		{context.DeadlineExceeded, 503, "server_busy", "1", true},
		{errors.New("a secret cause"), 500, "internal_error", "", true},
		{fmt.Errorf("verify: %w", &auth.Refused{Reason: auth.Wrong}), 401, "invalid_admin_token", "", true},
	} {
		w.tokens.set(c.err)
		w.log.Reset()
		a := w.call("GET", "/api/keys", "")
		if a.status != c.status || !strings.Contains(string(a.body), `"code":"`+c.code+`"`) || a.header.Get("Retry-After") != c.retry {
			t.Errorf("%v: got %d %s, Retry-After %q", c.err, a.status, a.body, a.header.Get("Retry-After"))
		}
		if strings.Contains(string(a.body), "secret cause") {
			t.Errorf("the cause is told to the caller: %s", a.body)
		}
		if logged := w.log.Len() > 0; logged != c.expectLogged {
			t.Errorf("%v: logged %v: %s", c.err, logged, w.log)
		}
		if strings.Contains(w.log.String(), w.token[14:]) {
			t.Errorf("%v: the log holds the token", c.err)
		}
	}
}

func TestReadOnlyTokensOnlyLook(t *testing.T) {
	w := newWorld(t)
	id, _ := w.key(`{"name":"x"}`)
	w.token = w.tokens.add(t, "viewer", true)
	for _, path := range []string{"/api/keys", "/api/keys/" + id, "/api/usage", "/api/audit", "/api/requests", "/api/providers", "/api/tokens", "/api/openapi.json"} {
		for _, method := range []string{"GET", "HEAD"} {
			if a := w.call(method, path, ""); a.status != 200 {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
		}
	}
	for _, c := range [][2]string{
		{"POST", "/api/keys"}, {"PATCH", "/api/keys/" + id}, {"DELETE", "/api/keys/" + id}, {"POST", "/api/keys/" + id + "/rotate"}, {"POST", "/api/tokens"},
		{"DELETE", "/api/tokens/ops"}, {"POST", "/api/reload"}, {"PUT", "/api/admin/password"}, {"POST", "/api/providers/openai/test"}, {"GET", "/api/backup"}, {"PUT", "/api/nothing"},
	} {
		w.refused(403, "permission_denied", c[0], c[1], `{}`)
	}
}

func TestSocketAndOfflineNeedNoToken(t *testing.T) {
	w := newWorld(t)
	w.token = ""
	for trust, from := range map[Trust]string{Socket: "socket", Offline: "offline"} {
		w.base = w.serve(trust)
		w.want(201, "POST", "/api/keys", `{"name":"x"}`, "X-TokenHub-Actor", "root")
		if e := w.audits()[0]; e.Actor != "cli" || e.From != from {
			t.Errorf("got %s from %s, want cli from %s", e.Actor, e.From, from)
		}
	}
}

func TestRoutesAndMethods(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/api", "/api/", "/api/key", "/api/keys/", "/api/Keys", "/api/keys/a/b", "/api/keys/a/rotate/"} {
		w.refused(404, "not_found", "GET", path, "")
	}
	for _, c := range []struct{ method, path, allow string }{
		{"PUT", "/api/keys", "GET, HEAD, POST"}, {"DELETE", "/api/keys", "GET, HEAD, POST"}, {"POST", "/api/keys/x", "GET, HEAD, PATCH, DELETE"},
		{"GET", "/api/keys/x/rotate", "POST"}, {"GET", "/api/tokens/x", "DELETE"}, {"GET", "/api/reload", "POST"}, {"OPTIONS", "/api/usage", "GET, HEAD"}, {"TRACE", "/api/usage", "GET, HEAD"},
	} {
		a := w.call(c.method, c.path, "")
		if a.status != 405 || a.header.Get("Allow") != c.allow || !strings.Contains(string(a.body), `"code":"method_not_allowed"`) {
			t.Errorf("%s %s: got %d, Allow %q: %s", c.method, c.path, a.status, a.header.Get("Allow"), a.body)
		}
	}
	for _, path := range []string{"/api/keys", "/api/nothing", "/api/openapi.json"} {
		a := w.call("GET", path, "")
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: headers %v", path, a.header)
		}
	}
}

func TestBodies(t *testing.T) {
	w := newWorld(t)
	big := `{"name":"x","tags":["` + strings.Repeat("a", maxBody) + `"]}`
	if a := w.call("POST", "/api/keys", big); a.status != 413 || !strings.Contains(string(a.body), "request_too_large") {
		t.Errorf("1 MiB and more: %d %s", a.status, a.body)
	}
	fits := `{"name":"x"` + strings.Repeat(" ", maxBody-12) + `}`
	if a := w.call("POST", "/api/keys", fits); a.status != 201 {
		t.Errorf("just 1 MiB: %d %s", a.status, a.body)
	}
	chunked := func(body string) int {
		req, err := http.NewRequest("POST", w.base+"/api/keys", struct{ *strings.Reader }{strings.NewReader(body)})
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = -1
		req.Header.Set("Authorization", "Bearer "+w.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := chunked(big); got != 413 {
		t.Errorf("chunked, too large: %d", got)
	}
	if got := chunked(fits); got != 201 {
		t.Errorf("chunked: %d", got)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(`{"name":"x"}`)); err != nil || z.Close() != nil {
		t.Fatal("can't compress")
	}
	w.refused(415, "unsupported_encoding", "POST", "/api/keys", packed.String(), "Content-Encoding", "gzip")
	w.want(201, "POST", "/api/keys", `{"name":"x"}`, "Content-Type", "application/x-www-form-urlencoded")
	deep := `{"name":"x","limits":` + strings.Repeat(`[`, 20000) + strings.Repeat(`]`, 20000) + `}`
	w.refused(400, "invalid_request", "POST", "/api/keys", deep)
}

// An answer must not be made of the memory of a later request.
func TestNothingOfARequestIsKept(t *testing.T) {
	w := newWorld(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, name := range []string{"aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc", "dddddddddd"} {
		body := `{"name":"` + name + `","tags":["` + name + `"],"models":["` + name + `"]}`
		fmt.Fprintf(conn, "POST /api/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", w.token, len(body), body)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 201 {
			t.Fatalf("%s: %v %v", name, resp, err)
		}
		if _, err := bytes.NewBuffer(nil).ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
	}
	all, err := w.store.AllKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, k := range all {
		names[k.Name] = true
		if k.Tags[0] != k.Name || k.Models[0] != k.Name {
			t.Errorf("key %s has the tags %v and models %v", k.Name, k.Tags, k.Models)
		}
	}
	if len(names) != 4 {
		t.Errorf("kept the names %v", names)
	}
	for _, e := range w.audits() {
		if e.Action == "key.create" && e.From != "127.0.0.1" {
			t.Errorf("from %q", e.From)
		}
	}
}

func TestCallerAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	w := newWorld(t)
	w.config.TrustedProxies = proxies
	for _, hops := range []string{"203.0.113.7", "203.0.113.7:4711", "1.2.3.4, 203.0.113.7, 10.1.1.1:80"} {
		w.want(201, "POST", "/api/keys", `{"name":"x"}`, "X-Forwarded-For", hops)
		if e := w.audits()[0]; e.From != "203.0.113.7" || w.tokens.from.String() != "203.0.113.7" {
			t.Errorf("via %q: audit says %s, the verifier was told %s", hops, e.From, w.tokens.from)
		}
	}
}

// TestSessionsPassAProxyWithAPassword: behind a proxy that asks for a password of
// its own and passes it on, the API answered 401 to the pages, whose links to a
// backup and to CSV lead there.
func TestSessionsPassAProxyWithAPassword(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	unknown, _, err := auth.Mint(auth.Token)
	if err != nil {
		t.Fatal(err)
	}
	for authorization, want := range map[string]int{
		"": 200, "Basic YWRtaW46c2VjcmV0": 200, "Negotiate x": 200, "Bearer": 200, "bearer ": 200,
		"Bearer " + w.token: 200, "Bearer " + unknown: 401, "bearer\t" + unknown: 401, "Bearer x y": 401,
	} {
		for _, path := range []string{"/api/usage?format=csv", "/api/backup"} {
			if a := v.do("GET", path, nil, "Authorization", authorization); a.status != want {
				t.Errorf("%s with %q: got %d, want %d", path, authorization, a.status, want)
			}
		}
	}
	if a := v.do("DELETE", "/api/keys/nobody", nil, "Authorization", "Basic YWRtaW46c2VjcmV0", "Sec-Fetch-Site", "cross-site"); a.status != 403 {
		t.Errorf("a change from another site: %d", a.status)
	}
	if a := v.do("GET", "/metrics", nil, "Authorization", "Basic YWRtaW46c2VjcmV0"); a.status != 401 {
		t.Errorf("the metrics, which take a token: %d", a.status)
	}
	v.cookie = nil
	if a := v.do("GET", "/api/keys", nil, "Authorization", "Basic YWRtaW46c2VjcmV0"); a.status != 401 {
		t.Errorf("without a session: %d", a.status)
	}
}

func TestTokens(t *testing.T) {
	w := newWorld(t)
	v := w.want(201, "POST", "/api/tokens", `{"name":"grafana","read_only":true}`)
	id := v["id"].(string)
	if kind, parsed, ok := auth.Parse(v["token"].(string)); !ok || kind != auth.Token || parsed != id {
		t.Errorf("the token does not belong to the ID %s", id)
	}
	delete(v, "token")
	want := `{"created_at":"2027-03-17T10:30:20.123Z","id":"` + id + `","last_used_at":null,"name":"grafana","prefix":"tha-` + id + `","read_only":true,"revision":1,"status":"active"}`
	if got := text(v); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	list := w.want(200, "GET", "/api/tokens", "")["data"].([]any)
	if len(list) != 2 || text(list[0]) != want || at(list[1], "last_used_at") != "2027-03-17T10:30:20.123Z" {
		t.Errorf("listed %s", text(list))
	}
	if v := w.want(200, "GET", "/api/tokens?limit=1", ""); text(w.want(200, "GET", "/api/tokens?limit=1&cursor="+v["next"].(string), "")["data"]) != text(list[1:]) {
		t.Errorf("the second page is not the second token")
	}
	for range 2 {
		if got := w.want(200, "DELETE", "/api/tokens/tha-"+id, "")["status"]; got != "revoked" {
			t.Errorf("revoked: %v", got)
		}
	}
	if e := w.audits(); e[0].Action != "token.revoke" || e[1].Action != "token.create" || e[1].After != `{"name":"grafana","read_only":true}` {
		t.Errorf("audit: %+v", e[:2])
	}
	for _, bad := range []string{``, `{}`, `{"name":""}`, `{"name":"x","readonly":true}`, `{"name":"x","read_only":"yes"}`, `{"name":"x","name":"x"}`} {
		w.refused(400, "invalid_request", "POST", "/api/tokens", bad)
	}
	w.refused(404, "not_found", "DELETE", "/api/tokens/nobody", "")
}

func TestErrorHandlerNeverQuotesTheRequest(t *testing.T) {
	w := newWorld(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /api/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer tha-secret\r\nbroken\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode < 400 || strings.Contains(b.String(), "secret") || !strings.Contains(b.String(), `"error"`) {
		t.Errorf("got %d %s", resp.StatusCode, b.String())
	}
	for code, want := range map[int]int{400: 400, 404: 404, 405: 405, 413: 413, 431: 431, 408: 408, 500: 500, 503: 500} {
		if got := asError(fiber.NewError(code, "Bearer tha-secret")); got.Status != want || strings.Contains(got.Message, "secret") {
			t.Errorf("%d: got %d %s", code, got.Status, got.Message)
		}
	}
}
