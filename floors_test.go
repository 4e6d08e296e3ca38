package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floors says what each room may import of TokenHub: imports go down only, and
// siblings don't know each other. A new room gets its line here and its
// paragraph in docs/architecture.md.
var floors = map[string][]string{
	".":         {"cli", "proxy", "ui", "alerts", "metrics", "auth", "config", "db", "db/bolt", "demo"},
	"cli":       {"config"},
	"proxy":     {"auth", "config", "db"},
	"ui":        {"auth", "config", "db"},
	"alerts":    {"config", "db"},
	"metrics":   {"db"},
	"auth":      {"db"},
	"config":    {},
	"db":        {},
	"db/bolt":   {"db"},
	"db/dbtest": {"db"},
	"demo":      {},
	"bench":     {"proxy", "ui", "auth", "config", "db", "db/bolt", "db/dbtest", "demo"},
}

// fences says which files may import what others must not see. Tests stand
// outside: they may need the thing itself to break it.
var fences = []struct {
	module string
	files  []string // patterns of path.Match
}{
	{"github.com/gofiber/fiber", []string{"*.go", "proxy/handler*.go", "ui/*.go", "bench/*.go"}},
	{"github.com/valyala/fasthttp", []string{"*.go", "proxy/handler*.go", "proxy/watch*.go", "ui/*.go", "bench/*.go"}},
	{"go.etcd.io/bbolt", []string{"db/bolt/*.go"}},
	{"github.com/alexedwards/argon2id", []string{"auth/hash.go"}},
	{"golang.org/x/crypto/argon2", []string{"auth/hash.go"}},
	{"github.com/BurntSushi/toml", []string{"config/*.go"}},
	{"github.com/spf13", []string{"cli/*.go"}},
	{"github.com/rs/zerolog", []string{"*.go", "alerts/*.go", "proxy/*.go", "ui/*.go", "cli/*.go"}},
}

// goFile is one source file: where it is, and what it imports.
type goFile struct {
	path, room string // of the checkout's root
	imports    []string
}

func (f goFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// goFiles reads the imports of all files of this module.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			_, err := os.Stat(path.Join(name, "go.mod"))
			if name != "." && (err == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return fs.SkipDir // another module, or not ours
			}
			return nil
		case path.Ext(name) != ".go":
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		f := goFile{path: name, room: path.Dir(name)}
		for _, i := range parsed.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, p)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestImportsGoDown(t *testing.T) {
	for _, f := range goFiles(t) {
		below, known := floors[f.room]
		if !known {
			t.Errorf("%s: the room %s is on no floor; see floors in floors_test.go", f.path, f.room)
			continue
		}
		for _, p := range f.imports {
			room, ours := strings.CutPrefix(p, "tokenhub/")
			switch {
			case !ours || slices.Contains(below, room) || room == f.room:
			case f.isTest() && (f.room == "." || strings.HasPrefix(room, "db/") || slices.Contains([]string{"auth", "config", "db"}, room)):
				// Tests use the engines, and what lies below them.
			default:
				t.Errorf("%s imports %s: %s may import %v only", f.path, p, f.room, below)
			}
		}
	}
}

func TestContractNeedsTheStandardLibraryOnly(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.room != "db" && f.room != "demo" {
			continue
		}
		for _, p := range f.imports {
			first, _, _ := strings.Cut(p, "/")
			if strings.Contains(first, ".") {
				t.Errorf("%s imports %s, which is not in the standard library", f.path, p)
			}
		}
	}
}

func TestFences(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.isTest() {
			continue
		}
		for _, p := range f.imports {
			for _, fence := range fences {
				if p != fence.module && !strings.HasPrefix(p, fence.module+"/") {
					continue
				}
				inside := slices.ContainsFunc(fence.files, func(pattern string) bool {
					ok, err := path.Match(pattern, f.path)
					return ok && err == nil
				})
				if !inside {
					t.Errorf("%s imports %s, which belongs into %v", f.path, p, fence.files)
				}
			}
		}
	}
}

// TestRoomNames: a name that fits everything tells nobody where to look.
func TestRoomNames(t *testing.T) {
	vague := []string{"internal", "pkg", "util", "utils", "common", "helpers", "models", "services", "types", "misc"}
	for _, f := range goFiles(t) {
		for part := range strings.SplitSeq(f.room, "/") {
			if slices.Contains(vague, part) {
				t.Errorf("%s: a room is called by what it does, not %q", f.path, part)
			}
		}
	}
}

// TestNobodySleeps: a sleep is slow and wrong on a busy machine. Wait for the
// event, or use testing/synctest, where time costs nothing; a line in a file
// that does not import it says that it runs in there.
func TestNobodySleeps(t *testing.T) {
	for _, f := range goFiles(t) {
		text, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(f.imports, "testing/synctest") {
			continue
		}
		number := 0
		for line := range strings.Lines(string(text)) {
			number++
			if strings.Contains(line, "time."+"Sleep(") && !strings.Contains(line, "synctest") {
				t.Errorf("%s:%d sleeps", f.path, number)
			}
		}
	}
}

// TestFasthttpIsNewEnough: the version that Fiber asks for by itself takes an
// unread body for the next request, which smuggles requests past the keys.
func TestFasthttpIsNewEnough(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", "github.com/valyala/fasthttp").CombinedOutput()
	if err != nil {
		t.Fatalf("go list -m: %v: %s", err, out)
	}
	var got [3]int
	if _, err := fmt.Sscanf(string(out), "v%d.%d.%d", &got[0], &got[1], &got[2]); err != nil {
		t.Fatalf("version %q: %v", out, err)
	}
	if want := [3]int{1, 78, 0}; slices.Compare(got[:], want[:]) < 0 {
		t.Errorf("fasthttp %v is selected, want at least %v", got, want)
	}
}
