package proxy

import (
	"net/http"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// Header is one header of a request, its name in canonical form.
type Header struct{ Name, Value string }

// Headers are the headers of a request as they came: in their order, and one
// that came several times as often.
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

// spareHeaders is memory of headers, and spareMaps of answers', that is used
// again.
var (
	spareHeaders = sync.Pool{New: func() any { return new([fewHeaders]Header) }}
	spareMaps    = sync.Pool{New: func() any { return make(http.Header, 14) }}
)

const (
	// fewHeaders is how many headers most requests have at most.
	fewHeaders = 24
	// maxSpare is the largest number of headers whose map is used again.
	maxSpare = 64
)

// newHeaders returns memory for the headers of a request.
func newHeaders() Headers { return spareHeaders.Get().(*[fewHeaders]Header)[:0] }

// dropHeaders lets it be used for something else. Nobody may look at it any
// more; the texts stay what they are.
func dropHeaders(h *Headers) {
	if cap(*h) == fewHeaders {
		memory := (*[fewHeaders]Header)((*h)[:fewHeaders])
		clear(memory[:])
		spareHeaders.Put(memory)
	}
	*h = nil
}

// newHeader returns an empty map of headers.
func newHeader() http.Header {
	h, _ := spareMaps.Get().(http.Header)
	return h
}

// dropHeader is the same for a map.
func dropHeader(h *http.Header) {
	if *h != nil && len(*h) <= maxSpare {
		clear(*h)
		spareMaps.Put(*h)
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
func answerHeaders(h http.Header) {
	dropNamed(h, h["Connection"])
	for name := range h {
		if isHopByHop(name) || isProviderOnly(name) || isOurs(name) || !httpguts.ValidHeaderFieldName(name) {
			delete(h, name)
		}
	}
}

// isOurs reports whether only TokenHub may set the header.
func isOurs(name string) bool {
	return strings.HasPrefix(name, "X-Tokenhub-") || strings.HasPrefix(name, "X-Inferoute-")
}

// dropNamed deletes the headers that Connection names.
func dropNamed(h http.Header, connection []string) {
	for _, line := range connection {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
}

// isNamed reports whether Connection names a header, in canonical form.
func isNamed(h Headers, name string) bool {
	for i := range h {
		if h[i].Name != "Connection" {
			continue
		}
		for named := range strings.SplitSeq(h[i].Value, ",") {
			if strings.EqualFold(strings.TrimSpace(named), name) {
				return true
			}
		}
	}
	return false
}

// header returns the first value of a header by its canonical name.
func header(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
