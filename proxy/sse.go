package proxy

import "bytes"

// maxLine bounds the unfinished line that is kept between two reads. What is
// longer, a response with its images say, is read as a document goes by.
const maxLine = 256 << 10

// events taps a stream of server-sent events: it looks at bytes that are on
// their way to the caller and keeps none but an unfinished line.
//
// Most events of a stream are alike but for the piece of text they carry, so the
// place of that piece is remembered, and an event that has one there and no
// usage needs no parsing. All others are read in full.
type events struct {
	report *report
	// tail is the unfinished line. With skip it is none that matters; a line that is
	// too long to be kept goes to long instead.
	tail []byte
	skip bool
	long *document
	// lf: the last line ended in CR at the end of the bytes; a LF belongs to it.
	lf bool
	// joined is the data of an event whose JSON stands in several lines.
	joined []byte
	// stop: the event is named message_stop.
	stop bool

	// at is where the last piece of text began, before and after what stood around
	// it: neither has a usage object in it. before is empty when that is not known.
	at            int
	key           string
	before, after []byte
	// pieces is the number of events that carried text, text its length in bytes.
	pieces, text int64
	// any: there was data.
	any bool
	// finished: the model has said all that it will; its usage may still come.
	finished bool
	// done: the event that completes the answer was seen.
	done bool
}

// feed looks at the next bytes of the stream.
func (e *events) feed(p []byte) {
	if e.lf && len(p) > 0 {
		e.lf = false
		if p[0] == '\n' {
			p = p[1:]
		}
	}
	cr := bytes.IndexByte(p, '\r') >= 0
	for len(p) > 0 {
		i := lineEnd(p, cr)
		if i < 0 {
			e.keep(p)
			return
		}
		line := p[:i]
		if p[i] == '\r' {
			if i+1 == len(p) {
				e.lf = true
			} else if p[i+1] == '\n' {
				i++
			}
		}
		p = p[i+1:]
		if len(e.tail) == 0 && !e.skip && e.long == nil {
			e.line(line)
			continue
		}
		e.keep(line)
		e.endLine()
	}
}

// end looks at what the stream ended with, a line without an end.
func (e *events) end() {
	e.endLine()
	e.endEvent()
	e.tail = nil
}

// lineEnd is the index of the first CR or LF of p, -1 without one. Without cr
// there is no CR in p.
func lineEnd(p []byte, cr bool) int {
	i := bytes.IndexByte(p, '\n')
	if !cr {
		return i
	}
	if i < 0 {
		return bytes.IndexByte(p, '\r')
	}
	if j := bytes.IndexByte(p[:i], '\r'); j >= 0 {
		return j
	}
	return i
}

// keep adds to the unfinished line.
func (e *events) keep(p []byte) {
	if e.skip {
		return
	}
	if e.long != nil {
		e.long.feed(p)
		return
	}
	e.tail = append(e.tail, p...)
	data, ok := field(e.tail, "data")
	switch n := len(e.tail); {
	case n >= len("event:") && !ok && !bytes.HasPrefix(e.tail, []byte("event:")):
		e.skip = true
	case n > maxLine && ok:
		e.long = &document{report: e.report}
		e.long.feed(data)
	case n > maxLine:
		e.skip = true
	default:
		e.done = e.done || n <= len("data: [DONE]") && isDone(e.tail)
		return
	}
	e.tail = nil
}

// endLine reads the line that was kept.
func (e *events) endLine() {
	switch {
	case e.long != nil:
		e.done = e.report.typed(e.long.typ) || e.done
		e.any, e.long = true, nil
	case len(e.tail) > 0:
		e.line(e.tail)
	}
	e.skip = false
	if e.tail = e.tail[:0]; cap(e.tail) > 64<<10 {
		e.tail = nil
	}
}

// line reads one line without its end.
func (e *events) line(line []byte) {
	if len(line) == 0 {
		e.endEvent()
		return
	}
	switch line[0] {
	case 'd':
		if data, ok := field(line, "data"); ok {
			e.data(data)
		}
	case 'e':
		name, ok := field(line, "event")
		if !ok {
			return
		}
		switch string(name) {
		case "error":
			e.report.failed = true
		case "message_stop":
			e.stop = true
		}
	}
}

