package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A budget that is nearly used up is told to a webhook, once; the metrics count
// the same tokens; a scheduled backup is there and whole.
func TestAlertsBackupsAndMetrics(t *testing.T) {
	told := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		told <- string(body)
	}))
	t.Cleanup(hook.Close)
	backups := filepath.Join(t.TempDir(), "backups")
	p := startProvider(t, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[],"usage":{"prompt_tokens":300,"completion_tokens":120,"total_tokens":420}}`)
	})
	h := startHub(t, p.config()+`
[log]
level = "error"
[alerts]
urls = ["generic+`+hook.URL+`/secret-path"]
[backup]
every = "1h"
keep  = 2
dir   = "`+backups+`"
`)
	key := h.key(t, "kids", "--total-tokens", "1000")
	for range 2 { // 420 tokens each
		if status, _, body := h.chat(t, key, plainChat); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	next := func() string {
		select {
		case text := <-told:
			return text
		case <-time.After(10 * time.Second):
			t.Fatal("nobody was told")
			return ""
		}
	}
	if text := next(); !strings.Contains(text, "80 %") || !strings.Contains(text, "kids") || !strings.Contains(text, "840 tokens of 1000 tokens") {
		t.Errorf("%q", text)
	}
	h.chat(t, key, plainChat)
	if text := next(); !strings.Contains(text, "used up") {
		t.Errorf("%q", text)
	}
	if len(told) != 0 {
		t.Errorf("told again: %q", <-told)
	}
	if status, _, body := h.chat(t, key, plainChat); status != 402 {
		t.Errorf("above the budget: %d %s", status, body)
	}

	token := h.run(t, "admin", "token", "create", "--name", "prometheus", "--read-only", "--quiet")
	get := func(credential string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+credential)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	if status, _ := get(key); status != 401 {
		t.Errorf("metrics for a key: %d", status)
	}
	status, text := get(token)
	id := key[3:13]
	for _, want := range []string{
		`tokenhub_tokens_total{key="` + id + `",model="gpt-4o-mini",provider="openai",kind="input"} 900`,
		`tokenhub_tokens_total{key="` + id + `",model="gpt-4o-mini",provider="openai",kind="output"} 360`,
		`tokenhub_requests_total{provider="openai",result="2xx",stream="false"} 3`,
		`tokenhub_refused_total{code="total_token_limit_reached"} 1`,
		"tokenhub_holds 0\n", "tokenhub_ready 1\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%d, no %s", status, want)
		}
	}

	entries, err := os.ReadDir(backups)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v %v", entries, err)
	}
	if out := h.run(t, "check", filepath.Join(backups, entries[0].Name())); !strings.Contains(out, "whole") {
		t.Errorf("%s", out)
	}
}

// A price list is imported, and a reload puts it in force.
func TestImportedPricesAreUsed(t *testing.T) {
	h := startLimitHub(t, "")
	list := filepath.Join(t.TempDir(), "list.json")
	if err := os.WriteFile(list, []byte(`{"gpt-mine":{"input_cost_per_token":0.001,"output_cost_per_token":0.002,"mode":"chat","litellm_provider":"openai"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	key := h.key(t, "k", "--monthly-usd", "5")
	body := strings.Replace(plainChat, "gpt-4o-mini", "gpt-mine", 1)
	if status, _, text := h.chat(t, key, body); status != 403 || !strings.Contains(text, "model_not_priced") {
		t.Errorf("%d %s", status, text)
	}
	h.run(t, "prices", "import", list)
	h.run(t, "reload")
	if status, _, text := h.chat(t, key, body); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	if out := h.run(t, "usage"); !strings.Contains(out, "0.013") { // 7 × 0.001 + 3 × 0.002
		t.Errorf("%s", out)
	}
}
