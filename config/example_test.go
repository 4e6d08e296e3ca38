package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// example returns config.example.toml, with its samples switched on if asked for.
func example(t *testing.T, samples bool) string {
	t.Helper()
	data, err := os.ReadFile("../config.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	if samples {
		text = regexp.MustCompile(`(?m)^#([^# \n])`).ReplaceAllString(text, "$1")
	}
	return text
}

// write puts text into config.toml of a folder of its own and returns the path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// env returns a Getenv that knows these pairs of name and value.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestExampleIsTheDefaults(t *testing.T) {
	path := write(t, example(t, false))
	got, err := Load(Source{Path: path, Getenv: env()})
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.File = path
	want.DataDir = filepath.Join(filepath.Dir(path), "data")
	if !reflect.DeepEqual(got, want) {
		t.Errorf("config.example.toml is\n%+v\nwant the defaults\n%+v", got, want)
	}
}

func TestExampleSamples(t *testing.T) {
	path := write(t, example(t, true))
	c, err := Load(Source{Path: path, Getenv: env("OPENAI_API_KEY", "sk-sample")})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Providers) != 2 || len(c.Models) != 1 || len(c.Prices) != 4 {
		t.Fatalf("got %d providers, %d models, %d prices, want 2, 1, 4", len(c.Providers), len(c.Models), len(c.Prices))
	}
	openai := defaultProvider()
	openai.Name, openai.BaseURL, openai.APIKey, openai.Auth = "openai", "https://api.openai.com/v1", "sk-sample", "bearer"
	openai.Models = []string{"gpt-*", "o?", "o?-*", "text-embedding-*"}
	openai.OutputField = "max_completion_tokens"
	if !reflect.DeepEqual(c.Providers[0], openai) {
		t.Errorf("the first provider is %+v, want the defaults %+v", c.Providers[0], openai)
	}
}

// TestExampleIsComplete keeps each key that the reader knows in the manual.
func TestExampleIsComplete(t *testing.T) {
	text := example(t, true)
	for _, key := range knownKeys(t) {
		name := regexp.QuoteMeta(strings.Trim(key[strings.LastIndexByte(key, '.')+1:], "[]"))
		if !regexp.MustCompile(`(?m)(^|[{,] ?|^\[\[?)` + name + `\b`).MatchString(text) {
			t.Errorf("config.example.toml does not mention %s", key)
		}
	}
}

// knownKeys returns every key that the reader asks for, lists with "[]".
func knownKeys(t *testing.T) []string {
	t.Helper()
	r := &reader{getenv: env("OPENAI_API_KEY", "sk-sample"), asked: map[string]bool{}}
	r.root(map[string]any{
		"providers": []any{map[string]any{}},
		"models":    []any{map[string]any{"targets": []any{map[string]any{}}}},
		"prices":    []any{map[string]any{}},
	})
	var keys []string
	for key := range r.asked {
		keys = append(keys, key)
	}
	if len(keys) < 50 {
		t.Fatalf("only %d keys are asked for", len(keys))
	}
	return keys
}
