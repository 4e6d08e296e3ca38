package ui

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"tokenhub/auth"
	"tokenhub/db"
)

func TestProviders(t *testing.T) {
	w := newWorld(t)
	w.gateway.states = []ProviderState{{Name: "openai", Status: "resting", Models: []string{"gpt-4o"}, ModelsAt: start, Running: 2, Waiting: 1,
		FirstByte: 350 * time.Millisecond, ErrorRate: 0.25, LastError: "timeout", LastErrorAt: start, RestsUntil: start.Add(time.Minute)}}
	id, _ := w.key(`{"name":"x"}`)
	w.settle(id, "gpt-4o", "gpt-4o", "openai", 1, 1, 2_500_000, 200)
	v := w.want(200, "GET", "/api/providers", "")
	want := `[{"base_url":"https://api.openai.com/v1","error_rate":0.25,"first_byte_ms":350,"held_usd":0,"last_error":"timeout","last_error_at":"2027-03-17T10:30:20.123Z","max_concurrency":4,` +
		`"models":["gpt-4o"],"models_at":"2027-03-17T10:30:20.123Z","monthly_usd":50,"name":"openai","rests_until":"2027-03-17T10:31:20.123Z","running":2,"spent_usd":2.5,"status":"resting","waiting":1},` +
		`{"base_url":"http://127.0.0.1:11434/v1","error_rate":0,"first_byte_ms":null,"held_usd":0,"last_error":null,"last_error_at":null,"max_concurrency":null,` +
		`"models":[],"models_at":null,"monthly_usd":null,"name":"ollama","rests_until":null,"running":0,"spent_usd":0,"status":"unknown","waiting":0}]`
	if got := text(v["data"]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	w.gateway.result = TestResult{OK: true, Model: "gpt-4o-mini", Status: 200, Latency: 420 * time.Millisecond, Usage: db.Usage{Input: 8, Output: 1}, Cost: 3}
	v = w.want(200, "POST", "/api/providers/openai/test", "")
	if got := text(v); got != `{"cache_write_tokens":0,"cached_input_tokens":0,"cost_usd":0.000003,"error":null,"input_tokens":8,"latency_ms":420,"model":"gpt-4o-mini","ok":true,"output_tokens":1,"provider":"openai","reasoning_tokens":0,"status":200}` {
		t.Errorf("got %s", got)
	}
	w.gateway.result = TestResult{Error: "connection refused", Cost: db.UnknownCost}
	if v = w.want(200, "POST", "/api/providers/openai/test", "{}"); v["ok"] != false || v["error"] != "connection refused" || v["status"] != nil || v["cost_usd"] != nil {
		t.Errorf("got %s", text(v))
	}
	if got := w.refused(404, "not_found", "POST", "/api/providers/opnai/test", ""); !strings.Contains(got, "openai, ollama") {
		t.Errorf("got %s", got)
	}
	w.refused(400, "invalid_request", "POST", "/api/providers/openai/test", `{"model":"x"}`)
	w.gateway.err = errors.New("boom")
	w.refused(500, "internal_error", "POST", "/api/providers/openai/test", "")
}

func TestExplain(t *testing.T) {
	w := newWorld(t)
	id, _ := w.key(`{"name":"x"}`)
	if v := w.want(200, "GET", "/api/explain?key=x&model=gpt-4o&max_tokens=100", ""); v["provider"] != "openai" {
		t.Errorf("got %s", text(v))
	}
	q := w.gateway.asked
	if q.Key.ID != id || q.Model != "gpt-4o" || q.MaxTokens != 100 || q.Endpoint != "/v1/chat/completions" || !q.Time.Equal(start) {
		t.Errorf("asked %+v", q)
	}
	for _, bad := range []string{"", "key=x", "model=y", "key=x&model=y&max_tokens=0", "key=x&model=y&max_tokens=many", "key=x&model=y&endpoint=/api/keys", "key=x&model=y&tokens=1"} {
		w.refused(400, "invalid_request", "GET", "/api/explain?"+bad, "")
	}
	w.refused(404, "not_found", "GET", "/api/explain?key=nobody&model=y", "")
}

func TestWithoutAServer(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Gateway, o.Reload = nil, nil })
	w.key(`{"name":"x"}`)
	data := w.want(200, "GET", "/api/providers", "")["data"].([]any)
	if len(data) != 2 || at(data[0], "status") != "unknown" || text(at(data[0], "models")) != `["gpt-*"]` {
		t.Errorf("providers: %s", text(data))
	}
	for _, c := range [][2]string{{"POST", "/api/providers/openai/test"}, {"GET", "/api/explain?key=x&model=y"}, {"POST", "/api/reload"}} {
		if got := w.refused(503, "not_running", c[0], c[1], ""); !strings.Contains(got, "tokenhub serve") {
			t.Errorf("%s: %s", c[1], got)
		}
	}
}

func TestReload(t *testing.T) {
	var fail error
	w := newWorld(t, func(o *Options) {
		good := o.Reload
		o.Reload = func(ctx context.Context) ([]string, error) {
			if fail != nil {
				return nil, fail
			}
			return good(ctx)
		}
	})
	if got := text(w.want(200, "POST", "/api/reload", "")); got != `{"changes":["providers: added ollama"]}` {
		t.Errorf("got %s", got)
	}
	if e := w.audits()[0]; e.Action != "config.reload" || e.After != `{"changes":["providers: added ollama"]}` || e.Actor != "token:ops" {
		t.Errorf("audit: %+v", e)
	}
	entries := len(w.audits())
	fail = errors.New("config.toml:3: unknown field colour")
	if got := w.refused(400, "invalid_configuration", "POST", "/api/reload", ""); !strings.Contains(got, "config.toml:3: unknown field colour") {
		t.Errorf("got %s", got)
	}
	if len(w.audits()) != entries {
		t.Errorf("a reload that failed is in the audit trail")
	}
}

