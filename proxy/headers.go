package proxy

import (
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// Header is one header, its name in canonical form.
type Header struct{ Name, Value string }

// Headers are the headers of a request or an answer: in their order, but for a
// few that the server puts first, and one that came several times as often.
type Headers []Header

// Get returns the first value of a header; empty when there is none.
func (h Headers) Get(name string) string {
	for i := range h {
		if h[i].Name == name {
			return h[i].Value
		}
	}
	return ""
}

// Values returns all values of a header.
func (h Headers) Values(name string) (values []string) {
	for i := range h {
		if h[i].Name == name {
			values = append(values, h[i].Value)
		}
	}
	return values
}

// has reports whether a header is there.
func (h Headers) has(name string) bool {
	for i := range h {
		if h[i].Name == name {
			return true
		}
	}
	return false
}

// Set gives a header one value, in place of all that it has.
func (h *Headers) Set(name, value string) {
	for i := range *h {
		if (*h)[i].Name == name {
			(*h)[i].Value = value
			rest := (*h)[i+1:]
			*h = (*h)[:i+1+len(slices.DeleteFunc(rest, func(o Header) bool { return o.Name == name }))]
			return
		}
	}
	*h = append(*h, Header{name, value})
}

// spareHeaders is memory of headers that is used again.
var spareHeaders = sync.Pool{New: func() any { return new([manyHeaders]Header) }}

// manyHeaders is more than most requests and answers have.
const manyHeaders = 40

// newHeaders returns memory for headers.
func newHeaders() Headers { return spareHeaders.Get().(*[manyHeaders]Header)[:0] }

// dropHeaders lets it be used for something else. Nobody may look at it any
// more; the texts stay what they are.
func dropHeaders(h *Headers) {
	if cap(*h) == manyHeaders {
		clear(*h)
		spareHeaders.Put((*[manyHeaders]Header)((*h)[:manyHeaders]))
	}
	*h = nil
}

// isHopByHop reports whether a header, in canonical form, belongs to one
// connection (RFC 9110 §7.6.1).
func isHopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate",
		"Proxy-Authorization", "Proxy-Authentication-Info", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// isCallerOnly reports whether a header of a request is for TokenHub alone:
// credentials, and what the provider has no business to know or to believe.
func isCallerOnly(name string) bool {
	switch name {
	case "Authorization", "X-Api-Key", "Api-Key", "Cookie", "Forwarded", "X-Real-Ip",
		"Host", "Content-Length", "Expect", "Http2-Settings":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-")
}

// isProviderOnly reports whether a header of an answer would act on TokenHub's
// own origin in a browser, or give orders to a proxy in front of TokenHub: nginx
// and others send the file that one of the latter names.
func isProviderOnly(name string) bool {
	switch name {
	case "Set-Cookie", "Set-Cookie2", "Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data",
		"X-Accel-Redirect", "X-Sendfile", "X-Lighttpd-Send-File", "X-Reproxy-Url":
		return true
	}
	return strings.HasPrefix(name, "Access-Control-")
}

// holds reports whether the secret stands in a value.
func holds(value, secret string) bool {
	return len(value) >= len(secret) && secret != "" && strings.Contains(value, secret)
}

// answerHeaders takes out of a provider's headers what must not reach the caller.
func answerHeaders(h *Headers) {
	named := h.named()
	*h = slices.DeleteFunc(*h, func(one Header) bool {
		return isHopByHop(one.Name) || isProviderOnly(one.Name) || isOurs(one.Name) || !httpguts.ValidHeaderFieldName(one.Name) ||
			named[one.Name]
	})
}

// isOurs reports whether only TokenHub may set the header.
func isOurs(name string) bool {
	return strings.HasPrefix(name, "X-Tokenhub-") || strings.HasPrefix(name, "X-Inferoute-")
}

// named are the headers that Connection names, but for those that belong to one
// connection anyway.
func (h Headers) named() (names map[string]bool) {
	for i := range h {
		if h[i].Name != "Connection" {
			continue
		}
		for name := range strings.SplitSeq(h[i].Value, ",") {
			name = strings.TrimSpace(name)
			if name == "" || strings.EqualFold(name, "keep-alive") || strings.EqualFold(name, "close") || strings.EqualFold(name, "upgrade") {
				continue
			}
			if names == nil {
				names = map[string]bool{}
			}
			names[http.CanonicalHeaderKey(name)] = true
		}
	}
	return names
}
