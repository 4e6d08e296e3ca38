package proxy

import (
	"net/url"
	"strings"
)

// queryValue returns the decoded value of the first parameter of that name in a
// raw query, "" without one.
func queryValue(raw, name string) string {
	for pair := range strings.SplitSeq(raw, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if k, err := url.QueryUnescape(key); err != nil || k != name {
			continue
		}
		v, err := url.QueryUnescape(value)
		if err != nil {
			return value
		}
		return v
	}
	return ""
}

// countQuery is how many parameters of that name are in a raw query.
func countQuery(raw, name string) (n int) {
	for pair := range strings.SplitSeq(raw, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if k, err := url.QueryUnescape(key); err == nil && k == name {
			n++
		}
	}
	return n
}

// setQueryValue replaces the value of the first parameter of that name; all
// other bytes of the raw query stay.
func setQueryValue(raw, name, value string) string {
	pos := 0
	for pair := range strings.SplitSeq(raw, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if k, err := url.QueryUnescape(key); err == nil && k == name {
			return raw[:pos] + key + "=" + url.QueryEscape(value) + raw[pos+len(pair):]
		}
		pos += len(pair) + 1
	}
	return raw
}
