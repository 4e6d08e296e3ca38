package proxy

import (
	"net/http"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// headerMaps are maps without anything in them: a request needs three, and to
// make one costs more than to fill it.
var headerMaps = sync.Pool{New: func() any { return make(http.Header, 14) }}

// newHeader returns an empty map of headers.
func newHeader() http.Header {
	h, _ := headerMaps.Get().(http.Header)
	return h
}

// dropHeader lets the map be used for something else. Nobody may look at it any
// more; the values in it stay who they are.
func dropHeader(h *http.Header) {
	if *h != nil && len(*h) <= maxDropped {
		clear(*h)
		headerMaps.Put(*h)
	}
	*h = nil
}

// maxDropped is the largest number of headers whose map is used again.
const maxDropped = 64

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

// forwardHeaders returns what goes to the provider of the caller's headers. The
// values are shared with h. Programs that show their key in several ways at once
// are many: a header that holds the secret is a credential, whatever its name.
func forwardHeaders(h http.Header, upgrade bool, secret string) http.Header {
	out := newHeader()
	for name, values := range h {
		if isHopByHop(name) || isCallerOnly(name) || isOurs(name) || !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		if holds(values, secret) && !(upgrade && name == "Sec-Websocket-Protocol") { // a list: see askUpgrade
			continue
		}
		out[name] = values
	}
	dropNamed(out, h["Connection"])
	if upgrade {
		askUpgrade(out)
	}
	// The transport would invent a User-Agent, and would send a request with
	// either of these a second time on its own (it looks for this spelling).
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := out[name]; ok {
			delete(out, name)
			out[strings.ToLower(name)] = values
		}
	}
	return out
}

// holds reports whether the secret stands in one of the values.
func holds(values []string, secret string) bool {
	for _, v := range values {
		if len(v) >= len(secret) && secret != "" && strings.Contains(v, secret) {
			return true
		}
	}
	return false
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

// header returns the first value of a header by its canonical name.
func header(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
