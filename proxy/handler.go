package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
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

// setDate begins a header with a date, the present one if it is empty. The
// header can't be told one, since the server dates its answers by itself, but
// it keeps one that it reads.
func setDate(h *fasthttp.ResponseHeader, date string) {
	if date == "" || len(date) > 40 {
		date = string(fasthttp.AppendHTTPDate(make([]byte, 0, 40), time.Now()))
	}
	head := "HTTP/1.1 304 \r\nDate: " + date + "\r\n\r\n" // of a status that says nothing of a body
	_ = h.Read(bufio.NewReaderSize(strings.NewReader(head), 128))
	h.SetStatusCode(http.StatusOK)
	h.SetStatusMessage(nil)
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
	setDate(&c.Context().Response.Header, "")
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
	call.Hurry = func() { _ = conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)) }
	stop := h.watcher.watch(conn, func() { cancel(errGone) })

	var body *guard
	if stream := ctx.RequestBodyStream(); stream != nil {
		body = &guard{r: stream, conn: conn}
		call.Body, call.Length = body, int64(ctx.Request.Header.ContentLength())
		// Who waits for the body need not wait any longer when the call ends.
		context.AfterFunc(c, func() { body.release() })
	}
	resp, err := h.do(c, call)
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
	out := &outgoing{body: resp.Body, conn: conn, unwatch: stop, end: func() { stop(); cancel(errDone) },
		broken: func(err error) { h.g.log.Error().Err(err).Str("request", call.ID).Msg("the answer broke off") }}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		h.relay(ctx, resp, out)
		return
	}
	if body != nil && resp.StatusCode < 400 {
		// The provider may go on reading while it answers.
		out.upload = body
	} else if body != nil && !body.release() {
		h.linger(ctx)
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

// reply hands an answer to the server, which reads its body until the end.
func (h *handler) reply(ctx *fasthttp.RequestCtx, call *Call, resp *http.Response, body *outgoing) {
	out := &ctx.Response
	setHead(out, resp)
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
	// What is not all there already may break off: the caller then has the head.
	out.ImmediateHeaderFlush = stream || length > 0 && !isWhole(resp)
	ctx.SetBodyStream(body, int(length))
}

// setHead copies status and headers of an answer.
func setHead(out *fasthttp.Response, resp *http.Response) {
	setDate(&out.Header, header(resp.Header, "Date"))
	out.SetStatusCode(resp.StatusCode)
	if _, reason, _ := strings.Cut(resp.Status, " "); reason != fasthttp.StatusMessage(resp.StatusCode) {
		out.Header.SetStatusMessage([]byte(reason))
	}
	for name, values := range resp.Header {
		if name == "Content-Length" || name == "Date" {
			continue
		}
		for _, v := range values {
			out.Header.Add(name, v)
		}
	}
}

// isWhole reports whether all of an answer is there already.
func isWhole(resp *http.Response) bool {
	b, ok := resp.Body.(*answerBody)
	return !ok || int64(len(b.a.prefix)) == b.length
}

// unchunked answers a caller of HTTP/1.0, which knows no chunks: the end of the
// answer is the end of the connection.
func (h *handler) unchunked(ctx *fasthttp.RequestCtx, body *outgoing) {
	ctx.Response.Header.SetConnectionClose()
	ctx.Response.Header.SetNoDefaultContentType(true)
	head := h.head(ctx)
	h.takeOver(ctx, body, func(conn net.Conn) {
		_ = conn.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := conn.Write(head); err != nil {
			return
		}
		if _, err := io.Copy(conn, body); err != nil {
			abort(body.conn)
		}
	})
}

// head is the answer's head as it goes to the caller.
func (h *handler) head(ctx *fasthttp.RequestCtx) []byte {
	return append([]byte(nil), ctx.Response.Header.Header()...)
}

// takeOver gives serve the connection in the server's place, and closes body
// and connection behind it.
func (h *handler) takeOver(ctx *fasthttp.RequestCtx, body *outgoing, serve func(net.Conn)) {
	// Where the answers before this one can't be delivered the server closes the
	// connection, and says nothing.
	late := time.AfterFunc(2*writeTime, func() { _ = body.Close() })
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(conn net.Conn) {
		if !late.Stop() {
			return
		}
		defer func() { _ = body.Close() }()
		serve(conn)
	})
}

// outgoing is an answer's body as the server reads it.
type outgoing struct {
	body io.ReadCloser
	conn net.Conn
	// upload is the request's body where it is still being read.
	upload *guard
	// unwatch ends the watch for callers that leave.
	unwatch, end func()
	// broken is told of a mistake in the program.
	broken func(error)
}

func (o *outgoing) Read(p []byte) (n int, err error) {
	defer func() {
		if mistake := recover(); mistake != nil {
			n, err = 0, fmt.Errorf("panic: %v\n%s", mistake, debug.Stack())
			o.broken(err)
		}
	}()
	n, err = o.body.Read(p)
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
	setDate(&ctx.Response.Header, "")
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
	call.Upgrade = asksWebSocket(call.Method, call.Header)
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
