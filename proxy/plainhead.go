package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxHead is the largest head of an answer, in bytes.
const maxHead = 64 << 10

var errHeadSize = errors.New("the provider's answer has more than 64 KiB of headers")

// readHead reads the head of an answer, bare to a request by HEAD. [io.EOF] is the
// end of the connection before the first byte. It takes what [http.ReadResponse]
// takes, and refuses what that refuses.
func readHead(in *bufio.Reader, bare bool) (*plainAnswer, error) {
	buf := buffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxBuffer {
			buffers.Put(buf)
		}
	}()
	head, err := readLines(in, (*buf)[:0])
	if err != nil {
		return nil, err
	}
	*buf = head
	return parseHead(head, bare)
}

// readLines reads up to the empty line behind a head. What it returns holds the
// lines with a line feed after each, and none of the empty one.
func readLines(in *bufio.Reader, head []byte) ([]byte, error) {
	lines, last := 0, 0 // last is where the last one begins
	for {
		start := len(head)
		for {
			part, err := in.ReadSlice('\n')
			head = append(head, part...)
			if len(head) > maxHead {
				return nil, errHeadSize
			}
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				if err == io.EOF && len(head) > 0 {
					err = io.ErrUnexpectedEOF
				}
				return nil, err
			}
		}
		line := trimLine(head[start:])
		if len(line) == 0 {
			if start == 0 {
				return nil, errMalformed
			}
			return head[:start], nil
		}
		// A line that begins with white space belongs to the one before it.
		if lines > 1 && (line[0] == ' ' || line[0] == '\t') {
			if bytes.IndexByte(head[last:start], ':') < 0 {
				return nil, errMalformed
			}
			more := bytes.Trim(line, " \t")
			head = append(append(append(head[:start-1], ' '), more...), '\n')
			continue
		}
		head = append(head[:start+len(line)], '\n')
		last = start
		lines++
	}
}

// trimLine cuts the end of a line off.
func trimLine(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

// plainAnswer is an answer with what its head says of the connection.
type plainAnswer struct {
	Response
	body         plainBody
	major, minor int // of HTTP
	chunked      bool
	// last says that the connection serves no further request.
	last bool
}

// parseHead reads a head. The names of its headers are put into canonical form in
// place.
func parseHead(head []byte, bare bool) (*plainAnswer, error) {
	for rest := head[bytes.IndexByte(head, '\n')+1:]; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		if !canonical(rest[:end]) {
			return nil, errMalformed
		}
		rest = rest[end+1:]
	}
	text := string(head) // one piece of memory for all of it
	end := strings.IndexByte(text, '\n')
	a := &plainAnswer{}
	if !a.parseStatus(text[:end]) {
		return nil, errMalformed
	}
	a.Header = newHeaders()
	for text = text[end+1:]; len(text) > 0; text = text[end+1:] {
		end = strings.IndexByte(text, '\n')
		colon := strings.IndexByte(text[:end], ':')
		a.Header = append(a.Header, Header{text[:colon], strings.Trim(text[colon+1:end], " \t")})
	}
	if err := a.frame(bare); err != nil {
		return nil, err
	}
	return a, nil
}

// parseStatus reads the first line, "HTTP/1.1 200 OK".
func (a *plainAnswer) parseStatus(line string) bool {
	proto, status, ok := strings.Cut(line, " ")
	if !ok {
		return false
	}
	if a.major, a.minor, ok = http.ParseHTTPVersion(proto); !ok {
		return false
	}
	code, reason, _ := strings.Cut(strings.TrimLeft(status, " "), " ")
	a.Reason = reason
	if len(code) != 3 {
		return false
	}
	for _, ch := range []byte(code) {
		if ch < '0' || ch > '9' {
			return false
		}
		a.StatusCode = a.StatusCode*10 + int(ch-'0')
	}
	return true
}

// canonical puts the name of a header line into canonical form, and reports
// whether it is one. A name with a space in it is left as it is: nobody reads it.
func canonical(line []byte) bool {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 {
		return false
	}
	for _, ch := range line[colon+1:] {
		if ch < ' ' && ch != '\t' || ch == 0x7f {
			return false
		}
	}
	name, spaced := line[:colon], false
	for _, ch := range name {
		if ch == ' ' {
			spaced = true
		} else if !httpguts.IsTokenRune(rune(ch)) {
			return false
		}
	}
	if spaced {
		return name[0] != ' '
	}
	upper := true
	for i, ch := range name {
		switch {
		case upper && ch >= 'a' && ch <= 'z':
			name[i] = ch - ('a' - 'A')
		case !upper && ch >= 'A' && ch <= 'Z':
			name[i] = ch + ('a' - 'A')
		}
		upper = ch == '-'
	}
	return true
}

// frame finds out where the answer's body ends and whether the connection
// lives on (RFC 9112 §6.3 and §9.3).
func (a *plainAnswer) frame(bare bool) error {
	old := a.major < 1 || a.major == 1 && a.minor < 1
	connection := a.Header.Values("Connection")
	a.last = httpguts.HeaderValuesContainsToken(connection, "close") ||
		old && !httpguts.HeaderValuesContainsToken(connection, "keep-alive")
	length, err := a.Header.contentLength()
	if err != nil {
		return err
	}
	codings := a.Header.Values("Transfer-Encoding")
	unstated := a.major == 0 && a.minor == 0 // counts as 1.1 here, as it does for net/http
	chunked := len(codings) > 0 && (!old || unstated)
	if chunked {
		if len(codings) != 1 || !strings.EqualFold(codings[0], "chunked") {
			return errors.New("the provider's answer has an unsupported transfer encoding")
		}
		if a.Header.has("Content-Length") { // nobody can tell which of them it meant
			a.last = true
		}
	}
	a.ContentLength = -1
	switch {
	case bare:
		a.ContentLength = length
	case a.StatusCode < 200:
		a.ContentLength, a.last = 0, true
	case a.StatusCode == http.StatusNoContent, a.StatusCode == http.StatusNotModified:
		a.ContentLength = 0
	case chunked:
		a.chunked = true
	default:
		a.ContentLength = length
		a.last = a.last || length < 0
	}
	return nil
}

// contentLength is the length that the headers state, -1 for none.
func (h Headers) contentLength() (int64, error) {
	stated := ""
	for i := range h {
		if h[i].Name != "Content-Length" {
			continue
		}
		if stated != "" && h[i].Value != stated {
			return 0, errors.New("the provider's answer states two lengths")
		}
		if stated = h[i].Value; stated == "" {
			return 0, errMalformed
		}
	}
	if stated == "" {
		return -1, nil
	}
	n, err := strconv.ParseUint(stated, 10, 63)
	if err != nil {
		return 0, errMalformed
	}
	return int64(n), nil
}
