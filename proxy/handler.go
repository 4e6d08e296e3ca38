package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
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
	// readAhead is how much of a body the server reads before it calls the
	// handler, in bytes.
	readAhead = 8 << 10
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
		BodyLimit:                    readAhead,
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
	app.Server().ConnState = func(conn net.Conn, state fasthttp.ConnState) {
		if state == fasthttp.StateClosed || state == fasthttp.StateHijacked {
			w.closed(conn, state == fasthttp.StateHijacked)
		}
	}
	// Calls need no routing, and may have methods that Fiber does not know; the
	// date is the provider's where the answer is.
	routed := app.Server().Handler
	app.Server().NoDefaultDate = true
	app.Server().Handler = func(ctx *fasthttp.RequestCtx) {
		switch {
		case isAmbiguous(&ctx.Request.Header):
			refuseAmbiguous(ctx)
		case isOurPath(ctx):
			h.serve(ctx)
		default:
			setDate(&ctx.Response.Header, "")
			routed(ctx)
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
	// lingering is how many connections [handler.linger] has.
	lingering atomic.Int32
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
	call := &Call{}
	h.read(ctx, call)
	call.Length = int64(ctx.Request.Header.ContentLength())
	err := h.g.precheck(context.Background(), call)
	if err == nil {
		return http.StatusContinue
	}
	h.fail(ctx, call, err)
	return ctx.Response.StatusCode()
}

// serve carries one request through the gateway.
func (h *handler) serve(ctx *fasthttp.RequestCtx) {
	v := &visit{h: h, patience: patience{conn: ctx.Conn()}}
	call := &v.call
	h.read(ctx, call)
	if h.preflight(ctx, call) {
		return
	}
	v.life.within(context.Background())
	call.Cancel, call.Hurry = v.stop, v.patience.hurry
	if stream := ctx.RequestBodyStream(); stream != nil {
		call.Length = int64(ctx.Request.Header.ContentLength())
		v.body = &guard{r: stream, conn: ctx.Conn(), length: call.Length}
		call.Body = v.body
	}
	v.unwatch = h.watcher.watch(ctx.Conn(), v.gone)
	resp, err := h.do(&v.life, call)
	if err != nil {
		v.end()
		if errors.Is(err, errGone) {
			h.g.log.Info().Str("request", call.ID).Str("path", withoutKey(call.Path)).Int("status", 499).Msg("the caller left")
			hangUp(ctx)
			return
		}
		h.fail(ctx, call, err)
		dropHeaders(&call.Header)
		if v.body != nil && !v.body.whole() {
			h.linger(ctx)
		}
		return
	}
	if b, ok := resp.Body.(*answerBody); ok {
		v.answer.Store(b)
	}
	v.out = outgoing{body: resp.Body, conn: ctx.Conn(), patience: &v.patience, unwatch: v.unwatch, visit: v}
	out := &v.out
	if resp.StatusCode == http.StatusSwitchingProtocols {
		h.relay(ctx, resp, out)
		return
	}
	if v.body != nil {
		// The provider may go on reading while it answers.
		out.upload, out.unread = v.body, !v.body.whole() && isLong(ctx)
	}
	h.reply(ctx, call, resp, out)
	dropHeaders(&call.Header)
}

// visit is what a call has to do with its connection.
type visit struct {
	h        *handler
	call     Call
	life     life
	patience patience
	body     *guard // nil when there is none
	unwatch  func()
	out      outgoing
	// answer is the provider's, once there is one.
	answer atomic.Pointer[answerBody]
}

// stop ends the call's context; nobody need wait for the body any longer.
func (v *visit) stop(cause error) {
	v.life.end(cause)
	if v.body != nil {
		v.body.release()
	}
}

// gone is told that the caller left.
func (v *visit) gone() {
	if b := v.answer.Load(); b != nil && b.ending.Load() {
		time.AfterFunc(usageWait, func() { v.stop(errGone) })
		return
	}
	v.stop(errGone)
}

func (v *visit) end() {
	v.unwatch()
	v.stop(errDone)
}

func (v *visit) broken(err error) {
	v.h.g.log.Error().Err(err).Str("request", v.call.ID).Msg("the answer broke off")
}

// do is [Gateway.Do], for which a mistake in the program ends one call only.
func (h *handler) do(ctx context.Context, call *Call) (resp *Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, &Error{Code: "internal_error", Err: fmt.Errorf("panic: %v\n%s", p, debug.Stack()),
				Message: "Something went wrong in the gateway. Its log says more under this request ID."}
		}
	}()
	return h.g.Do(ctx, call)
}
