package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a JSON body, so that a hostile one costs no stack.
const maxDepth = 512

var errJSON = errors.New("not valid JSON")

const (
	// longString is from how many bytes on a string may be one of base64.
	longString = 4096
	// maxDataURL is how far in a data URL its data begins at most.
	maxDataURL = 256
)

// cursor walks once, forward, over one JSON text without decoding it. It
// validates what it passes exactly as far as encoding/json does.
type cursor struct {
	b []byte
	i int
	// base64 is told of each string above 4 KiB that looks like base64: its
	// length in bytes. Nil = nobody asks.
	base64 func(n int)
}

func (c *cursor) space() {
	for c.i < len(c.b) {
		switch c.b[c.i] {
		case ' ', '\t', '\n', '\r':
			c.i++
		default:
			return
		}
	}
}

// next skips space and returns the byte that follows, 0 at the end.
func (c *cursor) next() byte {
	c.space()
	if c.i < len(c.b) {
		return c.b[c.i]
	}
	return 0
}

// value skips one value of any kind.
func (c *cursor) value(depth int) error {
	if depth > maxDepth {
		return errJSON
	}
	switch ch := c.next(); {
	case ch == '"':
		_, err := c.str()
		return err
	case ch == '{':
		return c.object(depth, func([]byte) error { return c.value(depth + 1) })
	case ch == '[':
		return c.array(depth, func() error { return c.value(depth + 1) })
	case ch == '-' || ch >= '0' && ch <= '9':
		return c.number()
	case ch == 't':
		return c.literal("true")
	case ch == 'f':
		return c.literal("false")
	case ch == 'n':
		return c.literal("null")
	}
	return errJSON
}

// object walks an object and calls member at the value of each key, which
// member must consume. The key is given raw, between its quotes.
func (c *cursor) object(depth int, member func(rawKey []byte) error) error {
	if c.next() != '{' || depth > maxDepth {
		return errJSON
	}
	c.i++
	if c.next() == '}' {
		c.i++
		return nil
	}
	for {
		if c.next() != '"' {
			return errJSON
		}
		key, err := c.str()
		if err != nil {
			return err
		}
		if c.next() != ':' {
			return errJSON
		}
		c.i++
		c.space()
		if err := member(key); err != nil {
			return err
		}
		switch c.next() {
		case ',':
			c.i++
		case '}':
			c.i++
			return nil
		default:
			return errJSON
		}
	}
}

// array walks an array and calls element at each value, which it must consume.
func (c *cursor) array(depth int, element func() error) error {
	if c.next() != '[' || depth > maxDepth {
		return errJSON
	}
	c.i++
	if c.next() == ']' {
		c.i++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		switch c.next() {
		case ',':
			c.i++
		case ']':
			c.i++
			return nil
		default:
			return errJSON
		}
	}
}

// str skips a string and returns what stands between its quotes, raw.
func (c *cursor) str() ([]byte, error) {
	start := c.i + 1
	i := start
	for {
		q := bytes.IndexByte(c.b[i:], '"')
		if q < 0 {
			return nil, errJSON
		}
		part := c.b[i : i+q]
		if bytes.IndexByte(part, '\\') < 0 {
			// What is base64 has no control characters but before its data.
			if i == start && c.base64 != nil && q > longString && !hasControl(part[:maxDataURL]) && looksBase64(part) {
				c.base64(q)
				c.i = i + q + 1
				return part, nil
			}
			if !hasControl(part) {
				i += q
				break
			}
		}
		j, end, err := escapes(c.b, i)
		if err != nil {
			return nil, err
		}
		i = j
		if end {
			break
		}
	}
	c.i = i + 1
	s := c.b[start:i]
	if c.base64 != nil && len(s) > longString && looksBase64(s) {
		c.base64(len(s))
	}
	return s, nil
}

// escapable are the bytes that may stand behind a backslash, but for the u.
var escapable = [256]bool{'"': true, '\\': true, '/': true, 'b': true, 'f': true, 'n': true, 'r': true, 't': true}

