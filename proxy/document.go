package proxy

import "bytes"

// maxUsage bounds the usage object that is kept out of a JSON answer.
const maxUsage = 64 << 10

// maxMember is more than the length of each name and type that matters.
const maxMember = 32

// document taps a JSON answer of any length: it follows strings and depth, and
// keeps nothing but the usage object, wherever that stands.
type document struct {
	report *report
	depth  int
	// inString and escaped: the next byte stands in a string, behind a backslash.
	inString, escaped bool
	// beginning[:named] is the beginning of the last string at depth 1 or 2, long
	// is that string's length.
	beginning [maxMember]byte
	named     int
	long      int64
	// typed: the string is the type of the top-level object; typ is the beginning
	// of it.
	typed bool
	typ   []byte
	// keyed: the last string was a key, and its value comes next.
	keyed bool
	// outer is what the open member of the top-level object is.
	outer member
	// keeping: the value of want, which began at depth base, goes to kept.
	keeping bool
	want    member
	base    int
	kept    []byte
	// text is the length of all strings that are values, in bytes.
	text int64
}

// member is a member of the top-level object that matters.
type member uint8

const (
	noMember member = iota
	usageMember
	nestedMember // has a usage member of its own
	dataMember
	errorMember
	durationMember
	typeMember
)

func memberOf(name []byte) member {
	switch string(name) {
	case "usage":
		return usageMember
	case "response", "x_groq":
		return nestedMember
	case "data":
		return dataMember
	case "error":
		return errorMember
	case "duration":
		return durationMember
	case "type":
		return typeMember
	}
	return noMember
}

// structural marks the bytes outside of strings that mean something here.
var structural = [256]bool{'"': true, '{': true, '}': true, '[': true, ']': true, ':': true, ',': true}

// deep is structural below depth 2, where commas mean nothing.
var deep = [256]bool{'"': true, '{': true, '}': true, '[': true, ']': true, ':': true}

// feed looks at the next bytes of the answer.
func (d *document) feed(p []byte) {
	from := 0 // where the kept value begins in p
	for i := 0; i < len(p); {
		if d.inString {
			i += d.str(p[i:])
			continue
		}
		ch := p[i]
		if !structural[ch] {
			if d.keyed && d.depth == 1 && !d.keeping && (ch >= '0' && ch <= '9') {
				from = i
				d.keep(memberOf(d.name()) == durationMember, durationMember)
			}
			d.keyed = d.keyed && (ch == ' ' || ch == '\n' || ch == '\t' || ch == '\r')
			i++
			if d.keyed {
				continue
			}
			table := &structural
			if d.depth > 2 {
				table = &deep
			}
			for i < len(p) && !table[p[i]] {
				i++
			}
			continue
		}
		switch ch {
		case '"':
			d.typed = false
			if d.keyed && d.depth == 1 && !d.keeping {
				m := memberOf(d.name())
				d.typed = m == typeMember
				if m == durationMember {
					from = i
					d.keep(true, durationMember)
				}
			}
			d.inString, d.long = true, 0
			d.named = 0
			d.keyed = false
		case ':':
			d.keyed = true
			d.text -= d.long
		case ',':
			if d.keeping && d.depth == d.base {
				d.take(p[from:i])
			}
			d.keyed = false
		case '{', '[':
			if d.keyed && !d.keeping && ch == '{' && d.isUsage() {
				from = i
				d.keep(true, usageMember)
			}
			d.open(ch)
		case '}', ']':
			if d.keeping && d.want == durationMember && d.depth == d.base {
				d.take(p[from:i])
			}
			d.depth = max(0, d.depth-1)
			d.keyed = false
			if d.keeping && d.want == usageMember && d.depth == d.base {
				d.take(p[from : i+1])
			}
		}
		i++
	}
	if d.keeping {
		d.add(p[from:])
	}
}

// name is the beginning of the last string.
func (d *document) name() []byte { return d.beginning[:d.named] }

// isUsage reports whether the key just read is that of the answer's usage.
func (d *document) isUsage() bool {
	return memberOf(d.name()) == usageMember && (d.depth == 1 || d.depth == 2 && d.outer == nestedMember)
}

func (d *document) open(ch byte) {
	switch d.depth {
	case 1:
		d.outer = noMember
		if d.keyed {
			d.outer = memberOf(d.name())
		}
		if d.outer == errorMember && ch == '{' {
			d.report.failed = true
		}
	case 2:
		if d.outer == dataMember && ch == '{' && d.report.endpoint == images {
			d.report.images++
		}
	}
	d.depth++
	d.keyed = false
}

// str looks at bytes inside a string and returns how many of them it covers.
func (d *document) str(p []byte) int {
	i := 0
	if d.escaped {
		d.escaped = false
		i = 1
	}
	quote := -1
	for {
		if quote < i {
			quote = bytes.IndexByte(p[i:], '"')
			if quote < 0 {
				quote = len(p)
			} else {
				quote += i
			}
		}
		back := bytes.IndexByte(p[i:quote], '\\')
		if back < 0 {
			break
		}
		i += back + 2
		if i > len(p) {
			d.escaped = true
			quote = len(p)
			break
		}
	}
	if d.depth <= 2 {
		d.named += copy(d.beginning[d.named:], p[:quote])
	}
	d.long += int64(quote)
	d.text += int64(quote)
	if quote == len(p) {
		return quote
	}
	d.inString = false
	if d.typed {
		d.typ = append(d.typ[:0], d.name()...)
	}
	return quote + 1
}

// keep begins to keep a value, if it is wanted.
func (d *document) keep(wanted bool, m member) {
	if wanted {
		d.keeping, d.want, d.base = true, m, d.depth
		d.kept = d.kept[:0]
	}
}

func (d *document) add(p []byte) {
	if len(d.kept)+len(p) > maxUsage {
		d.keeping = false
		d.kept = nil
		return
	}
	d.kept = append(d.kept, p...)
}

// take ends the kept value with its last bytes and reads it.
func (d *document) take(p []byte) {
	d.add(p)
	if !d.keeping {
		return
	}
	d.keeping = false
	switch d.want {
	case usageMember:
		if n, err := readCounts(&cursor{b: d.kept}); err == nil {
			d.report.replace(n)
		}
	case durationMember:
		if d.report.endpoint == audio {
			d.report.millis = max(d.report.millis, milliseconds(bytes.TrimSpace(d.kept)))
		}
	}
}
