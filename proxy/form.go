package proxy

import (
	"bytes"
	"mime"
	"strings"
)

// form is what the gateway reads of a multipart/form-data body, without
// decoding it: the values it decides by, and where the model stands so that it
// can be spliced.
type form struct {
	model    string
	modelAt  span // to == 0: not there
	modelBad bool // there, and not readable as a name
	n        int64
	// file says that the part "file" is one, as far as is known, and elsewhere that
	// a part names its address.
	elsewhere bool
	file      bool
	// tokens is the estimate of the input, as far as the body was scanned.
	tokens int64
	// whole says that the body was scanned to its end.
	whole bool

	boundary string
	open     int // where the first delimiter stands
}

// setModel replaces the model's name, or puts a part that states one before the
// others where there is none.
func (f *form) setModel(name string) edit {
	if f.modelAt.to != 0 {
		return edit{f.modelAt, name}
	}
	part := "--" + f.boundary + "\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n" + name + "\r\n"
	return edit{span{f.open, f.open}, part}
}

// Bounds of a form that is scanned, in bytes.
const (
	maxBoundary    = 200
	maxPartHeaders = 8 << 10
	maxPadding     = 64      // white space behind a delimiter
	maxValue       = 4 << 10 // of a controlled part
)

// boundaryOf returns the boundary of a content type that is a form's, else "".
func boundaryOf(contentType string) string {
	kind, parameters, err := mime.ParseMediaType(contentType)
	boundary := parameters["boundary"]
	if err != nil || kind != "multipart/form-data" || len(boundary) > maxBoundary || strings.ContainsAny(contentType, `*\`) {
		return "" // the last for spellings that few parsers know
	}
	for _, c := range []byte(boundary) {
		if !strings.ContainsRune("'()+_,-./:=? ", rune(c)) && !isAlphanumeric(c) {
			return ""
		}
	}
	return boundary
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// formScanner reads a form as it comes, in pieces of any size.
//
// A strict one is for callers whose model matters: it refuses whatever a
// provider's parser could read in another way, such as a delimiter that only a
// lenient one takes for one. Another one stops at the model.
type formScanner struct {
	strict bool
	form   form

	dash []byte // "--" and the boundary
	// window are the bytes that are not done with, at offset of the body, in
	// memory. Up to from there is no delimiter in them.
	window       []byte
	memory       []byte
	offset, from int
	// lineStart says that the window begins at the beginning of a line.
	lineStart bool
	inHeaders bool
	closed    bool // the closing delimiter was there
	opened    bool // a delimiter was there

	part   part
	seen   uint16 // of controlled
	binary int64  // bytes in parts that are files
	files  int64  // tokens of these
}

// part is the part of a form that is being read.
type part struct {
	open bool
	name string // if it is a controlled one
	odd  bool   // its content may be read in more than one way
	file bool
	from int
}

func newFormScanner(boundary string, strict bool) *formScanner {
	s := &formScanner{strict: strict, dash: []byte("--" + boundary), lineStart: true}
	s.form.n, s.form.boundary = 1, boundary
	s.form.file = !strict // which does not look so far
	return s
}

// done reports whether the rest of the body need not be looked at.
func (s *formScanner) done() bool { return !s.strict && (s.form.modelAt.to != 0 || s.form.modelBad) }

// feed takes the next bytes of the body. The error is an *Error.
func (s *formScanner) feed(p []byte) error {
	s.memory = append(append(s.memory[:0], s.window...), p...)
	s.window = s.memory
	for !s.done() {
		step := s.findDelimiter
		if s.inHeaders {
			step = s.readHeaders
		}
		if more, err := step(); err != nil || !more {
			return err
		}
	}
	return nil
}

// end is called at the end of the body.
func (s *formScanner) end() error {
	if s.strict && !s.closed {
		return failf("invalid_request", "The form in the request body ends without its closing delimiter.")
	}
	if !s.inHeaders {
		s.part.odd = true // nobody knows where it was meant to end
		s.endPart(s.offset+len(s.window), s.window)
	}
	s.form.whole = true
	s.count(s.offset + len(s.window))
	return nil
}

// count works out the estimate of what was scanned.
func (s *formScanner) count(scanned int) {
	s.form.tokens = (int64(scanned)-s.binary+2)/3 + s.files
}

// drop is done with the first n bytes of the window.
func (s *formScanner) drop(n int) {
	s.window = s.window[n:]
	s.offset += n
	s.from, s.lineStart = max(0, s.from-n), false
}

// findDelimiter looks for the delimiter that ends the preamble or a part.
func (s *formScanner) findDelimiter() (more bool, err error) {
	i := bytes.Index(s.window[s.from:], s.dash)
	if i < 0 {
		// A delimiter may have begun, and is known by the line break before it. The
		// content of a controlled part stays, it is short.
		s.from = max(s.from, len(s.window)-len(s.dash)+1)
		keep := s.from - 2
		if s.part.name != "" {
			if len(s.window) > maxValue+len(s.dash)+2 {
				return false, s.unreadable()
			}
			return false, nil
		}
		if keep > 0 {
			s.drop(keep)
		}
		return false, nil
	}
	i += s.from
	rest := s.window[i+len(s.dash):]
	n, closing := 0, len(rest) >= 2 && rest[0] == '-' && rest[1] == '-'
	if !closing {
		for n < len(rest) && n <= maxPadding && (rest[n] == ' ' || rest[n] == '\t') {
			n++
		}
		if incomplete := len(rest) < n+2 && n <= maxPadding; incomplete {
			if tail := string(rest[n:]); tail == "" || tail == "\r" || tail == "-" && n == 0 {
				s.from = i
				return false, nil
			}
		}
	}
	atLine := i == 0 && s.lineStart || i >= 2 && s.window[i-2] == '\r' && s.window[i-1] == '\n'
	newline := len(rest) >= n+2 && rest[n] == '\r' && rest[n+1] == '\n'
	if !atLine || !closing && !newline || s.closed {
		if s.strict {
			return false, failf("invalid_request", "The form in the request body holds its boundary in a place where there is no delimiter. Use a boundary that does not occur in the parts.")
		}
		s.from = i + 1
		return true, nil
	}
	if !s.opened {
		s.opened, s.form.open = true, s.offset+i
	}
	if s.part.name != "" && i-2 > maxValue {
		if err := s.unreadable(); err != nil {
			return false, err
		}
	}
	s.endPart(s.offset+i-2, s.window[:max(0, i-2)])
	if closing {
		s.closed = true
		s.drop(i + len(s.dash) + 2)
		return true, nil
	}
	s.drop(i + len(s.dash) + n + 2)
	s.from, s.inHeaders = 0, true
	return true, nil
}

// unreadable ends the reading of a controlled part that is too long to be one.
func (s *formScanner) unreadable() error {
	name := s.part.name
	s.part.name = ""
	switch {
	case s.strict:
		return failf("invalid_parameter", "The part %q of the form is longer than %d bytes.", name, maxValue)
	case name == "model":
		s.form.modelBad = true
	}
	return nil
}

// readHeaders reads the headers of a part.
func (s *formScanner) readHeaders() (more bool, err error) {
	i := bytes.Index(s.window, []byte("\r\n\r\n"))
	size := i + 4
	if bytes.HasPrefix(s.window, []byte("\r\n")) {
		i, size = 0, 2 // none
	}
	if i < 0 || i > maxPartHeaders {
		if len(s.window) <= maxPartHeaders {
			return false, nil
		}
		if s.strict {
			return false, failf("invalid_request", "The headers of a part of the form are longer than %d bytes.", maxPartHeaders)
		}
		s.form.modelBad = true // there is no reading on from here
		return false, nil
	}
	head, err := s.partHeaders(s.window[:i])
	if err != nil {
		return false, err
	}
	s.part = part{open: true, odd: head.odd, file: head.file, from: s.offset + size}
	if head.named {
		name := strings.TrimSpace(head.name)
		s.form.file = s.form.file || head.file && name == "file"
		s.form.elsewhere = s.form.elsewhere || name == "url"
		if err := s.beginPart(head.name); err != nil {
			return false, err
		}
	}
	s.drop(size)
	s.from, s.lineStart, s.inHeaders = 0, true, false
	return true, nil
}

// beginPart notes a part of a controlled name.
func (s *formScanner) beginPart(name string) error {
	at, err := controlledName([]byte(strings.TrimSpace(name)))
	switch {
	case err != nil && s.strict:
		return err
	case err != nil || at < 0:
		return nil
	case s.strict && name != controlled[at]: // white space around it
		return errDuplicate(controlled[at])
	case s.strict && s.seen&(1<<at) != 0:
		return errDuplicate(controlled[at])
	}
	s.seen |= 1 << at
	if name == controlled[at] {
		s.part.name = name
	}
	return nil
}

// endPart takes the value of the part that ends at the offset to; content ends
// with it, and begins with it if the part is a controlled one.
func (s *formScanner) endPart(to int, content []byte) {
	p := s.part
	s.part = part{}
	if !p.open {
		return
	}
	to = max(to, p.from)
	if p.file {
		size := int64(to - p.from)
		s.binary += size
		s.files += max(2000, (size+63)/64)
	}
	value := strings.TrimSpace(string(content))
	switch p.name {
	case "model":
		if p.odd || p.file {
			s.form.modelBad = true
			return
		}
		s.form.model, s.form.modelAt = string(content), span{p.from, to}
	case "n":
		s.form.n = max(1, parseNumber(value))
	}
}

// errForm refuses what parsers of forms read in different ways.
func errForm() *Error {
	return failf("invalid_request", "A part of the form in the request body has headers that can be read in more than one way. Send one Content-Disposition with one name in each part.")
}
