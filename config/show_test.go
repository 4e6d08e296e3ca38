package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const everything = `
listen = ":1"
base_url = "https://h.example/\u00e4\"x"
trusted_proxies = ["10.0.0.1"]
cors_origins = ["https://h.example"]
[alerts]
urls = ["ntfy://CANARY@h/t"]
[backup]
every = "1d12h"
dir = "b"
[[providers]]
name = "a"
base_url = "https://h.example/v1/"
api_key = "env:CANARY_KEY"
auth = "api-key"
models = ["x*", 'a\b"c']
headers = { "X-A" = "CANARY", X-B = "env:CANARY_KEY" }
timeouts = { total = "1h" }
monthly_usd = 1.5
ask_usage = false
[[providers]]
name = "b"
base_url = "http://127.0.0.1:1"
[[models]]
name = "m"
targets = [{ provider = "a", model = "x" }, { provider = "b", model = "y", weight = 3 }]
fallbacks = ["x"]
[[prices]]
model = "x"
input = 2
[[prices]]
model = "y"
call = 0.000001
`

func TestShow(t *testing.T) {
	path := write(t, everything)
	c, err := Load(Source{Path: path, Getenv: env("CANARY_KEY", canary)})
	if err != nil {
		t.Fatal(err)
	}
	shown := c.Show()
	// A masked alert URL is no URL.
	again, err := Load(Source{Path: write(t, strings.Replace(shown, `urls = ["***"]`, "", 1)), Getenv: env()})
	if err != nil {
		t.Fatalf("what is shown is no configuration: %v\n%s", err, shown)
	}
	// What differs: secrets are masked, and the strategy that a model takes is written out.
	again.File = path
	again.Alerts.URLs = c.Alerts.URLs
	again.Providers[0].APIKey, again.Providers[0].Headers = c.Providers[0].APIKey, c.Providers[0].Headers
	again.Models[0].Strategy = ""
	if !reflect.DeepEqual(again, c) {
		t.Errorf("shown and read again it is\n%+v\nwant\n%+v", again, c)
	}
	for _, want := range []string{"api_key = \"***\"", "urls = [\"***\"]", "\"X-A\" = \"***\"", "monthly_usd = 1.5\n", "output_field = \"max_tokens\"", "every = \"1d12h\""} {
		if !strings.Contains(shown, want) {
			t.Errorf("%s does not hold %s", shown, want)
		}
	}
}

// TestShowIsComplete: each key that can be read is shown.
func TestShowIsComplete(t *testing.T) {
	c, err := Load(Source{Path: write(t, example(t, true)), Getenv: env("OPENAI_API_KEY", "sk-sample")})
	if err != nil {
		t.Fatal(err)
	}
	shown := c.Show()
	for _, key := range knownKeys(t) {
		name := strings.Trim(key[strings.LastIndexByte(key, '.')+1:], "[]")
		if !strings.Contains(shown, name+" = ") && !strings.Contains(shown, "["+name+"]") {
			t.Errorf("%s is not shown", key)
		}
	}
}

func TestSecretsPrintMasked(t *testing.T) {
	c, err := Load(Source{Path: write(t, everything), Getenv: env("CANARY_KEY", canary)})
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	prints := map[string]string{"json": string(asJSON), "Show": c.Show()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		prints[verb] = fmt.Sprintf(verb, *c) + fmt.Sprintf(verb, c.Providers[0].APIKey) + fmt.Sprintf(verb, c.Providers[0].Headers)
	}
	for how, text := range prints {
		if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("%s prints a secret: %s", how, text)
		}
	}
	if c.Providers[0].APIKey.Reveal() != canary || c.Providers[1].APIKey.String() != "" {
		t.Error("Reveal or an empty secret is not what it was")
	}
}
