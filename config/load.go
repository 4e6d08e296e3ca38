package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

// systemFile is where the configuration of an installed server is.
const systemFile = "/etc/tokenhub/config.toml"

// maxFile is the size up to which a file is taken for a configuration.
const maxFile = 1 << 20

// Source says where a configuration comes from. The zero value is that of a
// program that was started without a flag.
type Source struct {
	// Path is the file, from --config. Empty: $TOKENHUB_CONFIG, else config.toml in
	// Dir, else /etc/tokenhub/config.toml, else no file.
	Path string
	// Getenv reads an environment variable; nil = [os.Getenv].
	Getenv func(name string) string
	// Dir is the working folder; empty = that of the process. Relative paths of
	// flags and variables begin there, those of the file in the folder of the file.
	Dir string
	// Overrides is what was given on the command line.
	Overrides Overrides
	// WithoutSecrets is for programs that only look for the server: variables and
	// files that hold secrets are not read, and in the place of a secret stands what
	// refers to it. Providers from the environment are there whether their variables
	// are or not.
	WithoutSecrets bool
}

// Overrides holds settings from the command line, which stand above the
// environment and the file; an empty one was not given.
type Overrides struct {
	Listen  string // --listen
	DataDir string // --data
}

func (o Overrides) flags() map[string]flag {
	flags := map[string]flag{}
	add := func(path, name, value string) {
		if value != "" {
			flags[path] = flag{name, value}
		}
	}
	add("listen", "--listen", o.Listen)
	add("data_dir", "--data", o.DataDir)
	return flags
}

// Load reads, completes and checks the configuration. Its error is a [*Problems]
// that holds all that is wrong with it. It opens the files that hold secrets and
// certificates, and nothing else.
func Load(src Source) (*Config, error) {
	if src.Getenv == nil {
		src.Getenv = os.Getenv
	}
	dir, err := filepath.Abs(src.Dir)
	if err != nil {
		return nil, sorted([]Problem{{Text: fmt.Sprintf("the working folder is unknown: %s", err)}})
	}
	name, text, err := src.open(dir)
	if err != nil {
		return nil, sorted([]Problem{{File: name, Text: err.Error()}})
	}
	r := &reader{file: name, fileDir: dir, workDir: dir, getenv: src.Getenv, flags: src.Overrides.flags(), withoutSecrets: src.WithoutSecrets,
		asked: map[string]bool{}}
	file := ""
	if name != "" {
		file = absolute(dir, name)
		r.fileDir = filepath.Dir(file)
	}
	c, err := r.parse(text)
	if err != nil {
		return nil, err
	}
	c.File = file
	return c, nil
}

// parse reads the text of a file, and what the environment and the flags add.
func (r *reader) parse(text string) (*Config, error) {
	raw := map[string]any{}
	if _, err := toml.Decode(text, &raw); err != nil {
		return nil, sorted([]Problem{syntaxProblem(r.file, text, err)})
	}
	r.lines = lineIndex(text)
	c := r.root(raw)
	if err := sorted(r.problems); err != nil {
		return nil, err
	}
	return c, nil
}

// open finds and reads the file; name is empty when there is none.
func (src Source) open(dir string) (name, text string, err error) {
	name = src.Path
	if name == "" {
		name = src.Getenv("TOKENHUB_CONFIG")
	}
	if name != "" {
		text, err = readFile(absolute(dir, name), maxFile)
		return name, text, err
	}
	for _, name := range []string{"config.toml", systemFile} {
		text, err := readFile(absolute(dir, name), maxFile)
		if !errors.Is(err, fs.ErrNotExist) {
			return name, text, err
		}
	}
	return "", "", nil
}

// readFile reads a file of at most max bytes.
func readFile(path string, max int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	if int64(len(data)) > max {
		return "", fmt.Errorf("cannot be read: %s is larger than %s", path, FormatSize(max))
	}
	return string(data), nil
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// quotedWord is a part of a decoder's message that repeats the file.
var quotedWord = regexp.MustCompile(`(["']).*\w{2}.*(["'])`)

// syntaxProblem returns the problem of a file that is not TOML. The decoder's
// message may repeat a value, which may be a secret without its quotes; the names
// of keys may be told.
func syntaxProblem(file, text string, err error) Problem {
	p := Problem{File: file, Text: "is not TOML"}
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		return p
	}
	p.Line = min(max(parse.Position.Line, 1), strings.Count(text, "\n")+1)
	message := parse.Message
	if !strings.HasPrefix(message, "Key ") {
		p.Field = parse.LastKey
		message = quotedWord.ReplaceAllString(message, "(hidden)")
	}
	if strings.HasPrefix(message, "expected value") || strings.HasPrefix(message, "Invalid") {
		message += "; a text stands in quotes"
	}
	p.Text = "is not TOML: " + message
	return p
}
