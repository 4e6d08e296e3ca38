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
func readHead(in *bufio.Reader, bare bool) (*http.Response, error) {
	buf := buffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxBuffer {
			buffers.Put(buf)
		}
	}()
	head, lines, err := readLines(in, (*buf)[:0])
	if err != nil {
		return nil, err
	}
	*buf = head
	return parseHead(head, lines, bare)
}

// readLines reads up to the empty line behind a head. What it returns holds the
// lines with a line feed after each, and none of the empty one.
func readLines(in *bufio.Reader, head []byte) (_ []byte, lines int, err error) {
	last := 0 // where the last line begins
	for {
		start := len(head)
		for {
			part, err := in.ReadSlice('\n')
			head = append(head, part...)
			if len(head) > maxHead {
				return nil, 0, errHeadSize
			}
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				if err == io.EOF && len(head) > 0 {
					err = io.ErrUnexpectedEOF
				}
				return nil, 0, err
			}
		}
		line := trimLine(head[start:])
		if len(line) == 0 {
			if start == 0 {
				return nil, 0, errMalformed
			}
			return head[:start], lines, nil
		}
		// A line that begins with white space belongs to the one before it.
		if lines > 1 && (line[0] == ' ' || line[0] == '\t') {
			if bytes.IndexByte(head[last:start], ':') < 0 {
				return nil, 0, errMalformed
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

// parseHead reads a head of so many lines. The names of its headers are put
// into canonical form in place.
func parseHead(head []byte, lines int, bare bool) (*http.Response, error) {
	for rest := head[bytes.IndexByte(head, '\n')+1:]; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		if !canonical(rest[:end]) {
			return nil, errMalformed
		}
		rest = rest[end+1:]
	}
	text := string(head)
	line, text, _ := strings.Cut(text, "\n")
	resp := &http.Response{Header: newHeader(), ContentLength: -1}
	if !parseStatus(resp, line) {
		return nil, errMalformed
	}
	values := make([]string, 0, lines)
	for len(text) > 0 {
		line, text, _ = strings.Cut(text, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if had := resp.Header[name]; had != nil {
			resp.Header[name] = append(had, value)
			continue
		}
		values = append(values, value)
		resp.Header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	if err := frame(resp, bare); err != nil {
		return nil, err
	}
	return resp, nil
}

// parseStatus reads the first line, "HTTP/1.1 200 OK".
func parseStatus(resp *http.Response, line string) bool {
	proto, status, ok := strings.Cut(line, " ")
	if !ok {
		return false
	}
	if resp.ProtoMajor, resp.ProtoMinor, ok = http.ParseHTTPVersion(proto); !ok {
		return false
	}
	resp.Proto, resp.Status = proto, strings.TrimLeft(status, " ")
	code, _, _ := strings.Cut(resp.Status, " ")
	if len(code) != 3 {
		return false
	}
	for _, ch := range []byte(code) {
		if ch < '0' || ch > '9' {
			return false
		}
		resp.StatusCode = resp.StatusCode*10 + int(ch-'0')
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
func frame(resp *http.Response, bare bool) error {
	h := resp.Header
	old := !resp.ProtoAtLeast(1, 1)
	connection := h["Connection"]
	resp.Close = httpguts.HeaderValuesContainsToken(connection, "close") ||
		old && !httpguts.HeaderValuesContainsToken(connection, "keep-alive")
	length, err := contentLength(h)
	if err != nil {
		return err
	}
	codings, chunked := h["Transfer-Encoding"]
	delete(h, "Transfer-Encoding")
	unstated := resp.ProtoMajor == 0 && resp.ProtoMinor == 0 // counts as 1.1 here, as it does for net/http
	if chunked = chunked && (!old || unstated); chunked {
		if len(codings) != 1 || !strings.EqualFold(codings[0], "chunked") {
			return errors.New("the provider's answer has an unsupported transfer encoding")
		}
		if h["Content-Length"] != nil { // nobody can tell which of them it meant
			resp.Close = true
			if !bare {
				delete(h, "Content-Length")
			}
		}
	}
	switch {
	case bare:
		resp.ContentLength = length
	case resp.StatusCode < 200:
		resp.ContentLength, resp.Close = 0, true
	case resp.StatusCode == http.StatusNoContent, resp.StatusCode == http.StatusNotModified:
		resp.ContentLength = 0
	case chunked:
		resp.TransferEncoding = chunkedCoding
	default:
		resp.ContentLength = length
		resp.Close = resp.Close || length < 0
	}
	return nil
}

var chunkedCoding = []string{"chunked"}

// contentLength is the length that a head states, -1 for none.
func contentLength(h http.Header) (int64, error) {
	stated := h["Content-Length"]
	if len(stated) == 0 {
		return -1, nil
	}
	for _, other := range stated[1:] {
		if other != stated[0] {
			return 0, errors.New("the provider's answer states two lengths")
		}
	}
	n, err := strconv.ParseUint(stated[0], 10, 63)
	if err != nil {
		return 0, errMalformed
	}
	h["Content-Length"] = stated[:1]
	return int64(n), nil
}
