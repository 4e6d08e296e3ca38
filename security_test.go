package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityNamesItsProofs: each test that docs/security.md names stands in
// each of the folders that it names behind it.
func TestSecurityNamesItsProofs(t *testing.T) {
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)`")
	group := regexp.MustCompile("((?:`\\w+`, )*`\\w+`) \\(([a-z0-9/., ]+)\\)")
	tests := map[string]string{} // folder -> the text of its tests
	proofs := 0
	for _, m := range group.FindAllStringSubmatch(string(text), -1) {
		for _, folder := range strings.Split(m[2], ", ") {
			if _, ok := tests[folder]; !ok {
				files, err := filepath.Glob(filepath.Join(filepath.FromSlash(folder), "*_test.go"))
				if err != nil || len(files) == 0 {
					t.Fatalf("docs/security.md names the folder %s: there are no tests in it", folder)
				}
				for _, file := range files {
					source, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					tests[folder] += string(source)
				}
			}
			for _, n := range name.FindAllStringSubmatch(m[1], -1) {
				if !strings.Contains(tests[folder], "\nfunc "+n[1]+"(") {
					t.Errorf("docs/security.md names %s: it is not in the folder %s", n[1], folder)
				}
			}
		}
		proofs += len(name.FindAllString(m[1], -1))
	}
	if all := len(name.FindAllString(string(text), -1)); proofs != all || all == 0 {
		t.Errorf("docs/security.md names %d tests, %d of them with their folder", all, proofs)
	}
}
