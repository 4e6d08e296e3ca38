package cli

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tokenhub/config"
)

func TestUsage(t *testing.T) {
	const rows = `{"data":[` +
		`{"key":"3kTMd9QwZa","key_name":"laptop","requests":10,"errors":1,"input_tokens":1000,"output_tokens":200,"cached_input_tokens":50,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":0.1,"estimated_requests":1,"unpriced_requests":0},` +
		`{"key":"0000000000","key_name":"ci","requests":5,"errors":0,"input_tokens":10,"output_tokens":2,"cached_input_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":0.2,"estimated_requests":0,"unpriced_requests":2},` +
		`{"key":"1111111111","key_name":"","requests":5,"errors":0,"input_tokens":10,"output_tokens":2,"cached_input_tokens":0,"cache_write_tokens":0,"reasoning_tokens":0,"cost_usd":0,"estimated_requests":0,"unpriced_requests":5}` +
		`],"next":null}`
	f := newFixture(t, map[string]answer{"GET /api/usage?group_by=key": {body: rows}}).online()
	f.run("usage").want(t, 0, `KEY                  REQUESTS  ERRORS  INPUT  CACHED  OUTPUT       USD
laptop (3kTMd9QwZa)        10       1   1000      50     200       0.1
ci (0000000000)             5       0     10       0       2  over 0.2
1111111111                  5       0     10       0       2   unknown
in all                     20       1   1020      50     204  over 0.3

Some models have no price, so their cost is unknown: give them one in [[prices]].

Some answers ended early or came without usage: their tokens are estimated.
`, "")
	if got := f.run("usage", "--json"); !strings.HasPrefix(got.stdout, "[\n  {\n    \"key\": \"3kTMd9QwZa\",") {
		t.Errorf("printed %s", got.stdout)
	}
}

func TestUsageQueries(t *testing.T) {
	tests := []struct{ args, asked string }{
		{"--by key,model --since 7d", "/api/usage?from=2027-01-08T12%3A00%3A00Z&group_by=key%2Cmodel"},
		{"--by day --from 2027-01-01 --to 2027-02-01", "/api/usage?from=2027-01-01&group_by=day&to=2027-02-01"},
		{"--by tag --key laptop --model house --provider openai", "/api/usage?group_by=tag&key=laptop&model=house&provider=openai"},
	}
	for _, test := range tests {
		f := newFixture(t, map[string]answer{"GET " + test.asked: {body: `{"data":[],"next":null}`}}).online()
		args := append([]string{"usage"}, strings.Fields(test.args)...)
		f.run(args...).want(t, 0, "Nothing was used in this time.\n", "")
		f.wantAsked("GET " + test.asked)
		f.api.answers["GET "+test.asked] = answer{body: "requests,errors\n"}
		f.run(append(args, "--csv")...).want(t, 0, "requests,errors\n", "")
	}
}

func TestExplain(t *testing.T) {
	const asked = "/api/explain?key=laptop&max_tokens=100&model=gpt-4o"
	f := newFixture(t, map[string]answer{"GET " + asked: {body: `{"allowed":true,"provider":"openai","reason":null,` +
		`"price":{"input":2.5,"output":10},"limits":[{"limit":"monthly_usd","left":14.75}],"tried":["openai","ollama"],"fallbacks":[]}`}}).online()
	f.run("explain", "--key", "laptop", "--model", "gpt-4o", "--max-tokens", "100").want(t, 0, `allowed: yes
provider: openai
price:
  input: 2.5
  output: 10
limits:
  1.
     limit: monthly_usd
     left: 14.75
tried: openai, ollama
`, "")
	f.wantAsked("GET " + asked)
}

func TestProviders(t *testing.T) {
	f := newFixture(t, map[string]answer{
		"GET /api/providers": {body: `{"data":[` +
			`{"name":"openai","status":"ok","models":["a","b","c","d","e","f","g"],"running":2,"waiting":0,"first_byte_ms":350,"error_rate":0.25,"last_error":"answered 500","last_error_at":"2027-01-15T11:00:00.000Z","spent_usd":1.5},` +
			`{"name":"ollama","status":"unknown","models":[],"running":0,"waiting":0,"first_byte_ms":null,"error_rate":0,"last_error":null,"last_error_at":null,"spent_usd":0}],"next":null}`},
		"POST /api/providers/openai/test": {body: `{"provider":"openai","ok":true,"model":"a","status":200,"latency_ms":812,"cost_usd":0.000012,"error":null}`},
		"POST /api/providers/ollama/test": {body: `{"provider":"ollama","ok":false,"model":"","status":null,"latency_ms":1,"cost_usd":null,"error":"connection refused"}`},
	}).online()
	f.run("providers", "list").want(t, 0, `NAME    STATUS   RUNNING  WAITING  FIRST BYTE  ERRORS  MONTH: USD  MODELS
openai  ok             2        0      350 ms    25 %         1.5  a, b, c, d, e and 2 more
ollama  unknown        0        0           -     0 %           0  -

openai failed last at 2027-01-15 11:00: answered 500
`, "")
	f.run("providers", "list", "--quiet").want(t, 0, "openai\nollama\n", "")
	f.run("providers", "test", "openai").want(t, 0, "openai works: a answered in 812 ms, 0.000012 USD\n", "")
	f.run("providers", "test").want(t, 1, "openai works: a answered in 812 ms, 0.000012 USD\nollama fails: connection refused\n", "1 of 2 failed")
}

