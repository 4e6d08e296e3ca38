package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// reader collects what is wrong while the layers of the configuration are read:
// the file, above it the environment, above that the flags. It goes on after a
// problem, so that all of them are told at once.
type reader struct {
	// file is how the problems name the file; empty without one.
	file  string
	lines map[string]int
	// fileDir and workDir are what relative paths of the file, and those of the
	// environment and the flags, begin at. Both are absolute.
	fileDir, workDir string
	getenv           func(string) string
	// flags holds what was given on the command line, by path.
	flags map[string]flag
	// withoutSecrets: see [Source].
	withoutSecrets bool

	problems []Problem
	// asked holds each key that exists, "[]" in place of an index.
	asked map[string]bool
}

// flag is a setting that was given on the command line.
type flag struct{ name, value string }

// layer is one value of a setting and the place that it comes from.
type layer struct {
	// value is what the TOML decoder made of it, or the text of a variable or flag.
	value any
	// plain says that value is the text of a variable or flag.
	plain bool
	// dir is what a relative path begins at.
	dir string
	at  Problem
}

// at returns the place of a key of the file, or of what encloses it.
func (r *reader) at(path string) Problem {
	p := Problem{File: r.file, Field: path}
	for p.Line == 0 && path != "" {
		p.Line = r.lines[path]
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return p
}

// place returns where the value of path comes from that is in force.
func (r *reader) place(path string) Problem {
	if f, ok := r.flags[path]; ok {
		return Problem{Field: f.name}
	}
	if name, value := r.variable(path); value != "" {
		return Problem{Field: name}
	}
	return r.at(path)
}

// variable returns the environment variable of a setting and its value. Only
// settings outside of lists have one. An empty one counts as not set: Compose
// files pass variables on that way.
func (r *reader) variable(path string) (name, value string) {
	if strings.Contains(path, "[") {
		return "", ""
	}
	name = "TOKENHUB_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
	return name, r.getenv(name)
}

// say notes a problem at a place.
func (r *reader) say(at Problem, format string, args ...any) {
	at.Text = fmt.Sprintf(format, args...)
	r.problems = append(r.problems, at)
}

// complain notes a problem with the setting at path.
func (r *reader) complain(path, format string, args ...any) {
	r.say(r.place(path), format, args...)
}

// table is one TOML table that is being read. Keys that nobody asked for are
// unknown.
type table struct {
	*reader
	path string
	raw  map[string]any
	keys []string
}

// key notes that a key exists and returns its path.
func (t *table) key(key string) string {
	path := join(t.path, key)
	t.keys = append(t.keys, key)
	t.asked[pattern(path)] = true
	return path
}

// has says whether the file holds the key.
func (t *table) has(key string) bool {
	_, ok := t.raw[key]
	return ok
}

// layers returns the values of a key, the one that counts last.
func (t *table) layers(key string) []layer {
	path := t.key(key)
	var all []layer
	if value, ok := t.raw[key]; ok {
		all = append(all, layer{value: value, dir: t.fileDir, at: t.at(path)})
	}
	if name, value := t.variable(path); value != "" {
		all = append(all, layer{value: value, plain: true, dir: t.workDir, at: Problem{Field: name}})
	}
	if f, ok := t.flags[path]; ok {
		all = append(all, layer{value: f.value, plain: true, dir: t.workDir, at: Problem{Field: f.name}})
	}
	return all
}

// table opens the table below key; without one it is empty.
func (t *table) table(key string) *table {
	sub := &table{reader: t.reader, path: t.key(key)}
	if value, ok := t.raw[key]; ok {
		if sub.raw, ok = value.(map[string]any); !ok {
			t.say(t.at(sub.path), "is %s: write a table, [%s] or { ... }", kindOf(value), header(sub.path))
		}
	}
	return sub
}

// tables opens each table of a list of tables.
func (t *table) tables(key string) []*table {
	path := t.key(key)
	value, ok := t.raw[key]
	if !ok {
		return nil
	}
	var items []any
	switch list := value.(type) {
	case []map[string]any:
		for _, item := range list {
			items = append(items, item)
		}
	case []any:
		items = list
	default:
		t.say(t.at(path), "is %s: write a list of tables, [[%s]] for each", kindOf(value), header(path))
		return nil
	}
	var all []*table
	for i, item := range items {
		sub := &table{reader: t.reader, path: element(path, i)}
		if sub.raw, ok = item.(map[string]any); !ok {
			t.say(t.at(sub.path), "is %s: write a table, { ... }", kindOf(item))
			continue
		}
		all = append(all, sub)
	}
	return all
}

// done reports the keys that do not exist. elsewhere are those of the root: one
// that stands below the first [section] by mistake is the usual case.
func (t *table) done(elsewhere ...string) {
	for _, key := range slices.Sorted(maps.Keys(t.raw)) {
		if slices.Contains(t.keys, key) {
			continue
		}
		text := "unknown field"
		if near := nearest(key, t.keys); near != "" {
			text += fmt.Sprintf(": is %s meant?", near)
		} else if slices.Contains(elsewhere, key) {
			text += fmt.Sprintf(": %s belongs to the top, before the first [section]", key)
		}
		t.say(t.at(join(t.path, key)), "%s", text)
	}
}

// field reads one setting. Each layer is judged, the last good one counts.
func field[T any](t *table, key string, into *T, parse func(layer) (T, error)) {
	for _, l := range t.layers(key) {
		value, err := parse(l)
		if err != nil {
			t.say(l.at, "%s", err)
			continue
		}
		*into = value
	}
}

// list reads a setting that is a list, of which no two members may be equal; in a
// variable they are separated by commas. An empty list is nil.
func list[T comparable](t *table, key string, into *[]T, parse func(layer) (T, error)) {
	for _, l := range t.layers(key) {
		var values []T
		for _, item := range t.members(l) {
			value, err := parse(item)
			switch {
			case err != nil:
				t.say(item.at, "%s", err)
			case slices.Contains(values, value):
				t.say(item.at, "stands twice in the list")
			default:
				values = append(values, value)
			}
		}
		*into = values
	}
}

// members returns the members of a list, each with its place.
func (r *reader) members(l layer) []layer {
	var all []layer
	if l.plain {
		for part := range strings.SplitSeq(l.value.(string), ",") {
			if part = strings.TrimSpace(part); part != "" {
				item := l
				item.value = part
				all = append(all, item)
			}
		}
		return all
	}
	items, ok := l.value.([]any)
	if !ok {
		r.say(l.at, "is %s: write a list, [ ... ]", kindOf(l.value))
		return nil
	}
	for i, value := range items {
		all = append(all, layer{value: value, dir: l.dir, at: r.at(element(l.at.Field, i))})
	}
	return all
}

// pattern returns a path with "[]" in place of each index.
func pattern(path string) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		b.WriteByte(path[i])
		if path[i] == '[' {
			i += countDigits(path[i+1:])
		}
	}
	return b.String()
}

// header returns what stands between the brackets of a table's header.
func header(path string) string { return strings.ReplaceAll(pattern(path), "[]", "") }