// field cuts the name of a field, its colon and one space off a line.
func field(line []byte, name string) ([]byte, bool) {
	if len(line) <= len(name) || string(line[:len(name)]) != name || line[len(name)] != ':' {
		return nil, false
	}
	value := line[len(name)+1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return value, true
}

func isDone(line []byte) bool {
	data, ok := field(line, "data")
	return ok && string(bytes.TrimSpace(data)) == "[DONE]"
}

func (e *events) endEvent() {
	e.stop = false
	if len(e.joined) > 0 {
		e.object(e.joined)
		e.joined = e.joined[:0]
	}
}

// data reads the data of one line.
func (e *events) data(data []byte) {
	e.any = true
	if e.stop {
		e.done = true
	}
	if len(e.joined) > 0 {
		if len(e.joined)+len(data) < maxLine {
			e.joined = append(append(e.joined, '\n'), data...)
		}
		return
	}
	if len(data) == 0 {
		return
	}
	if last := data[len(data)-1]; last == '}' {
		e.object(data)
		return
	}
	data = bytes.TrimSpace(data)
	switch {
	case len(data) == 0:
	case string(data) == "[DONE]":
		e.done = true
	case data[0] != '{':
	case data[len(data)-1] == '}':
		e.object(data)
	default: // goes on in the next line
		e.joined = append(e.joined, data...)
	}
}

// object reads the JSON of one event.
func (e *events) object(data []byte) {
	if n := e.known(data); n > 0 {
		e.pieces++
		e.text += int64(n)
		if e.mayUse(data, e.at+n) && e.report.event(data) {
			e.done = true
		}
		return
	}
	if e.report.event(data) {
		e.done = true
	}
	e.finished = e.finished || finishes(data)
	e.learn(data)
}

// known is the length of the text that stands where the last one did, 0 without.
func (e *events) known(data []byte) int {
	if e.at == 0 || len(data) <= e.at || string(data[e.at-len(e.key):e.at]) != e.key {
		return 0
	}
	return textLen(data[e.at:])
}

// mayUse reports whether a usage object may stand around the known text, which
// ends at end. What is like the event before need not be searched.
func (e *events) mayUse(data []byte, end int) bool {
	rest := data[end:]
	same := bytes.Equal(rest, e.after)
	e.finished = e.finished || !same && finishes(rest)
	if len(e.before) == 0 || !bytes.Equal(data[:e.at], e.before) {
		return hasUsage(data)
	}
	if same {
		return false
	}
	if hasUsage(rest) {
		return true
	}
	if len(rest) <= maxAround {
		e.after = append(e.after[:0], rest...)
	}
	return false
}

// maxAround bounds what is remembered of an event.
const maxAround = 2 << 10

// learn searches for the text of an event and remembers where it stood.
func (e *events) learn(data []byte) {
	for _, key := range e.report.endpoint.textKeys() {
		i := bytes.Index(data, []byte(key))
		if i < 0 {
			continue
		}
		i += len(key)
		if n := textLen(data[i:]); n > 0 {
			e.key, e.at = key, i
			e.before = e.before[:0]
			if i <= maxAround && !hasUsage(data[:i]) {
				e.before = append(e.before, data[:i]...)
			}
			e.pieces++
			e.text += int64(n)
			return
		}
	}
}

// Text stands in these fields. A quote inside a string is escaped, so that none
// of them is found in the text itself.
var (
	chatKeys    = []string{`"content":"`, `"reasoning_content":"`, `"reasoning":"`, `"arguments":"`, `"text":"`, `"refusal":"`, `"content": "`, `"text": "`}
	messageKeys = []string{`"text":"`, `"partial_json":"`, `"thinking":"`, `"text": "`}
	deltaKeys   = []string{`"delta":"`, `"delta": "`}
)

// textKeys are the fields of events that hold output. Events of the Responses
// API repeat the text in full at its end; their deltas alone count.
func (e endpoint) textKeys() []string {
	switch e {
	case chatCompletions, completions:
		return chatKeys
	case messages:
		return messageKeys
	case responses, audio:
		return deltaKeys
	}
	return nil
}

// textLen is the length of a raw string up to its closing quote.
func textLen(s []byte) int {
	for i := 0; i < len(s); {
		q := bytes.IndexByte(s[i:], '"')
		if q < 0 {
			return len(s)
		}
		i += q
		back := 0
		for back < i && s[i-1-back] == '\\' {
			back++
		}
		if back%2 == 0 {
			return i
		}
		i++
	}
	return len(s)
}

var finishKey = []byte(`"finish_reason"`)

// finishes reports whether the JSON of a chat completion chunk says why it ends.
// Most have "finish_reason":null until then.
func finishes(data []byte) bool {
	for {
		i := bytes.Index(data, finishKey)
		if i < 0 {
			return false
		}
		data = bytes.TrimLeft(data[i+len(finishKey):], ": ")
		if len(data) > 0 && data[0] == '"' {
			return true
		}
	}
}

var usageKey = []byte(`"usage"`)

// hasUsage reports whether a usage object stands anywhere in the JSON. Many
// providers put "usage":null in each event.
func hasUsage(data []byte) bool {
	for {
		i := bytes.Index(data, usageKey)
		if i < 0 {
			return false
		}
		data = data[i+len(usageKey):]
		for j, ch := range data {
			if ch == '{' {
				return true
			}
			if ch != ':' && ch != ' ' {
				data = data[j:]
				break
			}
		}
	}
}
