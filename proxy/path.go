package proxy

import (
	"strings"
)

// checkPath refuses raw paths that two programs could read differently: dot
// segments, empty segments, backslashes and control characters, encoded or not.
// What it lets through is forwarded as it was sent.
func checkPath(raw string) *Error {
	plain := raw
	if strings.IndexByte(raw, '%') >= 0 {
		plain = unescapePath(raw)
	}
	for i := 0; i < len(plain); i++ {
		switch c := plain[i]; {
		case c == '\\', c == '#', c < 0x20, c == 0x7f:
			return failf("invalid_path", "The path holds a backslash, a # or a control character. Send it without.")
		case c == '/' && i+1 < len(plain) && plain[i+1] == '/':
			return failf("invalid_path", "The path holds an empty segment (//). If your base URL ends in a slash, remove that slash.")
		case c == '/' && isDots(plain[i+1:]):
			return failf("invalid_path", "The path holds a dot segment (. or ..). Send it resolved.")
		}
	}
	return nil
}

// isDots reports whether rest begins with a segment of one or two dots.
func isDots(rest string) bool {
	n := 0
	for n < len(rest) && rest[n] == '.' {
		n++
	}
	return (n == 1 || n == 2) && (n == len(rest) || rest[n] == '/' || rest[n] == ';')
}

// unescapePath decodes percent escapes once; a broken escape stays as it is.
func unescapePath(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v := hex4([]byte(s[i+1 : i+3])); v >= 0 {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// secretRun is the length of what follows th- in the text of a key.
const secretRun = 59

// withoutKey is a path, or a model's name, as it may be logged and journaled: a
// run of letters and digits as long as a key's is cut behind its first ten,
// which are the key's ID.
func withoutKey(path string) string {
	run := 0
	for i := 0; i <= len(path); i++ {
		if i < len(path) && isBase62(path[i]) {
			run++
			continue
		}
		if run >= secretRun {
			return path[:i-run+10] + "…" + withoutKey(path[i:])
		}
		run = 0
	}
	return path
}

func isBase62(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