// escapes walks byte by byte from i until the string's closing quote.
func escapes(b []byte, i int) (at int, end bool, err error) {
	for i < len(b) {
		switch ch := b[i]; {
		case ch == '"':
			return i, true, nil
		case ch < 0x20:
			return 0, false, errJSON
		case ch != '\\':
			i++
		case i+1 >= len(b):
			return 0, false, errJSON
		case b[i+1] == 'u':
			if i+6 > len(b) || hex4(b[i+2:i+6]) < 0 {
				return 0, false, errJSON
			}
			i += 6
		case escapable[b[i+1]]:
			i += 2
		default:
			return 0, false, errJSON
		}
	}
	return 0, false, errJSON
}

// hasControl looks at eight bytes at a time: one below 0x20 borrows from its
// highest bit when 0x20 is taken from each.
func hasControl(b []byte) bool {
	const each, highest = 0x0101010101010101, 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		v := binary.LittleEndian.Uint64(b)
		if (v-0x20*each)&^v&highest != 0 {
			return true
		}
	}
	for _, ch := range b {
		if ch < 0x20 {
			return true
		}
	}
	return false
}

func (c *cursor) literal(word string) error {
	if !bytes.HasPrefix(c.b[c.i:], []byte(word)) {
		return errJSON
	}
	c.i += len(word)
	return nil
}

// number skips a number in JSON's grammar.
func (c *cursor) number() error {
	i := c.i
	digits := func() bool {
		from := i
		for i < len(c.b) && c.b[i] >= '0' && c.b[i] <= '9' {
			i++
		}
		return i > from
	}
	if c.b[i] == '-' {
		i++
	}
	if i < len(c.b) && c.b[i] == '0' {
		i++
	} else if !digits() {
		return errJSON
	}
	if i < len(c.b) && c.b[i] == '.' {
		i++
		if !digits() {
			return errJSON
		}
	}
	if i < len(c.b) && (c.b[i] == 'e' || c.b[i] == 'E') {
		i++
		if i < len(c.b) && (c.b[i] == '+' || c.b[i] == '-') {
			i++
		}
		if !digits() {
			return errJSON
		}
	}
	c.i = i
	return nil
}

func hex4(b []byte) rune {
	var r rune
	for _, ch := range b {
		switch {
		case ch >= '0' && ch <= '9':
			ch -= '0'
		case ch >= 'a' && ch <= 'f':
			ch -= 'a' - 10
		case ch >= 'A' && ch <= 'F':
			ch -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(ch)
	}
	return r
}

// unescape gives the text of a raw string that str has passed.
func unescape(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			continue
		}
		i++
		switch raw[i] {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(raw[i+1 : i+5])
			i += 4
			if utf16.IsSurrogate(r) && i+6 < len(raw) && raw[i+1] == '\\' && raw[i+2] == 'u' {
				if r2 := utf16.DecodeRune(r, hex4(raw[i+3:i+7])); r2 != utf8.RuneError {
					r = r2
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, raw[i])
		}
	}
	return string(out)
}

// looksBase64 reports whether a raw string is base64, as such or in a data URL.
// PHP escapes the slashes of JSON strings; those count as slashes.
func looksBase64(s []byte) bool {
	if bytes.HasPrefix(s, []byte("data:")) {
		if i := bytes.IndexByte(s[:min(len(s), maxDataURL)], ','); i >= 0 {
			s = s[i+1:]
		}
	}
	for i := 0; i < len(s); i++ {
		for ; len(s)-i >= 8; i += 8 {
			t, p := &base64Bytes, s[i:i+8]
			if !(t[p[0]] && t[p[1]] && t[p[2]] && t[p[3]] && t[p[4]] && t[p[5]] && t[p[6]] && t[p[7]]) {
				break
			}
		}
		if i < len(s) && !base64Bytes[s[i]] && (s[i] != '\\' || i+1 >= len(s) || s[i+1] != '/') {
			return false
		}
	}
	return true
}

// base64Bytes are the bytes of both base64 alphabets, and of the padding.
var base64Bytes = func() (t [256]bool) {
	for _, ch := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/-_=") {
		t[ch] = true
	}
	return t
}()
