package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPrecedence(t *testing.T) {
	path := write(t, "listen = \":1\"\ndrain = \"1s\"\ntimezone = \"UTC\"\n[log]\nlevel = \"warn\"\n")
	src := Source{
		Path:      path,
		Getenv:    env("TOKENHUB_LISTEN", ":2", "TOKENHUB_LOG_LEVEL", "error", "TOKENHUB_DRAIN", "", "TOKENHUB_UNKNOWN", "1"),
		Overrides: Overrides{Listen: ":3"},
	}
	c, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":3" || c.Log.Level != "error" || c.Drain != time.Second || c.MaxBody != 64<<20 {
		t.Errorf("got listen %s, log.level %s, drain %s, max_body %d; want those of flag, variable, file, default",
			c.Listen, c.Log.Level, c.Drain, c.MaxBody)
	}
}

// TestVariables sets every variable there is.
func TestVariables(t *testing.T) {
	dir := t.TempDir()
	c, err := Load(Source{Dir: dir, Getenv: env(
		"TOKENHUB_LISTEN", ":1", "TOKENHUB_ADMIN_LISTEN", ":2", "TOKENHUB_DATA_DIR", "d", "TOKENHUB_BASE_URL", "https://h/x/",
		"TOKENHUB_TRUSTED_PROXIES", "10.1.2.3/8, ::1,::ffff:1.2.3.4", "TOKENHUB_CORS_ORIGINS", "*", "TOKENHUB_TIMEZONE", "UTC",
		"TOKENHUB_MAX_BODY", "1KiB", "TOKENHUB_DRAIN", "2s", "TOKENHUB_LOG_LEVEL", "debug", "TOKENHUB_LOG_FORMAT", "json",
		"TOKENHUB_USAGE_KEEP_REQUESTS", "1d", "TOKENHUB_USAGE_KEEP_ROLLUPS", "2d", "TOKENHUB_USAGE_KEEP_AUDIT", "0s",
		"TOKENHUB_BACKUP_EVERY", "1h", "TOKENHUB_BACKUP_KEEP", "3", "TOKENHUB_BACKUP_DIR", "b",
		"TOKENHUB_ALERTS_URLS", "env:URL,ntfy://h/t", "URL", "ntfy://secret", "TOKENHUB_ALERTS_AT", "90,50",
		"TOKENHUB_ROUTING_STRATEGY", "cost", "TOKENHUB_ROUTING_RETRIES", "0", "TOKENHUB_ROUTING_FALLBACK_ON", "429",
		"TOKENHUB_ROUTING_AUTO", "a,b",
	)})
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Listen: ":1", AdminListen: ":2", DataDir: filepath.Join(dir, "d"), BaseURL: "https://h/x",
		TrustedProxies: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("1.2.3.4/32"),
		},
		CORSOrigins: []string{"*"}, Timezone: time.UTC, MaxBody: 1024, Drain: 2 * time.Second,
		Log:     Log{Level: "debug", Format: "json"},
		Usage:   Usage{KeepRequests: day, KeepRollups: 2 * day},
		Backup:  Backup{Every: time.Hour, Keep: 3, Dir: filepath.Join(dir, "b")},
		Alerts:  Alerts{URLs: []Secret{"ntfy://secret", "ntfy://h/t"}, At: []int{50, 90}},
		Routing: Routing{Strategy: "cost", FallbackOn: []string{"429"}, Auto: []string{"a", "b"}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c, want)
	}
}

