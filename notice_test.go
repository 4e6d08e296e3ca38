package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var updateNotice = flag.Bool("update-notice", false, "write NOTICE anew")

// platforms are those a release is built for.
var platforms = [][2]string{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}}

// licenceFile matches what must travel with copies of a module.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|copyright)([.-].*)?$`)

// TestNotice holds NOTICE against the licences of all that is linked into the
// binary, on each platform: `make notice` writes it anew.
func TestNotice(t *testing.T) {
	texts := map[string][]string{} // licence -> what it belongs to
	licensed := map[string]bool{}
	for folder, owner := range linkedFolders(t) {
		licensed[owner] = licensed[owner] || false // an entry for each
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() || !licenceFile.MatchString(e.Name()) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(folder, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			licensed[owner] = true
			plain := plainText(text)
			if !slices.Contains(texts[plain], owner) {
				texts[plain] = append(texts[plain], owner)
			}
		}
	}
	for owner, ok := range licensed {
		if !ok {
			t.Errorf("%s comes without a licence", owner)
		}
	}

	want := notice(texts)
	if *updateNotice {
		if err := os.WriteFile("NOTICE", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("NOTICE")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("NOTICE is not what the linked modules ask for: run `make notice` and look at what changed")
	}
}

// linkedFolders returns the folders of all linked packages up to the roots of
// their modules, each with the module it belongs to.
func linkedFolders(t *testing.T) map[string]string {
	t.Helper()
	goroot := goCommand(t, nil, "env", "GOROOT")
	if _, err := os.Stat(filepath.Join(goroot, "LICENSE")); err != nil {
		t.Skip("this Go comes without its licence: ", err)
	}
	folders := map[string]string{goroot: "The Go standard library and runtime"}
	for _, p := range platforms {
		out := goCommand(t, []string{"GOOS=" + p[0], "GOARCH=" + p[1], "CGO_ENABLED=0"}, "list", "-deps", "-json=Dir,Module", ".")
		for d := json.NewDecoder(strings.NewReader(out)); ; {
			var pkg struct {
				Dir    string
				Module *struct {
					Path, Version, Dir string
					Main               bool
				}
			}
			if err := d.Decode(&pkg); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if pkg.Module == nil || pkg.Module.Main {
				continue
			}
			for dir := pkg.Dir; ; dir = filepath.Dir(dir) {
				folders[dir] = pkg.Module.Path + " " + pkg.Module.Version
				if dir == pkg.Module.Dir {
					break
				}
			}
		}
	}
	return folders
}

// notice is the text of NOTICE: each licence once, under the names of all that
// it belongs to.
func notice(texts map[string][]string) []byte {
	type part struct{ owners, text string }
	var parts []part
	for text, owners := range texts {
		slices.Sort(owners)
		parts = append(parts, part{strings.Join(owners, "\n"), text})
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.owners+a.text, b.owners+b.text) })
	var b bytes.Buffer
	b.WriteString("TokenHub is licensed under the MIT license, see LICENSE. Its binary contains the\nwork of others, under the licences below. `make notice` writes this file.\n")
	for _, p := range parts {
		fmt.Fprintf(&b, "\n%s\n\n%s\n\n%s\n", strings.Repeat("=", 80), p.owners, p.text)
	}
	return b.Bytes()
}

// plainText is a text with plain line ends and nothing at the ends of lines.
func plainText(text []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		b.WriteString(strings.TrimRight(line, " \t\r\n") + "\n")
	}
	return strings.Trim(b.String(), "\n")
}

// goCommand runs the go command and returns what it printed.
func goCommand(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}
