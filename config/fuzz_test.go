package config

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// FuzzLoad reads any bytes as a configuration: no panic, each problem on a line that
// exists, and what is accepted can be shown and read again.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "../config.example.toml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Add(everything)
	f.Add("a = [[[[[[{b=[1,]}]]]]]]\n\"\"=1")
	getenv := env("CANARY_KEY", canary)
	f.Fuzz(func(t *testing.T, text string) {
		c, problems := parse(text, getenv)
		for _, p := range problems {
			if p.Line < 0 || p.Line > strings.Count(text, "\n")+1 || p.Text == "" {
				t.Fatalf("%+v is not in the text", p)
			}
			if p.Line == 0 && p.Field != "" {
				t.Fatalf("%+v has no line", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		c.Alerts.URLs = nil // masked they are no URLs
		if _, again := parse(c.Show(), getenv); len(again) > 0 {
			t.Fatalf("what is shown cannot be read: %v\n%s", again, c.Show())
		}
	})
}

func parse(text string, getenv func(string) string) (*Config, []Problem) {
	c, err := (&reader{file: "f", fileDir: "/nowhere", workDir: "/nowhere", getenv: getenv, asked: map[string]bool{}}).parse(text)
	var bad *Problems
	if errors.As(err, &bad) {
		return nil, bad.All
	}
	return c, nil
}

// FuzzLineIndex compares the index with what the decoder found.
func FuzzLineIndex(f *testing.F) {
	f.Add("a.b = 1\n[c]\nd = [1, {e = 2}]\n[[f]]\n[[f]]\ng = '''\n'''\n")
	f.Add(everything)
	f.Fuzz(func(t *testing.T, text string) {
		lines := lineIndex(text)
		var raw map[string]any
		if _, err := toml.Decode(text, &raw); err != nil {
			return
		}
		var check func(path string, value any, depth int)
		check = func(path string, value any, depth int) {
			if depth >= maxDepth {
				return
			}
			if path != "" && lines[path] == 0 {
				t.Fatalf("%q has no line; there are %q", path, slices.Sorted(maps.Keys(lines)))
			}
			switch value := value.(type) {
			case map[string]any:
				for key, sub := range value {
					check(join(path, key), sub, depth+1)
				}
			case []any:
				for i, sub := range value {
					check(element(path, i), sub, depth+1)
				}
			case []map[string]any:
				for i, sub := range value {
					check(element(path, i), sub, depth+1)
				}
			}
		}
		for key, value := range raw {
			check(key, value, 0)
		}
	})
}
