package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

const (
	// headerTime is how long a caller may take to send its headers.
	headerTime = 15 * time.Second
	// writeTime is how long a caller may refuse to take bytes.
	writeTime = 60 * time.Second
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
		// Fiber's group matches /v1 and /v1/...; nothing else is ours.
		h.serve(c.Context())
		return nil
	})
	return app, nil
}

// quiet drops what fasthttp would print: it may hold bytes of requests.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

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
	c.Context().Response.Header.Set("X-TokenHub-Error", "gateway")
	c.Context().SetContentType("application/json")
	c.Context().SetStatusCode(status)
	c.Context().SetBodyString(`{"error":{"message":"` + message + `","type":"` + typ + `","code":"` + code + `"}}`)
	return nil
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

// handler is the door between Fiber and the gateway.
type handler struct {
	g       *Gateway
	watcher *watcher
}

// expect decides about a request that waits for 100 Continue: what can be
// refused by the headers is refused without reading the body.
func (h *handler) expect(ctx *fasthttp.RequestCtx) int {
	path := string(ctx.URI().PathOriginal())
	if path != "/v1" && !strings.HasPrefix(path, "/v1/") {
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
	call.Hurry = func() { _ = conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)) }
	stop := h.watcher.watch(conn, func() { cancel(errGone) })

	var body *guard
	if stream := ctx.RequestBodyStream(); stream != nil {
		body = &guard{r: stream, conn: conn}
		call.Body, call.Length = body, int64(ctx.Request.Header.ContentLength())
	}
	resp, err := h.g.Do(c, call)
	if err != nil {
		stop()
		cancel(errDone)
		if errors.Is(err, errGone) {
			h.g.log.Info().Str("request", call.ID).Str("path", call.Path).Int("status", 499).Msg("the caller left")
			hangUp(ctx)
			return
		}
		if body != nil && !body.release() {
			h.linger(ctx)
		}
		h.fail(ctx, call, err)
		return
	}
	out := &outgoing{body: resp.Body, conn: conn, end: func() { stop(); cancel(errDone) }}
	if body != nil && resp.StatusCode < 400 {
		// The provider may go on reading while it answers.
		out.upload = body
	} else if body != nil && !body.release() {
		h.linger(ctx)
	}
	h.reply(ctx, call, resp, out)
}

// reply hands an answer to the server, which reads its body until the end.
func (h *handler) reply(ctx *fasthttp.RequestCtx, call *Call, resp *http.Response, body *outgoing) {
	out := &ctx.Response
	out.SetStatusCode(resp.StatusCode)
	for name, values := range resp.Header {
		switch name {
		case "Content-Length", "Date":
			continue
		}
		for _, v := range values {
			out.Header.Add(name, v)
		}
	}
	h.allowOrigin(ctx, call)
	length := resp.ContentLength
	stream := isStream(resp)
	switch {
	case call.Method == http.MethodHead:
		_ = body.Close()
		out.SkipBody = true
		if length >= 0 {
			out.Header.SetContentLength(int(length))
		}
		return
	case !h.g.hasBody(resp):
		_ = body.Close()
		return
	case length < 0 && !ctx.Request.Header.IsHTTP11():
		h.unchunked(ctx, body)
		return
	}
	out.ImmediateHeaderFlush = stream
	ctx.SetBodyStream(body, int(length))
}

// unchunked answers a caller of HTTP/1.0, which knows no chunks: the end of the
// answer is the end of the connection.
func (h *handler) unchunked(ctx *fasthttp.RequestCtx, body *outgoing) {
	ctx.Response.Header.SetConnectionClose()
	ctx.Response.Header.SetNoDefaultContentType(true)
	head := append([]byte(nil), ctx.Response.Header.Header()...)
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(conn net.Conn) {
		defer func() { _ = body.Close() }()
		_ = conn.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := conn.Write(head); err != nil {
			return
		}
		if _, err := io.Copy(conn, body); err != nil {
			abort(body.conn)
		}
	})
}

// outgoing is an answer's body as the server reads it.
type outgoing struct {
	body io.ReadCloser
	conn net.Conn
	// upload is the request's body where it is still being read.
	upload *guard
	end    func()
}

func (o *outgoing) Read(p []byte) (int, error) {
	n, err := o.body.Read(p)
	// The caller has this long to take what was just read.
	if e := o.conn.SetWriteDeadline(time.Now().Add(writeTime)); e != nil && err == nil {
		err = e
	}
	return n, err
}

func (o *outgoing) Close() error {
	err := o.body.Close()
	if o.upload != nil {
		o.upload.release()
	}
	o.end()
	return err
}

// fail renders an error of the gateway's.
func (h *handler) fail(ctx *fasthttp.RequestCtx, call *Call, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: "internal_error", Message: "Something went wrong in the gateway. Its log says more under this request ID.", Err: err}
	}
	event := h.g.log.Info()
	if e.Status() >= 500 {
		event = h.g.log.Warn()
	}
	event.Str("request", call.ID).Str("method", call.Method).Str("path", call.Path).Int("status", e.Status()).
		Str("code", e.Code).AnErr("cause", e.Err).Str("from", call.From.String()).Msg("refused")
	writeError(ctx, e, call.Path, call.ID)
	h.allowOrigin(ctx, call)
}

// writeError writes an error in the dialect of the path.
func writeError(ctx *fasthttp.RequestCtx, e *Error, path, id string) {
	header := make(http.Header)
	rateHeaders(header, e.Minute)
	for name, values := range header {
		ctx.Response.Header.Set(name, values[0])
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
	call.Upgrade = strings.EqualFold(header(call.Header, "Upgrade"), "websocket")
	return call
}

// callerAddress is the peer's address, or, where the peer is a trusted proxy,
// the rightmost address in X-Forwarded-For that is not one.
func callerAddress(peer net.Addr, forwarded []string, trusted []netip.Prefix) netip.Addr {
	ap, err := netip.ParseAddrPort(peer.String())
	if err != nil {
		return netip.Addr{}
	}
	from := ap.Addr().Unmap().WithZone("")
	isTrusted := func(a netip.Addr) bool {
		for _, p := range trusted {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	for i := len(forwarded) - 1; i >= 0; i-- {
		hops := strings.Split(forwarded[i], ",")
		for j := len(hops) - 1; j >= 0; j-- {
			if !isTrusted(from) {
				return from
			}
			hop, err := parseHop(strings.TrimSpace(hops[j]))
			if err != nil {
				return from
			}
			from = hop
		}
	}
	return from
}

// parseHop reads an address with or without a port.
func parseHop(text string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return a.Unmap().WithZone(""), nil
	}
	ap, err := netip.ParseAddrPort(text)
	return ap.Addr().Unmap().WithZone(""), err
}
