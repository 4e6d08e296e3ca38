package proxy

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// hopByHop are the headers that belong to one connection (RFC 9110 §7.6.1), in
// canonical form.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate",
	"Proxy-Authorization", "Proxy-Authentication-Info", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// callerOnly are the headers of a request that are for TokenHub alone:
// credentials, and what the provider has no business to know or to believe.
var callerOnly = []string{"Authorization", "X-Api-Key", "Api-Key", "Cookie", "Forwarded", "X-Real-Ip",
	"Host", "Content-Length", "Expect", "Http2-Settings"}

// providerOnly are the headers of an answer that would act on TokenHub's own
// origin in a browser, or give orders to a proxy in front of TokenHub: nginx and
// others send the file that one of the latter names.
var providerOnly = []string{"Set-Cookie", "Set-Cookie2", "Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data",
	"X-Accel-Redirect", "X-Sendfile", "X-Lighttpd-Send-File", "X-Reproxy-Url"}

// forwardHeaders returns what goes to the provider of the caller's headers. The
// values are shared with h. Programs that show their key in several ways at once
// are many: a header that holds the secret is a credential, whatever its name.
func forwardHeaders(h http.Header, upgrade bool, secret string) http.Header {
	out := make(http.Header, len(h)+2)
	for name, values := range h {
		if strings.HasPrefix(name, "X-Forwarded-") || isOurs(name) || !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		if holds(values, secret) && !(upgrade && name == "Sec-Websocket-Protocol") { // a list: see askUpgrade
			continue
		}
		out[name] = values
	}
	dropHopByHop(out)
	for _, name := range callerOnly {
		delete(out, name)
	}
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
	dropHopByHop(h)
	for _, name := range providerOnly {
		delete(h, name)
	}
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") || isOurs(name) || !httpguts.ValidHeaderFieldName(name) {
			delete(h, name)
		}
	}
}

// isOurs reports whether only TokenHub may set the header.
func isOurs(name string) bool {
	return strings.HasPrefix(name, "X-Tokenhub-") || strings.HasPrefix(name, "X-Inferoute-")
}

// dropHopByHop deletes the headers of one connection and those that Connection names.
func dropHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// header returns the first value of a header by its canonical name.
func header(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
