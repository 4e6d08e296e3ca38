package proxy

import (
	"net/http"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// exposed are the headers that pages of other origins may read.
const exposed = "X-Inferoute-Request-Id, X-Inferoute-Provider, X-TokenHub-Error, Retry-After, " +
	"X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, X-RateLimit-Reset-Requests, " +
	"X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Tokens, X-RateLimit-Reset-Tokens, X-Request-Id, Request-Id"

// origin is the call's origin if its pages may call /v1, else empty.
func (h *handler) origin(call *Call) string {
	origin := call.Header.Get("Origin")
	if origin == "" {
		return ""
	}
	allowed := h.g.state.Load().cfg.CORSOrigins
	if slices.Contains(allowed, origin) || slices.Contains(allowed, "*") {
		return origin
	}
	return ""
}

// preflight answers a browser's question whether a page may call; it needs no key.
func (h *handler) preflight(ctx *fasthttp.RequestCtx, call *Call) bool {
	method := call.Header.Get("Access-Control-Request-Method")
	if call.Method != http.MethodOptions || method == "" || h.origin(call) == "" {
		return false
	}
	out := &ctx.Response.Header
	setDate(out, "")
	h.allowOrigin(ctx, call)
	out.Set("Access-Control-Allow-Methods", method)
	if names := call.Header.Get("Access-Control-Request-Headers"); names != "" {
		out.Set("Access-Control-Allow-Headers", strings.ToValidUTF8(names, ""))
	}
	out.Set("Access-Control-Max-Age", "600")
	ctx.SetStatusCode(http.StatusNoContent)
	return true
}

// allowOrigin marks an answer as readable for the page that asked.
func (h *handler) allowOrigin(ctx *fasthttp.RequestCtx, call *Call) {
	if len(h.g.state.Load().cfg.CORSOrigins) == 0 {
		return
	}
	out := &ctx.Response.Header
	out.Add("Vary", "Origin")
	if origin := h.origin(call); origin != "" {
		out.Set("Access-Control-Allow-Origin", origin)
		out.Set("Access-Control-Expose-Headers", exposed)
	}
}
