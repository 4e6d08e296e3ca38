package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

const (
	// headerTime is how long a caller may take to send its headers.
	headerTime = 15 * time.Second
	// writeTime is how long a caller may refuse to take bytes, hurryTime how long
	// once its answer has to end.
	writeTime = 60 * time.Second
	hurryTime = 500 * time.Millisecond
)

// Server returns a Fiber app, set up for untrusted callers and long streams,
// that serves /v1 by the gateway. Other routes may be added to it; the bodies
// of their requests are streams too.
//
// The settings are the ones under which the traps of Fiber and fasthttp were
// tried: bodies are never parsed, decoded or buffered by the server, names of
// paths are exact, and no error repeats what the caller sent.
func (g *Gateway) Server() (*fiber.App, error) {
	app := fiber.New(fiber.Config{
		AppName:                      "TokenHub",
		DisableStartupMessage:        true,
		CaseSensitive:                true,
		StrictRouting:                true,
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		DisableDefaultContentType:    true,
		ReadTimeout:                  headerTime,
		WriteTimeout:                 writeTime,
		IdleTimeout:                  75 * time.Second,
		ReadBufferSize:               16 << 10,
		BodyLimit:                    8 << 10, // only how much is read ahead
		Concurrency:                  20_000,
		ErrorHandler:                 renderError,
	})
	w, err := newWatcher()
	if err != nil {
		return nil, err
	}
	go w.run()
	h := &handler{g: g, watcher: w}
	app.Server().SecureErrorLogMessage = true
	app.Server().ExpectHandler = h.expect
	app.Server().Logger = quiet{}
	app.Use("/v1", func(c *fiber.Ctx) error {
		if !isOurPath(c.Context()) {
			return c.Next() // /v1beta, say
		}
		h.serve(c.Context())
		return nil
	})
	// Fiber refuses methods that it does not know, and the date is the provider's
	// where the answer is.
	routed := app.Server().Handler
	app.Server().NoDefaultDate = true
	app.Server().Handler = func(ctx *fasthttp.RequestCtx) {
		switch {
		case isAmbiguous(&ctx.Request.Header):
			refuseAmbiguous(ctx)
		case !isOurPath(ctx):
			setDate(&ctx.Response.Header, "")
			routed(ctx)
		case slices.Contains(fiber.DefaultMethods, string(ctx.Method())):
			routed(ctx)
		default:
			h.serve(ctx)
		}
	}
	return app, nil
}

// isOurPath reports whether the path is /v1 or below.
func isOurPath(ctx *fasthttp.RequestCtx) bool {
	path := ctx.URI().PathOriginal()
	return bytes.HasPrefix(path, []byte("/v1")) && (len(path) == 3 || path[3] == '/')
}

// quiet drops what fasthttp would print: it may hold bytes of requests.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// handler is the door between Fiber and the gateway.
type handler struct {
	g       *Gateway
	watcher *watcher
	// refusals bounds what is logged of them.
	refusals refusals
}

// expect decides about a request that waits for 100 Continue: what can be
// refused by the headers is refused without reading the body.
func (h *handler) expect(ctx *fasthttp.RequestCtx) int {
	if isAmbiguous(&ctx.Request.Header) {
		refuseAmbiguous(ctx)
		return http.StatusBadRequest
	}
	if !isOurPath(ctx) {
		return http.StatusContinue
	}
	call := h.call(ctx)
	call.Length = int64(ctx.Request.Header.ContentLength())
	c, cancel := context.WithCancelCause(context.Background())
	defer cancel(errDone)
	err := h.g.precheck(c, call)
	if err == nil {
		return http.StatusContinue
	}
	h.fail(ctx, call, err)
	return ctx.Response.StatusCode()
}

// serve carries one request through the gateway.
func (h *handler) serve(ctx *fasthttp.RequestCtx) {
	call := h.call(ctx)
	if h.preflight(ctx, call) {
		return
	}
	c, cancel := context.WithCancelCause(context.Background())
	call.Cancel = cancel
	conn := ctx.Conn()
	wait := &patience{conn: conn}
	call.Hurry = wait.hurry
	stop := h.watcher.watch(conn, func() { cancel(errGone) })

	var body *guard
	if stream := ctx.RequestBodyStream(); stream != nil {
		call.Length = int64(ctx.Request.Header.ContentLength())
		body = &guard{r: stream, conn: conn, length: call.Length}
		call.Body = body
		// Who waits for the body need not wait any longer when the call ends.
		context.AfterFunc(c, body.release)
	}
	resp, err := h.do(c, call)
	if err != nil {
		stop()
		cancel(errDone)
		if errors.Is(err, errGone) {
			h.g.log.Info().Str("request", call.ID).Str("path", withoutKey(call.Path)).Int("status", 499).Msg("the caller left")
			hangUp(ctx)
			return
		}
		h.fail(ctx, call, err)
		if body != nil {
			if body.release(); !body.whole() {
				h.linger(ctx)
			}
		}
		return
	}
	out := &outgoing{body: resp.Body, conn: conn, patience: wait, unwatch: stop, end: func() { stop(); cancel(errDone) },
		broken: func(err error) { h.g.log.Error().Err(err).Str("request", call.ID).Msg("the answer broke off") }}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		h.relay(ctx, resp, out)
		return
	}
	if body != nil {
		// The provider may go on reading while it answers.
		out.upload, out.unread = body, !body.whole() && isLong(ctx)
	}
	h.reply(ctx, call, resp, out)
}

// do is [Gateway.Do], for which a mistake in the program ends one call only.
func (h *handler) do(ctx context.Context, call *Call) (resp *http.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, &Error{Code: "internal_error", Err: fmt.Errorf("panic: %v\n%s", p, debug.Stack()),
				Message: "Something went wrong in the gateway. Its log says more under this request ID."}
		}
	}()
	return h.g.Do(ctx, call)
}

// call copies a request out of the server's memory.
func (h *handler) call(ctx *fasthttp.RequestCtx) *Call {
	head := &ctx.Request.Header
	uri := ctx.URI()
	call := &Call{ID: newRequestID(), Start: h.g.now(), Method: string(head.Method()),
		Path: string(uri.PathOriginal()), Query: string(uri.QueryString()), Header: make(http.Header, 16)}
	if call.Query == "" {
		call.BareQuery = strings.HasSuffix(string(head.RequestURI()), "?")
	}
	for name, value := range head.All() {
		key := string(name)
		call.Header[key] = append(call.Header[key], string(value))
	}
	call.From = callerAddress(ctx.RemoteAddr(), call.Header["X-Forwarded-For"], h.g.state.Load().cfg.TrustedProxies)
	call.Upgrade = asksWebSocket(call.Method, call.Header)
	return call
}
