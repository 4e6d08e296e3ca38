package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// canaries are the secrets of one server, each of them unlike any other text.
type canaries struct {
	t       *testing.T
	secrets map[string]string // by what it is
}

// search fails the test if any secret stands in a text.
func (c *canaries) search(where string, text []byte) {
	c.t.Helper()
	for what, secret := range c.secrets {
		if i := bytes.Index(text, []byte(secret)); i >= 0 {
			c.t.Errorf("%s is in %s: …%q", what, where, text[max(0, i-60):min(len(text), i+20)])
		}
	}
}

// No secret stands anywhere but where it belongs: not in the log at its finest
// level, not in an error, metric, report, audit trail or API answer, not in the
// configuration as it is shown, not in the data folder nor in a backup.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	c := &canaries{t: t, secrets: map[string]string{
		"the provider's credential":    "sk-canary-provider-7731",
		"a header's secret":            "canary-header-7732",
		"an alert target's secret":     "canary-alert-7733",
		"the admin's password":         "canary password 7734",
		"a dead provider's credential": "sk-canary-dead-7735",
	}}
	for name, secret := range map[string]string{"CANARY_PROVIDER": "the provider's credential", "CANARY_HEADER": "a header's secret",
		"CANARY_DEAD": "a dead provider's credential", "CANARY_ALERT": ""} {
		value := c.secrets[secret]
		if secret == "" {
			value = "generic+http://127.0.0.1:1/canary-alert-7733?token=canary-alert-7733"
		}
		t.Setenv(name, value)
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(c.secrets["the admin's password"]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProvider(t, func(w http.ResponseWriter, r *http.Request, body []byte) {
		if r.Header.Get("Authorization") != "Bearer sk-canary-provider-7731" || r.Header.Get("X-Extra") != "canary-header-7732" {
			t.Errorf("the provider got %v", r.Header)
		}
		switch {
		case bytes.Contains(body, []byte("fail")):
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"error":{"message":"no"}}`)
		case bytes.Contains(body, []byte("cut")):
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "short")
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"choices":[],"usage":{"prompt_tokens":300,"completion_tokens":120,"total_tokens":420}}`)
		}
	})
	config := fmt.Sprintf(`
[log]
level = "trace"
[alerts]
urls = ["env:CANARY_ALERT"]
[[providers]]
name = "good"
base_url = "%s/v1"
api_key = "env:CANARY_PROVIDER"
headers = { X-Extra = "env:CANARY_HEADER" }
models = ["gpt-*"]
[[providers]]
name = "dead"
base_url = "http://127.0.0.1:1/v1"
api_key = "env:CANARY_DEAD"
models = ["dead-*"]
[[prices]]
model = "*"
input = 1.0
`, p.URL)
	t.Setenv("KEEP_TOKENHUB_ADMIN_PASSWORD_FILE", password) // see plainEnvironment
	h := startHub(t, config)

	key := h.key(t, "canary", "--total-tokens", "2000")
	token := h.run(t, "admin", "token", "create", "--name", "canary", "--quiet")
	c.secrets["the secret of a key"] = key[13:]
	c.secrets["the secret of a token"] = token[14:]
	other := h.key(t, "rotated")
	rotated := h.run(t, "keys", "rotate", "rotated", "--quiet", "--grace", "1h")
	c.secrets["the old secret of a key"], c.secrets["the new secret of a key"] = other[13:], rotated[13:]
	wrong := key[:len(key)-1] + "x"
	if wrong == key {
		wrong = key[:len(key)-1] + "y"
	}
	c.secrets["a wrong key"] = wrong[13:]

	// Every kind of call, good and bad; what comes back is searched too.
	for _, call := range []struct{ method, path, credential, body string }{
		{"POST", "/v1/chat/completions", key, plainChat},
		{"POST", "/v1/chat/completions", key, strings.Replace(plainChat, "hi", "fail", 1)},
		{"POST", "/v1/chat/completions", key, strings.Replace(plainChat, "hi", "cut", 1)},
		{"POST", "/v1/chat/completions", key, strings.Replace(plainChat, "gpt-4o-mini", "dead-model", 1)},
		{"POST", "/v1/chat/completions", key, strings.Replace(plainChat, "gpt-4o-mini", "nobody", 1)},
		{"POST", "/v1/chat/completions", key, `{"model":`},
		{"POST", "/v1/chat/completions", wrong, plainChat},
		{"POST", "/v1/chat/completions", token, plainChat},
		{"POST", "/v1/chat/completions?key=" + key, key, plainChat},
		{"POST", "/v1/../" + key, key, plainChat},
		{"GET", "/v1/key", key, ""},
		{"GET", "/v1/models", key, ""},
		{"GET", "/v1/files", key, ""},
		{"GET", "/api/keys", token, ""},
		{"GET", "/api/keys", key, ""},
		{"GET", "/api/keys", "", ""},
		{"GET", "/api/tokens", token, ""},
		{"GET", "/api/audit", token, ""},
		{"GET", "/api/requests", token, ""},
		{"GET", "/api/usage", token, ""},
		{"GET", "/api/providers", token, ""},
		{"POST", "/api/providers/good/test", token, ""},
		{"POST", "/api/providers/dead/test", token, ""},
		{"GET", "/api/explain?key=canary&model=gpt-4o-mini", token, ""},
		{"GET", "/api/backup", token, ""},
		{"GET", "/api/openapi.json", token, ""},
		{"PATCH", "/api/keys/canary", token, `{"name":"` + key + `x","tags":[5]}`},
		{"GET", "/metrics", token, ""},
		{"GET", "/readyz", "", ""},
		{"GET", "/", "", ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), call.method, h.url+call.path, strings.NewReader(call.body))
		if err != nil {
			t.Fatal(err)
		}
		if call.credential != "" {
			req.Header.Set("Authorization", "Bearer "+call.credential)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body) // one breaks off
		resp.Body.Close()
		c.search(call.method+" "+call.path, text)
		c.search("the headers of "+call.path, fmt.Append(nil, resp.Header))
	}
	// The admin in a browser; the session is a secret too.
	in, _ := h.visit(t, "POST", "/sign-in", url.Values{"password": {c.secrets["the admin's password"]}}.Encode(),
		"Content-Type", "application/x-www-form-urlencoded", "Origin", h.url, "Sec-Fetch-Site", "same-origin")
	if len(in.Cookies()) != 1 {
		t.Fatalf("signing in was answered %d with %v", in.StatusCode, in.Cookies())
	}
	session := in.Cookies()[0].Name + "=" + in.Cookies()[0].Value
	c.secrets["the session"] = in.Cookies()[0].Value
	for _, path := range []string{"/", "/keys", "/keys/canary", "/keys/new", "/usage", "/requests", "/providers", "/connect", "/audit", "/settings", "/api/keys", "/api/audit"} {
		resp, text := h.visit(t, "GET", path, "", "Cookie", session)
		c.search("the page "+path, []byte(text))
		c.search("the headers of the page "+path, fmt.Append(nil, resp.Header))
	}
	h.visit(t, "POST", "/sign-in", url.Values{"password": {"wrong" + c.secrets["the admin's password"]}}.Encode(),
		"Content-Type", "application/x-www-form-urlencoded", "Origin", h.url, "Sec-Fetch-Site", "same-origin")
	for _, args := range [][]string{{"config", "show"}, {"config", "show", "--json"}, {"config", "check"}, {"keys", "list", "--json"}, {"keys", "show", "canary"},
		{"usage", "--json"}, {"providers", "list", "--json"}, {"explain", "--key", "canary", "--model", "gpt-4o-mini"}, {"admin", "token", "list", "--json"}} {
		c.search("tokenhub "+strings.Join(args, " "), []byte(h.run(t, args...)))
	}
	// A reload of a file that is wrong right beside its secrets.
	bad := strings.Replace(config, `api_key = "env:CANARY_DEAD"`, `api_key = sk-canary-dead-7735`, 1)
	file, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.config, []byte(strings.Replace(string(file), config, bad, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, args := range [][]string{{"reload"}, {"config", "check"}} {
		cmd := exec.CommandContext(ctx, binary, append(args, "--config", h.config)...)
		cmd.Env = plainEnvironment()
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%v took a wrong configuration", args)
		}
		c.search("tokenhub "+args[0], out)
	}
	c.search("the log", []byte(h.log.String()))
	if !strings.Contains(h.log.String(), "request") {
		t.Error("the log is empty")
	}
	folder := filepath.Join(filepath.Dir(h.config), "data")
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		text, err := os.ReadFile(path)
		c.search(path, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a crash prints names functions and addresses, and holds nothing of what
// was in memory.
func TestCrashShowsNoSecret(t *testing.T) {
	v := newVictim(t)
	file := filepath.Join(v.dir, "config.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := &canaries{t: t, secrets: map[string]string{"the provider's credential": "sk-canary-crash-7736"}}
	if err := os.WriteFile(file, append(text, "api_key = \"sk-canary-crash-7736\"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	v.start(t)
	var k apiKey
	if err := v.api("POST", "/api/keys", map[string]any{"name": "k"}, &k); err != nil {
		t.Fatal(err)
	}
	c.secrets["the secret of a key"] = k.Key[13:]
	c.secrets["the text of a prompt"] = "canary prompt 7737"
	body := strings.Replace(plainChat, "hi", "canary prompt 7737", 1)
	if status, _, text := (&hub{url: "http://" + v.address}).chat(t, k.Key, body); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if err := v.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	if err := v.cmd.Wait(); err == nil {
		t.Error("it ended as if nothing had been")
	}
	if !strings.Contains(v.log.String(), "goroutine ") {
		t.Errorf("it printed no goroutines: %.500s", v.log)
	}
	c.search("what the crash printed", []byte(v.log.String()))
}
