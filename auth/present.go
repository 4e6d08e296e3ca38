package auth

import "strings"

// protocolPrefix begins the WebSocket subprotocol in which browsers, which
// can't set headers there, present a key.
const protocolPrefix = "openai-insecure-api-key."

// Presented finds the one secret that a request presents: in the values of its
// Authorization headers (scheme Bearer, in any case), of its x-api-key headers,
// and, on WebSocket upgrades, of its Sec-WebSocket-Protocol headers (pass nil on
// others). An empty value presents nothing; all others must present the same.
//
// The error is a [*Refused]: Missing when there is none, Differing when there
// are several, Malformed when Authorization has another scheme. The secret is
// not judged otherwise; that is for [Verifier.Verify].
func Presented(authorization, apiKey, protocols []string) (secret string, err error) {
	found := finding{}
	for _, v := range authorization {
		v = trim(v)
		if v == "" {
			continue
		}
		scheme, rest := v, ""
		if i := strings.IndexAny(v, " \t"); i >= 0 {
			scheme, rest = v[:i], trim(v[i:])
		}
		if !strings.EqualFold(scheme, "bearer") {
			return "", &Refused{Reason: Malformed}
		}
		found.add(rest)
	}
	for _, v := range apiKey {
		found.add(trim(v))
	}
	for _, list := range protocols {
		for v := range strings.SplitSeq(list, ",") {
			if s, ok := strings.CutPrefix(trim(v), protocolPrefix); ok {
				found.add(s)
			}
		}
	}
	switch {
	case found.differ:
		return "", &Refused{Reason: Differing}
	case found.secret == "":
		return "", &Refused{Reason: Missing}
	}
	return found.secret, nil
}

// finding collects what the headers of one request present.
type finding struct {
	secret string
	differ bool
}

func (f *finding) add(secret string) {
	switch {
	case secret == "":
	case f.secret == "":
		f.secret = secret
	case f.secret != secret:
		f.differ = true
	}
}

// trim cuts the white space that HTTP allows around a value.
func trim(s string) string { return strings.Trim(s, " \t") }

// QueryHasKey reports whether a parameter of a raw query holds what looks like
// a key or token: a value that begins, once decoded, with "th-" or "tha-". Such
// a request is refused, since queries end up in logs and histories. Everything
// that some server might take for a separator or an escape is taken for one.
func QueryHasKey(rawQuery string) bool {
	for rawQuery != "" {
		piece := rawQuery
		if i := strings.IndexAny(rawQuery, "&;"); i >= 0 {
			piece, rawQuery = rawQuery[:i], rawQuery[i+1:]
		} else {
			rawQuery = ""
		}
		if _, value, ok := strings.Cut(piece, "="); ok && (begins(value, Key) || begins(value, Token)) {
			return true
		}
	}
	return false
}

// begins reports whether an encoded value begins with kind once it is decoded.
func begins(value string, kind Kind) bool {
	for i := 0; i < len(kind); i++ {
		if value == "" {
			return false
		}
		c, n := value[0], 1
		if c == '%' && len(value) >= 3 {
			if hi, lo := unhex(value[1]), unhex(value[2]); hi >= 0 && lo >= 0 {
				c, n = byte(hi<<4|lo), 3
			}
		}
		if c != kind[i] {
			return false
		}
		value = value[n:]
	}
	return true
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
