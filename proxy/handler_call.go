package proxy

import (
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"
)

// call copies a request out of the server's memory.
func (h *handler) call(ctx *fasthttp.RequestCtx) *Call {
	head := &ctx.Request.Header
	uri := ctx.URI()
	call := &Call{ID: newRequestID(), Start: h.g.now(), Method: methodOf(head.Method()),
		Path: string(uri.PathOriginal()), Query: string(uri.QueryString()), Header: copyHeaders(head)}
	if call.Query == "" {
		uri := head.RequestURI()
		call.BareQuery = len(uri) > 0 && uri[len(uri)-1] == '?'
	}
	call.From = callerAddress(ctx.RemoteAddr(), call.Header["X-Forwarded-For"], h.g.state.Load().cfg.TrustedProxies)
	call.Upgrade = asksWebSocket(call.Method, call.Header)
	return call
}

// methodOf is a method's name in memory of its own.
func methodOf(name []byte) string {
	switch string(name) {
	case http.MethodPost:
		return http.MethodPost
	case http.MethodGet:
		return http.MethodGet
	}
	return string(name)
}

// copyHeaders copies all headers; their texts and their lists have one piece of
// memory each.
func copyHeaders(head *fasthttp.RequestHeader) http.Header {
	var text strings.Builder
	text.Grow(len(head.RawHeaders()))
	n := 0
	for name, value := range head.All() {
		text.Write(name)
		text.Write(value)
		n++
	}
	all := text.String()
	out, lists := newHeader(), make([]string, n)
	for name, value := range head.All() {
		key := all[:len(name)]
		lists[0] = all[len(name) : len(name)+len(value)]
		all = all[len(name)+len(value):]
		if had, ok := out[key]; ok {
			out[key] = append(had, lists[0])
		} else {
			out[key] = lists[:1:1]
		}
		lists = lists[1:]
	}
	return out
}
