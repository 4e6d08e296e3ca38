package proxy

import (
	"bytes"
	"sync"
	"unicode/utf8"

	"tokenhub/db"
)

// answer is what is known of a provider's answer at its headers.
type answer struct {
	endpoint endpoint
	status   int
	// sse: the content type is text/event-stream, or the answer is a stream in
	// all but name.
	sse bool
	// encoding is the Content-Encoding; empty or identity is none.
	encoding string
	// strip: TokenHub asked for usage on the caller's behalf, and takes the event
	// that holds only usage out again.
	strip bool
	// length is the Content-Length in bytes, -1 when it is unknown.
	length int64
}

// meter reads usage out of an answer while its bytes go to the caller.
//
//	m := newMeter(answer{endpoint: chatCompletions, sse: true, length: -1})
//	for each p read from the provider {
//		out, complete := m.pass(p)
//		if complete { settle }
//		write(out)
//	}
//	write(m.finish())
//	if u, ok := m.reported(); !ok { u.Output = m.estimate() }
//
// What the bytes are is told by the bytes: an answer that begins like JSON is
// read as JSON and one that begins like an event stream as that, whatever its
// content type says. It keeps a bounded part of the answer: an unfinished line,
// or the usage object. A meter is not safe for concurrent use, and finish must
// be called on every way out.
type meter struct {
	answer answer
	shape  shape
	report report
	events events
	doc    document
	strip  *stripper
	dec    *decoder
	// passed is the number of bytes that came from the provider, decoded how many
	// the meter looked at.
	passed, decoded int64
	// told: the caller knows that the answer is complete.
	told     bool
	finished bool
}

// shape is what an answer looks like.
type shape uint8

const (
	shapeBlank  shape = iota // nothing but white space so far
	shapeStream              // server-sent events
	shapeObject              // JSON
	shapeText
	shapeBinary
)

// meters is memory of meters that is used again.
var meters = sync.Pool{New: func() any { return new(meter) }}

func newMeter(a answer) *meter {
	m := meters.Get().(*meter)
	m.answer = a
	m.report = report{endpoint: a.endpoint, counts: noCounts()}
	m.events.report = &m.report
	m.doc.report = &m.report
	switch a.encoding {
	case "", "identity":
		if a.strip && a.sse {
			m.strip = &stripper{}
		}
	default:
		m.dec = newDecoder(a.encoding, m.look)
		if m.dec == nil {
			m.shape = shapeBinary // in an encoding that is not known
		}
	}
	return m
}

// pass takes bytes as they came from the provider and returns what goes on to
// the caller: p itself, unless something is taken out; then the bytes are valid
// until the next call. Complete says, once, that these bytes contain the ones
// that complete the answer.
func (m *meter) pass(p []byte) (out []byte, complete bool) {
	m.passed += int64(len(p))
	if m.dec != nil {
		m.dec.write(p)
	} else {
		m.look(p)
	}
	last := m.answer.length > 0 && m.passed >= m.answer.length
	if last && m.dec != nil {
		m.dec.end()
	}
	if !m.told && (last || m.events.done && m.dec == nil) {
		m.told, complete = true, true
	}
	if m.strip != nil {
		p = m.strip.pass(p)
	}
	return p, complete
}

// finish ends the answer, whether it arrived whole or not, and returns bytes
// that were held back until now. Later calls return nothing.
func (m *meter) finish() (out []byte) {
	if m.finished {
		return nil
	}
	m.finished = true
	if m.dec != nil {
		m.dec.end()
	}
	if m.shape == shapeStream {
		m.events.end()
	}
	if m.strip != nil {
		out = m.strip.finish()
	}
	return out
}

// drop lets the memory be used for another answer. Nobody may use the meter, or
// bytes that it returned, any more.
func (m *meter) drop() {
	kept := m.doc.kept[:0]
	*m = meter{}
	if cap(kept) <= 4<<10 {
		m.doc.kept = kept
	}
	meters.Put(m)
}

// look reads the next bytes of the answer, decoded.
func (m *meter) look(p []byte) {
	m.decoded += int64(len(p))
	if m.shape == shapeBlank {
		p = bytes.TrimLeft(bytes.TrimPrefix(p, []byte("\ufeff")), " \t\r\n")
		if len(p) == 0 {
			return
		}
		m.shape = shapeOf(p, m.answer.sse)
	}
	switch m.shape {
	case shapeStream:
		m.events.feed(p)
	case shapeObject:
		m.doc.feed(p)
	}
}

// shapeOf tells an answer by its first bytes, the first of which is not blank.
func shapeOf(p []byte, sse bool) shape {
	switch {
	case p[0] == '{' || p[0] == '[':
		return shapeObject
	case sse:
		return shapeStream
	}
	for _, name := range []string{":", "data:", "event:", "id:", "retry:"} {
		if n := min(len(p), len(name)); string(p[:n]) == name[:n] {
			return shapeStream
		}
	}
	head := p[:min(len(p), 512)]
	for i := 0; i < len(head); {
		r, size := utf8.DecodeRune(head[i:])
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == utf8.RuneError && len(head)-i >= utf8.UTFMax {
			return shapeBinary
		}
		i += size
	}
	return shapeText
}

// reported is what the provider reported, under TokenHub's convention. Without
// ok it did not report the whole: u then holds what is known, which is the input
// of a message that broke off, or nothing. It is final after finish, and after
// pass said complete.
func (m *meter) reported() (u db.Usage, ok bool) { return m.report.usage() }

// lacksUsage reports whether the stream has come to its end but for the usage, which
// the provider sends last.
func (m *meter) lacksUsage() bool { return m.events.finished && !m.told && !m.report.counts.any() }

// saysTooLittle reports whether the provider left out the output of the usage
// that it reported, or says that there was none of what was seen passing.
func (m *meter) saysTooLittle(u db.Usage) bool {
	stated := m.report.counts.output >= 0 || m.report.counts.total >= 0
	return u.Output == 0 && m.answer.endpoint.boundField("") != "" && (!stated || m.events.text > 0)
}

// Bytes per output token, where a provider reports none.
const (
	bytesPerToken = 4
	// Images and sounds are worth far fewer tokens than they have bytes.
	bytesPerMediaToken = 512
)

// estimate is the number of output tokens that the bytes seen are worth; at
// least 1 if there were any.
func (m *meter) estimate() int64 {
	var n int64
	switch {
	case m.passed == 0:
		return 0
	case m.answer.endpoint.readsOnly():
		n = 1
	case m.shape == shapeBinary, m.answer.endpoint == images:
		n = m.passed / bytesPerMediaToken
	case m.shape == shapeStream && (m.answer.sse || m.events.any):
		// Providers send at least one token in each event that has text.
		n = max(m.events.pieces, (m.events.text+bytesPerToken-1)/bytesPerToken)
	case m.shape == shapeObject:
		n = m.doc.text / bytesPerToken
	default:
		n = m.decoded / bytesPerToken
	}
	return max(1, n)
}

// errored reports whether the answer carried an error although its status was
// that of a success.
func (m *meter) errored() bool { return m.report.failed }

// amounts are what else than tokens can be charged.
type amounts struct {
	// images is the number of images made.
	images int64
	// millis is the length of audio in milliseconds.
	millis int64
	// calls is the number of requests.
	calls int64
}

// amounts is what the answer tells of images and seconds; it is one call.
func (m *meter) amounts() amounts {
	return amounts{images: m.report.images, millis: max(0, m.report.millis), calls: 1}
}
