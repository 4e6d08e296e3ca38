package proxy

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "a/b", true}, {"gpt-*", "gpt-4o", true}, {"gpt-*", "GPT-4o", false},
		{"openai/*", "openai/gpt/x", true}, {"o?", "o1", true}, {"o?", "o", false}, {"o?", "o12", false},
		{"?", "é", true}, {"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXbYbZ", false}, {"", "", true}, {"", "a", false},
		{"[a]", "[a]", true}, {"[a]", "a", false}, {"**", "x", true}, {"a**", "a", true},
	} {
		if got := match(c.pattern, c.name); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func TestMatchIsNeverExponential(t *testing.T) {
	start := time.Now()
	if match(strings.Repeat("*a", 50)+"b", strings.Repeat("a", 5000)) {
		t.Error("matched")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("a*?b", "axxb")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		for _, s := range []string{pattern, name} {
			if len(s) > 60 || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
				return
			}
		}
		quoted := regexp.QuoteMeta(pattern)
		quoted = strings.ReplaceAll(strings.ReplaceAll(quoted, `\*`, `.*`), `\?`, `.`)
		if want := regexp.MustCompile(`^` + quoted + `$`).MatchString(name); match(pattern, name) != want {
			t.Fatalf("match(%q, %q) = %v", pattern, name, !want)
		}
	})
}
