package proxy

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// renderError answers what the server itself refuses, in fixed words: the
// error's own text may repeat the request, with its credential.
func renderError(c *fiber.Ctx, err error) error {
	status := http.StatusBadRequest
	var known *fiber.Error
	if errors.As(err, &known) {
		status = known.Code
	}
	message, typ, code := "The request is not well-formed HTTP.", typeRequest, "invalid_request"
	switch {
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		return NotFound(c)
	case status == http.StatusRequestHeaderFieldsTooLarge:
		message = "The request's headers are larger than this server takes."
	case status == http.StatusRequestTimeout:
		message = "The request did not arrive in time."
	case status >= 500:
		status, message, typ, code = http.StatusInternalServerError, "Something went wrong in the server. Its log says more.", typeAPI, "internal_error"
	}
	writeMalformed(c.Context(), status, message, typ, code)
	return nil
}

// writeMalformed answers a request of which nothing can be told, its path least.
func writeMalformed(ctx *fasthttp.RequestCtx, status int, message, typ, code string) {
	setDate(&ctx.Response.Header, "")
	ctx.Response.Header.Set("X-TokenHub-Error", "gateway")
	ctx.SetContentType("application/json")
	ctx.SetStatusCode(status)
	ctx.SetBodyString(`{"error":{"message":"` + message + `","type":"` + typ + `","code":"` + code + `"}}`)
}

// NotFound answers a path that is neither under /v1 nor any other that is
// served, and says what was probably meant.
func NotFound(c *fiber.Ctx) error {
	path := string(c.Context().URI().PathOriginal())
	message := "There is nothing at this path. The API for models is below /v1."
	if endpointOf("/v1"+strings.TrimPrefix(path, "/")) != other || endpointOf("/v1/"+strings.TrimLeft(path, "/")) != other {
		message = "There is nothing at this path. The base URL of TokenHub ends in /v1: this would be /v1/" + strings.TrimLeft(path, "/") + "."
	}
	if rest := strings.TrimLeft(path, "/"); strings.HasPrefix(rest, "v1/") && strings.HasPrefix(path, "//") {
		message = "There is nothing at this path. It begins with two slashes; remove the slash at the end of your base URL."
	}
	writeError(c.Context(), failf("not_found", "%s", message), path, "")
	return nil
}

// fail renders an error of the gateway's.
func (h *handler) fail(ctx *fasthttp.RequestCtx, call *Call, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: "internal_error", Message: "Something went wrong in the gateway. Its log says more under this request ID.", Err: err}
	}
	if ok, leftOut := h.refusals.log(time.Now()); ok || e.Status() >= 500 && e.Code != "server_busy" {
		event := h.g.log.Info()
		if e.Status() >= 500 {
			event = h.g.log.Warn()
		}
		if leftOut > 0 {
			event.Int64("left_out", leftOut)
		}
		if call.keyID != "" {
			event.Str("key", call.keyID)
		}
		event.Str("request", call.ID).Str("method", call.Method).Str("path", withoutKey(call.Path)).Int("status", e.Status()).
			Str("code", e.Code).AnErr("cause", e.Err).Str("from", call.From.String()).Msg("refused")
	}
	h.g.refused(e, call.From)
	writeError(ctx, e, call.Path, call.ID)
	h.allowOrigin(ctx, call)
}

// writeError writes an error in the dialect of the path.
func writeError(ctx *fasthttp.RequestCtx, e *Error, path, id string) {
	setDate(&ctx.Response.Header, "")
	var rates Headers
	rateHeaders(&rates, e.Minute)
	for _, h := range rates {
		ctx.Response.Header.Set(h.Name, h.Value)
	}
	if e.Status() == http.StatusUnauthorized {
		ctx.Response.Header.Set("WWW-Authenticate", "Bearer")
	}
	if e.RetryAfter > 0 {
		ctx.Response.Header.Set("Retry-After", retryAfter(e.RetryAfter))
	}
	if id != "" {
		ctx.Response.Header.Set("X-Inferoute-Request-Id", id)
	}
	ctx.Response.Header.Set("X-TokenHub-Error", "gateway")
	ctx.SetContentType("application/json")
	ctx.SetStatusCode(e.Status())
	ctx.SetBody(e.envelope(path))
}
