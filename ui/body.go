package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
)

// maxBody is the largest request body in bytes.
const maxBody = 1 << 20

// readBody returns a copy of the request's body. Fiber's own c.Body() is not
// used: it inflates and buffers without a bound.
func readBody(c *fiber.Ctx) ([]byte, error) {
	if enc := c.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return nil, &Error{Status: 415, Type: "invalid_request_error", Code: "unsupported_encoding", Message: "Send the request body uncompressed."}
	}
	req := &c.Context().Request
	stream := c.Context().RequestBodyStream()
	if req.Header.ContentLength() > maxBody {
		discard(stream)
		return nil, errTooLarge
	}
	if stream == nil {
		if len(req.Body()) > maxBody {
			return nil, errTooLarge
		}
		return bytes.Clone(req.Body()), nil
	}
	body, err := io.ReadAll(io.LimitReader(stream, maxBody+1))
	if err != nil {
		return nil, errInvalid("The request body broke off.")
	}
	if len(body) > maxBody {
		discard(stream)
		return nil, errTooLarge
	}
	return body, nil
}

// discard reads some of what is left of a body that is refused: closing the
// connection in the middle of an upload would reset it before its sender, whom
// we know by now, has read why.
func discard(stream io.Reader) {
	if stream != nil {
		_, _ = io.CopyN(io.Discard, stream, 16*maxBody)
	}
}

// field is one member of a JSON object, as it was sent.
type field struct {
	name string
	raw  json.RawMessage
}

// isNull reports whether the field's value is null.
func (f field) isNull() bool { return string(f.raw) == "null" }

// parseObject reads one JSON object strictly: a field may stand once only, in
// exactly its spelling, and nothing may follow. An empty body is an empty object.
// where names the object in errors: "" is the body.
func parseObject(text []byte, where string) ([]field, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	what := "The request body"
	if where != "" {
		what = quote(where)
	}
	if !utf8.Valid(text) {
		return nil, errInvalid("%s is not valid UTF-8.", what)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	open, err := dec.Token()
	if err != nil || open != json.Delim('{') {
		return nil, errInvalid("%s must be a JSON object.", what)
	}
	var fields []field
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return nil, errInvalid("%s is not valid JSON.", what)
		}
		if seen[name] {
			return nil, errInvalid("%s holds the field %s twice.", what, quote(name))
		}
		seen[name] = true
		f := field{name: name}
		if err := dec.Decode(&f.raw); err != nil {
			return nil, errInvalid("%s is not valid JSON.", what)
		}
		fields = append(fields, f)
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, errInvalid("%s is not valid JSON.", what)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errInvalid("%s goes on after its end.", what)
	}
	return fields, nil
}

// text returns the field as a string.
func (f field) text() (string, error) {
	var v *string
	if err := json.Unmarshal(f.raw, &v); err != nil || v == nil {
		return "", errInvalid("%s must be a string.", quote(f.name))
	}
	return *v, nil
}

// bool returns the field as true or false.
func (f field) bool() (bool, error) {
	var v *bool
	if err := json.Unmarshal(f.raw, &v); err != nil || v == nil {
		return false, errInvalid("%s must be true or false.", quote(f.name))
	}
	return *v, nil
}

// list returns the field as a list of strings without repetitions; nil for null
// and for an empty list.
func (f field) list() ([]string, error) {
	var v []*string
	if err := json.Unmarshal(f.raw, &v); err != nil {
		return nil, errInvalid("%s must be a list of strings.", quote(f.name))
	}
	if len(v) > maxList {
		return nil, errInvalid("%s has too many entries: at most %d.", quote(f.name), maxList)
	}
	var out []string
	seen := map[string]bool{}
	for _, s := range v {
		if s == nil {
			return nil, errInvalid("%s must be a list of strings.", quote(f.name))
		}
		if !seen[*s] {
			seen[*s] = true
			out = append(out, *s)
		}
	}
	return out, nil
}

// number returns the field as the text of a JSON number.
func (f field) number() (string, error) {
	text := string(f.raw)
	if text == "" || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return "", errInvalid("%s must be a number.", quote(f.name))
	}
	return text, nil
}

// maxList is the largest number of entries of a list in a key.
const maxList = 500

// quote returns s for a message: cut when long, without control characters.
func quote(s string) string {
	const most = 60
	cut := false
	for i := range s {
		if i >= most {
			s, cut = s[:i], true
			break
		}
	}
	if cut {
		s += "..."
	}
	return strconv.Quote(s)
}
