package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// canary stands in for each secret of the files in testdata.
const canary = "CANARY"

// TestMistakes loads the files in testdata. The comments on top of each are its
// problems, without the name of the file, in order.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) < 30 {
		t.Fatalf("testdata holds %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := expectations(string(data))
			got := problems(t, file)
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if strings.Contains(strings.Join(got, "\n"), canary) {
				t.Error("a secret stands in the problems")
			}
		})
	}
}

// expectations returns the comments on top of a file.
func expectations(text string) []string {
	var want []string
	for line := range strings.Lines(text) {
		comment, ok := strings.CutPrefix(line, "#\t")
		if !ok {
			break
		}
		want = append(want, strings.TrimSuffix(comment, "\n"))
	}
	return want
}

// problems loads a file and returns what is wrong with it, without its name.
func problems(t *testing.T, file string) []string {
	t.Helper()
	_, err := Load(Source{Path: file, Getenv: env("CANARY_KEY", canary, "EMPTY", "")})
	var bad *Problems
	if !errors.As(err, &bad) {
		t.Fatalf("got %v, want problems", err)
	}
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range bad.All {
		if p.File != file {
			t.Errorf("a problem names the file %q, want %q", p.File, file)
		}
		line := strings.TrimPrefix(p.String(), file+":")
		all = append(all, strings.ReplaceAll(line, dir, "DIR"))
	}
	return all
}