func TestVariableProblems(t *testing.T) {
	_, err := Load(Source{Dir: t.TempDir(), Getenv: env(
		"TOKENHUB_BACKUP_KEEP", "x", "TOKENHUB_ALERTS_AT", "1,x", "TOKENHUB_DRAIN", "5", "TOKENHUB_TLS_CERT", "c",
		"OPENAI_API_KEY", "sk-CANARY\nCANARY", "OLLAMA_HOST", "http://me:CANARY@h", "TOKENHUB_LOG_LEVEL", "loud",
	), Overrides: Overrides{Listen: "x"}})
	var bad *Problems
	if !errors.As(err, &bad) {
		t.Fatalf("got %v, want problems", err)
	}
	var fields []string
	for _, p := range bad.All {
		if p.File != "" || p.Line != 0 {
			t.Errorf("%v has a place in a file", p)
		}
		fields = append(fields, p.Field)
	}
	want := []string{"--listen", "OLLAMA_HOST", "OPENAI_API_KEY", "TOKENHUB_ALERTS_AT", "TOKENHUB_BACKUP_KEEP",
		"TOKENHUB_DRAIN", "TOKENHUB_LOG_LEVEL", "TOKENHUB_TLS_CERT"}
	if !slices.Equal(fields, want) {
		t.Errorf("got problems with %q, want %q", fields, want)
	}
	if strings.Contains(err.Error(), canary) {
		t.Errorf("a secret stands in the problems: %v", err)
	}
}

