package config

import (
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// lineIndex says on which line each key of a TOML text stands, by its path:
// "listen", "providers[1].timeouts.connect", "routing.auto[0]". The decoder
// gives values without places, so the text is walked a second time here. It
// has been parsed by then: this walk only has to find its way, not to judge.
func lineIndex(text string) map[string]int {
	w := &walker{text: text, line: 1, lines: map[string]int{}, tables: map[string]int{}}
	prefix := ""
	for w.blank(); w.pos < len(w.text); w.blank() {
		before := w.pos
		line := w.line
		if w.peek() == '[' {
			array := strings.HasPrefix(w.text[w.pos:], "[[")
			w.skip("[")
			prefix = w.header(w.key(), array, line)
			w.skip("]")
		} else {
			w.entry(prefix)
		}
		if w.pos == before { // no way forward
			break
		}
	}
	return w.lines
}

// walker is a position in a TOML text.
type walker struct {
	text   string
	pos    int
	line   int
	depth  int // of values in values
	lines  map[string]int
	tables map[string]int // how many [[path]] were seen
}

// peek returns the next byte, 0 at the end.
func (w *walker) peek() byte {
	if w.pos >= len(w.text) {
		return 0
	}
	return w.text[w.pos]
}

// next moves n bytes on and counts the lines.
func (w *walker) next(n int) {
	n = min(n, len(w.text)-w.pos)
	w.line += strings.Count(w.text[w.pos:w.pos+n], "\n")
	w.pos += n
}

// skip moves over all bytes that are in set.
func (w *walker) skip(set string) {
	for w.pos < len(w.text) && strings.IndexByte(set, w.text[w.pos]) >= 0 {
		w.next(1)
	}
}

// blank moves over white space, line ends and comments.
func (w *walker) blank() {
	for {
		w.skip(" \t\r\n\ufeff")
		if w.peek() != '#' {
			return
		}
		end := strings.IndexByte(w.text[w.pos:], '\n')
		if end < 0 {
			end = len(w.text) - w.pos
		}
		w.next(end)
	}
}

// note remembers the first line of a path.
func (w *walker) note(path string, line int) {
	if _, seen := w.lines[path]; !seen {
		w.lines[path] = line
	}
}

// header notes [parts] or [[parts]] and returns its path.
func (w *walker) header(parts []string, array bool, line int) string {
	path := ""
	for i, part := range parts {
		path = join(path, part)
		w.note(path, line)
		if array && i == len(parts)-1 {
			w.tables[path]++
		}
		if n := w.tables[path]; n > 0 {
			path = element(path, n-1)
			w.note(path, line)
		}
	}
	return path
}

// entry reads "key = value" below prefix.
func (w *walker) entry(prefix string) {
	line := w.line
	path := prefix
	for _, part := range w.key() {
		if w.depth <= maxDepth {
			path = join(path, part)
			w.note(path, line)
		}
	}
	w.blank()
	w.skip("=")
	w.blank()
	w.value(path)
}

// key reads a dotted key.
func (w *walker) key() []string {
	var parts []string
	for {
		w.skip(" \t")
		switch w.peek() {
		case '"', '\'':
			start := w.pos
			w.quoted()
			parts = append(parts, unquoted(w.text[start:w.pos]))
		default:
			end := strings.IndexAny(w.text[w.pos:], " \t\r\n.=]#\"'{},[")
			if end <= 0 {
				return parts
			}
			parts = append(parts, w.text[w.pos:w.pos+end])
			w.next(end)
		}
		w.skip(" \t")
		if w.peek() != '.' {
			return parts
		}
		w.next(1)
	}
}

// unquoted returns the text of a quoted key.
func unquoted(part string) string {
	var holder struct{ K string }
	if _, err := toml.Decode("K = "+part, &holder); err != nil {
		return part
	}
	return holder.K
}

// maxDepth bounds the paths that are noted: no setting is as deep, and the paths of
// a file of brackets alone would fill the memory.
const maxDepth = 16

// value moves over one value and notes what stands in it.
func (w *walker) value(path string) {
	w.depth++
	defer func() { w.depth-- }()
	switch w.peek() {
	case '"', '\'':
		w.quoted()
	case '[':
		w.next(1)
		for i := 0; ; i++ {
			w.separator()
			if c := w.peek(); c == ']' || c == 0 {
				break
			}
			before := w.pos
			member := path
			if w.depth <= maxDepth {
				member = element(path, i)
				w.note(member, w.line)
			}
			w.value(member)
			if w.pos == before {
				return
			}
		}
		w.next(1)
	case '{':
		w.next(1)
		for {
			w.separator()
			if c := w.peek(); c == '}' || c == 0 {
				break
			}
			before := w.pos
			w.entry(path)
			if w.pos == before {
				return
			}
		}
		w.next(1)
	default:
		end := strings.IndexAny(w.text[w.pos:], ",]}#\r\n")
		if end < 0 {
			end = len(w.text) - w.pos
		}
		w.next(end)
	}
}

// separator moves over what stands between two members.
func (w *walker) separator() {
	w.blank()
	for w.peek() == ',' {
		w.next(1)
		w.blank()
	}
}

// quoted moves over a string of any of the four kinds.
func (w *walker) quoted() {
	quote := w.text[w.pos : w.pos+1]
	escapes := quote == `"`
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(w.text[w.pos:], triple) {
		quote = triple
	}
	w.next(len(quote))
	for w.pos < len(w.text) {
		if strings.HasPrefix(w.text[w.pos:], quote) {
			w.next(len(quote))
			if len(quote) == 3 { // """ may be preceded by one or two quotes of the text
				w.skip(quote[:1])
			}
			return
		}
		if escapes && w.peek() == '\\' {
			w.next(1)
		}
		w.next(1)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func element(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