func TestBackup(t *testing.T) {
	w := newWorld(t)
	w.key(`{"name":"x"}`)
	a := w.call("GET", "/api/backup", "")
	if a.status != 200 || len(a.body) == 0 || a.header.Get("Content-Type") != "application/octet-stream" || a.header.Get("Content-Disposition") != `attachment; filename="tokenhub-20270317-103020.db"` {
		t.Errorf("got %d, %d bytes, %v", a.status, len(a.body), a.header)
	}
	if e := w.audits()[0]; e.Action != "backup.create" {
		t.Errorf("audit: %+v", e)
	}
	entries := len(w.audits())
	if a := w.call("HEAD", "/api/backup", ""); a.status != 200 || len(w.audits()) != entries {
		t.Errorf("HEAD made a backup (%d)", a.status)
	}
	files, err := os.ReadDir(w.config.DataDir)
	if err != nil || len(files) != 0 {
		t.Errorf("left in the data folder: %v %v", files, err)
	}
	w.admin.copying.Lock()
	w.refused(409, "conflict", "GET", "/api/backup", "")
	w.admin.copying.Unlock()
	w.config.DataDir += "/gone"
	a = w.call("GET", "/api/backup", "")
	if a.status != 500 || a.header.Get("Content-Disposition") != "" || strings.Contains(string(a.body), "gone") {
		t.Errorf("without a folder: %d %s", a.status, a.body)
	}
}

func TestAdminPassword(t *testing.T) {
	w := newWorld(t)
	stored := func() string {
		v, err := w.store.Setting(t.Context(), "admin.password")
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	w.want(200, "PUT", "/api/admin/password", `{"password":"correct horse"}`)
	phc := stored()
	if err := auth.ValidPHC(phc); err != nil {
		t.Errorf("stored: %v", err)
	}
	if e := w.audits()[0]; e.Action != "admin.password" || e.Before+e.After != "" {
		t.Errorf("audit: %+v", e)
	}
	w.want(200, "PUT", "/api/admin/password", `{"password":"zehn Zeichen ü"}`)
	if stored() == phc {
		t.Errorf("the password was not replaced")
	}
	w.want(200, "PUT", "/api/admin/password", `{"password":"`+phc+`"}`)
	if stored() != phc {
		t.Errorf("a PHC string was not taken as it is")
	}
	for _, bad := range []string{``, `{}`, `{"password":null}`, `{"password":"too short"}`, `{"password":"` + strings.Repeat("x", 1025) + `"}`, `{"password":"$argon2id$v=19$m=1,t=1,p=1$x$y"}`, `{"password":"correct horse","user":"admin"}`} {
		w.refused(400, "invalid_request", "PUT", "/api/admin/password", bad)
	}
	if stored() != phc {
		t.Errorf("a refused password was stored")
	}
}

// TestSessionsChangeNoPasswordUnasked: the form asks for the current password, so
// that nobody takes over what was left open, but a script of a line did not.
func TestSessionsChangeNoPasswordUnasked(t *testing.T) {
	w := newWorld(t)
	v := w.pages()
	w.base = v.base
	cookie := v.cookie.Name + "=" + v.cookie.Value
	got := w.refused(403, "permission_denied", "PUT", "/api/admin/password", `{"password":"another horse"}`, "Authorization", "", "Cookie", cookie, "Sec-Fetch-Site", "same-origin")
	if !strings.Contains(got, "Settings") {
		t.Errorf("nobody is told where it can be changed: %s", got)
	}
	if err := w.admin.password.Check(t.Context(), adminPassword, netip.Addr{}); err != nil {
		t.Errorf("the old password: %v", err)
	}
	w.want(200, "PUT", "/api/admin/password", `{"password":"another horse"}`, "Cookie", cookie)
}

func TestHealth(t *testing.T) {
	var down error
	w := newWorld(t, func(o *Options) { o.Ready = func(context.Context) error { return down } })
	down = errors.New("disk full")
	token := w.token
	w.token = ""
	if a := w.call("GET", "/healthz", ""); a.status != 200 || string(a.body) != `{"status":"ok"}` {
		t.Errorf("healthz: %d %s", a.status, a.body)
	}
	if a := w.call("GET", "/readyz", ""); a.status != 503 || strings.Contains(string(a.body), "disk") || !strings.Contains(w.log.String(), "disk full") {
		t.Errorf("readyz while down: %d %s", a.status, a.body)
	}
	down = nil
	if a := w.call("GET", "/readyz", ""); a.status != 200 {
		t.Errorf("readyz: %d", a.status)
	}
	w.token = token
	if a := w.call("GET", "/metrics", ""); a.status != 200 || string(a.body) != "tokenhub_up 1\n" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		t.Errorf("metrics: %d %s", a.status, a.body)
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Reload = func(context.Context) ([]string, error) { panic("a bug") } })
	w.refused(500, "internal_error", "POST", "/api/reload", "")
	if !strings.Contains(w.log.String(), "a bug") {
		t.Errorf("not logged: %s", w.log)
	}
	w.want(200, "GET", "/api/keys", "")
}