func TestBackup(t *testing.T) {
	f := newFixture(t, map[string]answer{"GET /api/backup": {body: "the data"}}).online()
	file := filepath.Join(f.dir, "b.db")
	f.run("backup", file).want(t, 0, "Wrote "+file+" (0.0 KiB).\n", "")
	text, err := os.ReadFile(file)
	info, statErr := os.Stat(file)
	if err != nil || statErr != nil || string(text) != "the data" || info.Mode().Perm() != 0o600 {
		t.Errorf("wrote %q, %v, %v", text, err, info)
	}
	f.run("backup", file).want(t, 1, "", "exists: choose another name, or replace it with --force")
	f.run("backup", file, "--force", "--quiet").want(t, 0, "", "")
	f.run("backup", f.dir).want(t, 2, "", "is a folder")
	f.run("backup", "-").want(t, 0, "the data", "")
	f.run("backup", filepath.Join(f.dir, "none", "b.db")).want(t, 1, "", "no such file or directory")
}

// An answer that breaks off leaves no file, and an older one as it was.
func TestBackupBreaksOff(t *testing.T) {
	f := newFixture(t, nil)
	f.data()
	f.o.Open = func(context.Context, *config.Config) (Offline, error) { return cutOff{}, nil }
	file := f.write("b.db", "older")
	f.run("backup", "--force", file).want(t, 1, "", "write the backup: unexpected EOF")
	if text, _ := os.ReadFile(file); string(text) != "older" {
		t.Errorf("the older backup is %q now", text)
	}
	if left, _ := filepath.Glob(file + ".*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	f.write("b.db.tmp", "")
	f.run("backup", "--force", file).want(t, 1, "", "b.db.tmp exists: another backup is being written")
}

// cutOff is an API whose answers end early.
type cutOff struct{}

func (cutOff) Close() error { return nil }

func (cutOff) Client() *http.Client {
	return &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: shortBody{strings.NewReader("half of")}}, nil
	})}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (r roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

type shortBody struct{ *strings.Reader }

func (shortBody) Close() error { return nil }

func (b shortBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		err = errors.New("unexpected EOF")
	}
	return n, err
}

func (b shortBody) WriteTo(w interface{ Write([]byte) (int, error) }) (int64, error) {
	n, err := b.Reader.WriteTo(w)
	if err == nil {
		err = errors.New("unexpected EOF")
	}
	return n, err
}

func TestRestoreAndCheck(t *testing.T) {
	f := newFixture(t, nil)
	f.data()
	restored := ""
	f.o.Restore = func(_ context.Context, cfg *config.Config, file string) error {
		restored = file + " into " + cfg.DataDir
		return nil
	}
	f.run("restore", "b.db").want(t, 0, "Restored b.db into "+filepath.Join(f.dir, "data")+".\n", "")
	if restored != "b.db into "+filepath.Join(f.dir, "data") {
		t.Errorf("restored %q", restored)
	}
	f.run("check").want(t, 0, "checked\n", "")
	f.run("check", "b.db").want(t, 0, "checked b.db\n", "")

	restored = ""
	f.online()
	f.run("restore", "b.db").want(t, 1, "", "a server runs on "+filepath.Join(f.dir, "data")+": stop it before restoring")
	f.run("check").want(t, 1, "", "write a backup with tokenhub backup FILE and run tokenhub check FILE")
	f.run("check", "b.db").want(t, 0, "checked b.db\n", "")
	if restored != "" {
		t.Errorf("restored %q under a running server", restored)
	}
	f.o.Check = func(context.Context, *config.Config, string) (string, error) {
		return "", errors.New("page 7 is damaged")
	}
	f.run("check", "b.db").want(t, 1, "", "page 7 is damaged")
}

func TestPassword(t *testing.T) {
	answers := map[string]answer{"PUT /api/admin/password": {body: "{}"}}
	for stdin, asked := range map[string]string{
		"correct horse\n":              `{"password":"correct horse"}`,
		"correct horse":                `{"password":"correct horse"}`,
		" spaces stay \r\nsecond line": `{"password":" spaces stay "}`,
	} {
		f := newFixture(t, answers).online()
		f.stdin = strings.NewReader(stdin)
		f.run("admin", "password").want(t, 0, "The admin password is set.\n", "")
		f.wantAsked("PUT /api/admin/password " + asked)
	}
	for stdin, stderr := range map[string]string{"": "no password was given", "\n": "no password was given", "short\n": "too short: it takes at least 10"} {
		f := newFixture(t, answers).online()
		f.stdin = strings.NewReader(stdin)
		f.run("admin", "password").want(t, 2, "", stderr)
		f.wantAsked()
	}
}