func TestLookup(t *testing.T) {
	dir := t.TempDir()
	named := write(t, `listen = ":7"`)
	c, err := Load(Source{Dir: dir, Getenv: env("TOKENHUB_CONFIG", named)})
	if err != nil || c.Listen != ":7" || c.File != named {
		t.Fatalf("with TOKENHUB_CONFIG: got %+v, %v", c, err)
	}
	c, err = Load(Source{Dir: dir, Getenv: env()})
	if err != nil || c.File != "" || c.DataDir != filepath.Join(dir, "data") {
		t.Fatalf("without a file: got %+v, %v", c, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(`listen = ":8"`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err = Load(Source{Dir: dir, Getenv: env()})
	if err != nil || c.Listen != ":8" || c.File != filepath.Join(dir, "config.toml") {
		t.Fatalf("with ./config.toml: got %+v, %v", c, err)
	}
	c, err = Load(Source{Dir: dir, Path: named, Getenv: env("TOKENHUB_CONFIG", "nowhere")})
	if err != nil || c.Listen != ":7" {
		t.Fatalf("with --config and TOKENHUB_CONFIG: got %+v, %v", c, err)
	}
	for name, src := range map[string]Source{
		"--config":        {Dir: dir, Path: "nowhere.toml", Getenv: env()},
		"TOKENHUB_CONFIG": {Dir: dir, Getenv: env("TOKENHUB_CONFIG", "nowhere.toml")},
		"a huge file":     {Dir: dir, Path: write(t, strings.Repeat("#", maxFile+1)), Getenv: env()},
		"a folder":        {Dir: dir, Path: ".", Getenv: env()},
	} {
		_, err = Load(src)
		var bad *Problems
		if !errors.As(err, &bad) || bad.All[0].File == "" {
			t.Errorf("%s that cannot be read: got %v, want a problem that names it", name, err)
		}
	}
}

// TestPaths: those of the file begin at the file, others at the working folder.
func TestPaths(t *testing.T) {
	path := write(t, "[backup]\ndir = \"b\"\n")
	home, dir := filepath.Dir(path), t.TempDir()
	c, err := Load(Source{Path: path, Dir: dir, Getenv: env("TOKENHUB_DATA_DIR", "d")})
	if err != nil {
		t.Fatal(err)
	}
	if c.DataDir != filepath.Join(dir, "d") || c.Backup.Dir != filepath.Join(home, "b") {
		t.Errorf("got data_dir %s, backup.dir %s", c.DataDir, c.Backup.Dir)
	}
	if c, err = Load(Source{Path: path, Dir: dir, Getenv: env()}); err != nil || c.DataDir != filepath.Join(home, "data") {
		t.Errorf("the default data_dir is %+v, %v, want it beside the file", c, err)
	}
}

func TestEnvironmentProviders(t *testing.T) {
	getenv := env("OPENAI_API_KEY", " sk-1 ", "ANTHROPIC_API_KEY", "sk-2", "OPENROUTER_API_KEY", "sk-3", "OLLAMA_HOST", "0.0.0.0")
	c, err := Load(Source{Dir: t.TempDir(), Getenv: getenv})
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ name, base, key, auth, output string }{
		{"openai", "https://api.openai.com/v1", "sk-1", "bearer", "max_completion_tokens"},
		{"anthropic", "https://api.anthropic.com/v1", "sk-2", "x-api-key", "max_tokens"},
		{"openrouter", "https://openrouter.ai/api/v1", "sk-3", "bearer", "max_tokens"},
		{"ollama", "http://127.0.0.1:11434/v1", "", "none", "max_tokens"},
	}
	if len(c.Providers) != len(want) {
		t.Fatalf("got %d providers, want %d", len(c.Providers), len(want))
	}
	for i, w := range want {
		p := c.Providers[i]
		if p.Name != w.name || p.BaseURL != w.base || p.APIKey.Reveal() != w.key || p.Auth != w.auth || p.OutputField != w.output || !p.AskUsage {
			t.Errorf("got %+v, want %+v", p, w)
		}
	}
	if !slices.Contains(c.Providers[1].Models, "claude-*") || c.Providers[2].Models != nil {
		t.Errorf("got the models %q and %q", c.Providers[1].Models, c.Providers[2].Models)
	}
	c, err = Load(Source{Path: write(t, "[[providers]]\nname = \"a\"\nbase_url = \"http://a\"\n"), Getenv: getenv})
	if err != nil || len(c.Providers) != 1 {
		t.Errorf("with [[providers]]: got %+v, %v, want that one alone", c, err)
	}
}

func TestOllamaHost(t *testing.T) {
	for host, want := range map[string]string{
		"127.0.0.1": "http://127.0.0.1:11434", "example.com:1": "http://example.com:1", ":9": "http://127.0.0.1:9",
		"0.0.0.0:9": "http://127.0.0.1:9", "[::]:9": "http://[::1]:9", "::1": "http://[::1]:11434", "[::1]": "http://[::1]:11434",
		"http://h": "http://h:80", "https://h": "https://h:443", "https://h:1/ollama/": "https://h:1/ollama", "h:": "http://h:11434",
		"h/x": "http://h:11434/x",
	} {
		if got := ollamaURL(host); got != want {
			t.Errorf("OLLAMA_HOST=%s is %s, want %s", host, got, want)
		}
	}
}

func TestSecrets(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.toml")
	text := ""
	for _, key := range []string{"env:KEY", "file:key", "file:" + filepath.Join(dir, "key"), "literal"} {
		text += "[[providers]]\nname = \"p" + string(rune('a'+strings.Count(text, "name"))) + "\"\nbase_url = \"http://h/v1/\"\napi_key = '" + key + "'\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Source{Path: path, Getenv: env("KEY", "from env")})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"from env", "from file", "from file", "literal"} {
		if got := c.Providers[i].APIKey.Reveal(); got != want {
			t.Errorf("secret %d is %q, want %q", i, got, want)
		}
	}
}

func TestOutputField(t *testing.T) {
	for base, want := range map[string]string{
		"https://API.openai.com/v1": "max_completion_tokens", "https://x.openai.azure.com/openai/v1": "max_completion_tokens",
		"https://x.services.ai.azure.com/openai/v1": "max_completion_tokens", "https://api.openai.com.evil.example/v1": "max_tokens",
		"http://127.0.0.1:11434/v1": "max_tokens",
	} {
		if got := outputField(base); got != want {
			t.Errorf("output_field at %s is %s, want %s", base, got, want)
		}
	}
}

// Two receivers in an SMTP URL cut it in two in the variable, and the answer was
// that it has no scheme.
func TestCommaInAnAlertURL(t *testing.T) {
	const smtp = "smtp://mail.example:25/?from=hub@example.com&to=a@example.com"
	_, err := Load(Source{Dir: t.TempDir(), Getenv: env("TOKENHUB_ALERTS_URLS", smtp+",b@example.com")})
	if err == nil || !strings.Contains(err.Error(), "TOKENHUB_ALERTS_URLS: ") || !strings.Contains(err.Error(), "%2C") {
		t.Errorf("got %v", err)
	}
	c, err := Load(Source{Dir: t.TempDir(), Getenv: env("TOKENHUB_ALERTS_URLS", smtp+"%2Cb@example.com, ntfy://ntfy.sh/t")})
	if err != nil || len(c.Alerts.URLs) != 2 || c.Alerts.URLs[0] != smtp+"%2Cb@example.com" {
		t.Errorf("got %v, %v", c, err)
	}
}
