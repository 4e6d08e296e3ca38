package proxy

import "bytes"

// stripper takes the events out of a stream of chat completions that hold only
// usage, because TokenHub asked for them and the caller did not. All other
// bytes pass as they came.
//
// A line is held back only while it may still turn out to be the data of such
// an event: until its choices are seen to hold something, at most until its own
// end. The lines that name or number an event are held until its data decides.
type stripper struct {
	at stripPlace
	// held are the bytes held back; an undecided line begins in them at line.
	held []byte
	line int
	// seen is how far the line was searched, choices where the last event had its.
	seen, choices int
	// joined is the held data of an event whose JSON stands in several lines.
	joined []byte
	// lf: the last byte was a CR; a LF that follows goes where that went.
	lf lfPolicy
	// out and spare are the buffers that out and held alternate with.
	out, spare []byte
}

// stripPlace is where in a stream the stripper stands.
type stripPlace uint8

const (
	atLineStart  stripPlace = iota // at the beginning of a line
	inUndecided                    // in a line that is held
	inPassing                      // in a line that goes on to the caller
	afterDropped                   // at the beginning of a line, behind data that was dropped
	inNote                         // in a comment behind dropped data, which goes on
)

type lfPolicy uint8

const (
	lfNone lfPolicy = iota
	lfPass          // passes, or is held with what is held
	lfDrop
)

// maxHeld bounds what is held back.
const maxHeld = 1 << 20

// pieces collects the parts of buf that go on, copying nothing as long as they
// are one run from its beginning.
type pieces struct {
	buf    []byte
	run    int
	copied bool
	out    []byte
}

func (o *pieces) add(from, to int) {
	switch {
	case from == to:
	case !o.copied && from == o.run:
		o.run = to
	default:
		if !o.copied {
			o.copied = true
			o.out = append(o.out[:0], o.buf[:o.run]...)
		}
		o.out = append(o.out, o.buf[from:to]...)
	}
}

func (o *pieces) bytes() []byte {
	if o.copied {
		return o.out
	}
	return o.buf[:o.run]
}

// pass takes the next bytes of the stream and returns those that go on; they
// are valid until the next call.
func (s *stripper) pass(p []byte) []byte {
	buf, i := p, 0
	if len(s.held) > 0 {
		i = len(s.held)
		s.held = append(s.held, p...)
		buf = s.held
	}
	hold := 0 // buf[hold:i] is held
	o := pieces{buf: buf, out: s.out}
	cr := bytes.IndexByte(p, '\r') >= 0
	for i < len(buf) {
		if s.lf != lfNone {
			policy := s.lf
			s.lf = lfNone
			if buf[i] == '\n' {
				i++
				if policy == lfDrop {
					hold = i
				} else if hold == i-1 { // the CR is gone already
					o.add(hold, i)
					hold = i
				}
				continue
			}
		}
		switch s.at {
		case atLineStart:
			ch := buf[i]
			switch {
			case ch == '\n' || ch == '\r':
				i++
				s.lf = lfAfter(ch, lfPass)
				if len(s.joined) > 0 && usageOnly(s.joined) {
					o.drop(hold, i)
					s.lf = lfAfter(ch, lfDrop)
				} else {
					o.add(hold, i)
				}
				hold = i
				s.joined = s.joined[:0]
			case ch == ':' && hold == i:
				s.at = inPassing
			default:
				s.at, s.line, s.seen = inUndecided, i, 0
			}
		case inUndecided:
			j := lineEnd(buf[i:], cr)
			if j < 0 {
				i = len(buf)
				if s.passes(buf[s.line:]) || i-hold > maxHeld {
					o.add(hold, i)
					hold = i
					s.at, s.joined = inPassing, s.joined[:0]
				}
				continue
			}
			j += i
			i = j + 1
			s.at = atLineStart
			s.lf = lfAfter(buf[j], lfPass)
			switch v := s.judge(buf[s.line:j]); {
			case v == isUsage:
				o.drop(hold, i)
				hold = i
				s.at, s.joined = afterDropped, s.joined[:0]
				s.lf = lfAfter(buf[j], lfDrop)
			case v == goesOn || i-hold > maxHeld:
				o.add(hold, i)
				hold = i
				s.joined = s.joined[:0]
			}
		case inPassing, inNote:
			j := lineEnd(buf[i:], cr)
			if j < 0 {
				i = len(buf)
			} else {
				j += i
				i = j + 1
				s.lf = lfAfter(buf[j], lfPass)
				if s.at == inNote {
					s.at = afterDropped
				} else {
					s.at = atLineStart
				}
			}
			o.add(hold, i)
			hold = i
		case afterDropped:
			switch ch := buf[i]; ch {
			case '\n', '\r':
				i++
				hold = i
				s.at = atLineStart
				s.lf = lfAfter(ch, lfDrop)
			case ':':
				s.at = inNote
			default:
				s.at = atLineStart
			}
		}
	}
	s.out = o.out
	s.hold(buf, hold)
	return o.bytes()
}