func TestPasswordFromTerminal(t *testing.T) {
	f := newFixture(t, map[string]answer{"PUT /api/admin/password": {body: "{}"}}).online()
	typed := []string{"correct horse", "correct horse", "correct horse", "correct house"}
	f.o.Password = func(context.Context, string) (string, error) {
		next := typed[0]
		typed = typed[1:]
		return next, nil
	}
	f.run("admin", "password", "--quiet").want(t, 0, "", "")
	f.run("admin", "password").want(t, 1, "", "the two are not the same")
	f.wantAsked(`PUT /api/admin/password {"password":"correct horse"}`)
}

func TestTokens(t *testing.T) {
	const one = `{"id":"3kTMd9QwZa","prefix":"tha-3kTMd9QwZa","name":"grafana","status":"active","read_only":true,"created_at":"2027-01-01T08:00:00.000Z","last_used_at":null,"revision":1`
	f := newFixture(t, map[string]answer{
		"POST /api/tokens":              {201, one + `,"token":"tha-secret"}`},
		"GET /api/tokens?limit=500":     {body: `{"data":[` + one + `}],"next":null}`},
		"DELETE /api/tokens/3kTMd9QwZa": {body: one + `}`},
	}).online()
	f.run("admin", "token", "create", "--name", "grafana", "--read-only", "--quiet").want(t, 0, "tha-secret\n", "")
	f.run("admin", "token", "list").want(t, 0, `ID          NAME     MAY   STATUS  CREATED           LAST USED
3kTMd9QwZa  grafana  read  active  2027-01-01 08:00  never
`, "")
	f.run("admin", "token", "list", "--quiet").want(t, 0, "3kTMd9QwZa\n", "")
	f.run("admin", "token", "revoke", "3kTMd9QwZa").want(t, 0, "Revoked the admin token grafana (ID 3kTMd9QwZa).\n", "")
	f.wantAsked(
		`POST /api/tokens {"name":"grafana","read_only":true}`,
		"GET /api/tokens?limit=500", "GET /api/tokens?limit=500", "DELETE /api/tokens/3kTMd9QwZa",
	)
}

func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			t.Errorf("asked for %s", r.URL)
		}
		w.WriteHeader(status)
	})
	server := httptest.NewServer(handler)
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	_, port, _ := strings.Cut(address, ":")

	f := newFixture(t, nil)
	f.env["TOKENHUB_LISTEN"] = address
	f.run("healthcheck").want(t, 0, "The server is alive.\n", "")
	f.env["TOKENHUB_LISTEN"] = "0.0.0.0:" + port
	f.run("healthcheck", "--quiet").want(t, 0, "", "")
	f.env["TOKENHUB_LISTEN"] = "127.0.0.1:1"
	f.run("healthcheck").want(t, 1, "", "http://127.0.0.1:1/healthz does not answer")
	f.run("healthcheck", "--listen", ":"+port).want(t, 0, "The server is alive.\n", "")
	status = http.StatusServiceUnavailable
	f.run("healthcheck", "--listen", ":"+port).want(t, 1, "", "/healthz answers 503 Service Unavailable")
}

func TestHealthcheckTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	if err := alive(t.Context(), &config.Config{Listen: server.Listener.Addr().String(), TLSCert: "cert.pem"}); err != nil {
		t.Error(err)
	}
}

func TestConfigCommands(t *testing.T) {
	f := newFixture(t, nil)
	f.run("config", "check").want(t, 0, "There is no configuration file: the defaults and the environment are good.\n", "")
	file := f.write("config.toml", "[[providers]]\nname = \"a\"\nbase_url = \"https://a.example/v1\"\napi_key = \"sk-canary\"\n")
	f.run("config", "check").want(t, 0, file+" is good.\n", "")
	for _, args := range [][]string{{"config", "show"}, {"config", "show", "--json"}} {
		got := f.run(args...)
		if got.code != 0 || strings.Contains(got.stdout, "canary") || !strings.Contains(got.stdout, "a.example") {
			t.Errorf("%q: code %d, printed %s", args, got.code, got.stdout)
		}
	}
}

func TestPricesImport(t *testing.T) {
	f := newFixture(t, nil)
	f.run("prices", "import", "p.json").want(t, 0, "imported p.json\n", "")
}

func TestProgress(t *testing.T) {
	var shown bytes.Buffer
	f := newFixture(t, nil)
	p := &progress{r: strings.NewReader("1234"), to: &shown, now: f.o.Now}
	var got bytes.Buffer
	if _, err := got.ReadFrom(p); err != nil || got.String() != "1234" {
		t.Errorf("read %q, %v", got.String(), err)
	}
	if shown.String() != "\r0.0 KiB \r\x1b[K" {
		t.Errorf("showed %q", shown.String())
	}
}
