package proxy

import (
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"
)

// read copies a request out of the server's memory.
func (h *handler) read(ctx *fasthttp.RequestCtx, call *Call) {
	head := &ctx.Request.Header
	uri := ctx.URI()
	call.ID, call.Start, call.Method = newRequestID(), h.g.now(), methodOf(head.Method())
	call.Path, call.Query, call.Header = string(uri.PathOriginal()), string(uri.QueryString()), copyHeaders(head)
	if call.Query == "" {
		uri := head.RequestURI()
		call.BareQuery = len(uri) > 0 && uri[len(uri)-1] == '?'
	}
	call.From = callerAddress(ctx.RemoteAddr(), call.Header.Values("X-Forwarded-For"), h.g.state.Load().cfg.TrustedProxies)
	call.Upgrade = asksWebSocket(call.Method, call.Header)
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

// copyHeaders copies all headers; their texts have one piece of memory.
func copyHeaders(head *fasthttp.RequestHeader) Headers {
	var text strings.Builder
	text.Grow(len(head.RawHeaders()))
	out := newHeaders()
	for name, value := range head.All() {
		text.Write(name)
		text.Write(value)
		out = append(out, Header{})
	}
	all, i := text.String(), 0
	for name, value := range head.All() {
		out[i] = Header{all[:len(name)], all[len(name) : len(name)+len(value)]}
		all = all[len(name)+len(value):]
		i++
	}
	return out
}
