package demo

import (
	"slices"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"hi", []string{"hi"}},
		{"Hello, world!", []string{"Hello", ",", " world", "!"}},
		{"abcdefghijk", []string{"abcde", "fghij", "k"}},
		{"a  b\n", []string{"a", "  b", "\n"}},
		{"größer 12345678", []string{"größe", "r", " 12345", "678"}},
		{"日本語", []string{"日本語"}},
		{"👍👍", []string{"👍", "👍"}},
		{"\xff\xfe", []string{"\xff", "\xfe"}},
	} {
		if got := split(tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("split(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("Hello, world!")
	f.Add(" \xff日本語 12345678")
	f.Fuzz(func(t *testing.T, text string) {
		tokens := split(text)
		if got := strings.Join(tokens, ""); got != text {
			t.Errorf("the tokens of %q join to %q", text, got)
		}
		if got := Tokens(text); got != len(tokens) {
			t.Errorf("Tokens(%q) = %d, want %d", text, got, len(tokens))
		}
	})
}

func TestReply(t *testing.T) {
	for _, tt := range []struct{ question, want string }{
		{"Why is the sky blue?", "OPENAI_API_KEY"},
		{"How do I set a monthly BUDGET?", "--monthly-usd"},
		{"how are keys revoked", "tokenhub keys revoke"},
		{"fallbacks?", "[[models]]"},
	} {
		got := reply(tt.question)
		if !strings.Contains(got, tt.want) || !strings.Contains(got, "“"+tt.question+"”") {
			t.Errorf("reply(%q) = %q, want the question and %q in it", tt.question, got, tt.want)
		}
	}
	if got := reply(strings.Repeat("word\n", 100)); !strings.Contains(got, "word word …”") || len(got) > 800 {
		t.Errorf("a long question is not cut: %q", got)
	}
}