// hold keeps buf[from:] in a buffer other than buf, parts of which are on their
// way out.
func (s *stripper) hold(buf []byte, from int) {
	switch {
	case from == len(buf):
		s.held = s.held[:0]
	case from == 0 && len(s.held) == len(buf):
		return // it stands in held already
	default:
		s.held, s.spare = append(s.spare[:0], buf[from:]...), s.held
		s.line -= from
	}
	if cap(s.spare) > 64<<10 {
		s.spare = nil
	}
}

// finish returns what is still held when the stream has ended, unless it is
// the usage that was asked for.
func (s *stripper) finish() []byte {
	if len(s.held) == 0 {
		return nil
	}
	usage := s.at == inUndecided && s.judge(s.held[s.line:]) == isUsage
	o := pieces{buf: s.held}
	if usage || len(s.joined) > 0 && usageOnly(s.joined) {
		o.drop(0, len(s.held))
	} else {
		o.add(0, len(s.held))
	}
	s.held = nil
	return o.bytes()
}

// drop leaves out the lines of buf[from:to] but for the comments, which belong
// to no event.
func (o *pieces) drop(from, to int) {
	for from < to {
		end := to
		if j := lineEnd(o.buf[from:to], true); j >= 0 {
			end = from + j + 1
			if o.buf[end-1] == '\r' && end < to && o.buf[end] == '\n' {
				end++
			}
		}
		if o.buf[from] == ':' {
			o.add(from, end)
		}
		from = end
	}
}

func lfAfter(ch byte, policy lfPolicy) lfPolicy {
	if ch == '\r' {
		return policy
	}
	return lfNone
}

// verdict is what becomes of a line.
type verdict uint8

const (
	stays   verdict = iota // held, until the data decides
	goesOn                 // with all that is held before it
	isUsage                // dropped, with all that is held before it
)

// judge decides about a whole line, without its end.
func (s *stripper) judge(line []byte) verdict {
	data, ok := field(line, "data")
	switch {
	case !ok && isField(line):
		return stays
	case !ok || s.filled(line):
		return goesOn
	case len(s.joined) > 0:
		s.joined = append(append(s.joined, '\n'), data...)
		return stays
	}
	data = bytes.TrimSpace(data)
	switch {
	case len(data) == 0 || data[0] != '{':
		return goesOn
	case usageOnly(data):
		return isUsage
	case data[len(data)-1] == '}':
		return goesOn
	}
	s.joined = append(s.joined, data...) // goes on in the next line
	return stays
}

// passes reports whether the beginning of a line says already that the line
// holds more than usage.
func (s *stripper) passes(line []byte) bool {
	data, ok := field(line, "data")
	if !ok {
		return !isField(line)
	}
	data = bytes.TrimLeft(data, " \t")
	if len(data) == 0 {
		return false
	}
	return len(s.joined) == 0 && data[0] != '{' || s.filled(line)
}

// isField reports whether line is a comment or a field of an event, or the
// beginning of one.
func isField(line []byte) bool {
	for _, name := range []string{":", "data:", "event:", "id:", "retry:"} {
		n := min(len(name), len(line))
		if string(line[:n]) == name[:n] {
			return true
		}
	}
	return false
}

var choicesKey = []byte(`"choices"`)

const choicesFilled = `"choices":[{`

// filled reports whether the choices of a line are seen to be anything but
// empty. A quote inside a string is escaped, so that this is not found in text.
func (s *stripper) filled(line []byte) bool {
	if at := s.choices; at > 0 && len(line) > at && string(line[at-len(choicesFilled):at]) == choicesFilled {
		return true
	}
	for {
		i := bytes.Index(line[min(s.seen, len(line)):], choicesKey)
		if i < 0 {
			s.seen = max(s.seen, len(line)-len(choicesKey)+1)
			return false
		}
		i += s.seen
		after := i + len(choicesKey)
		rest := bytes.TrimLeft(line[after:], " \t")
		for _, want := range ":[" {
			switch {
			case len(rest) == 0:
				s.seen = i
				return false
			case rest[0] != byte(want):
				return want == '[' // a colon is missing behind a string that is no key
			}
			rest = bytes.TrimLeft(rest[1:], " \t")
		}
		if len(rest) == 0 {
			s.seen = i
			return false
		}
		if rest[0] != ']' {
			if end := i + len(choicesFilled); end <= len(line) && string(line[i:end]) == choicesFilled {
				s.choices = end
			}
			return true
		}
		s.seen = after
	}
}
