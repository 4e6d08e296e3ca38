package proxy

import (
	"io"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// What is still read of an upload that was refused, so that the caller gets to
// read why: closing at once would reset the connection under its hands.
const (
	lingerBytes = 64 << 20
	lingerTime  = 10 * time.Second
	// lingerMax is how many connections do so at once: the server does not count
	// them any more.
	lingerMax = 1000
	// lingerFrom is the size of a rest that the server discards on its own.
	lingerFrom = 256 << 10
)

// isLong reports whether what is left of a request's body may be more than the
// server discards on its own.
func isLong(ctx *fasthttp.RequestCtx) bool {
	n := ctx.Request.Header.ContentLength()
	return n < 0 || n > lingerFrom
}

// linger sends the refusal in the server's place, which would close the
// connection at once, and closes it only after the rest of the request's body
// was read away.
func (h *handler) linger(ctx *fasthttp.RequestCtx) {
	if !isLong(ctx) {
		return
	}
	body := ctx.Response.Body()
	ctx.Response.Header.SetContentLength(len(body))
	ctx.Response.SetConnectionClose()
	answer := h.head(ctx)
	if !ctx.IsHead() {
		answer = append(answer, body...)
	}
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(conn net.Conn) {
		many := h.lingering.Add(1) > lingerMax
		defer h.lingering.Add(-1)
		_ = conn.SetWriteDeadline(time.Now().Add(lingerTime))
		if _, err := conn.Write(answer); err == nil && !many {
			readAway(conn)
		}
	})
}

// readAway tells the caller that nothing more comes, and reads what it still sends.
func readAway(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	closeWrite(conn)
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

// hangUp ends a connection without an answer: nobody is there to read one.
func hangUp(ctx *fasthttp.RequestCtx) {
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(net.Conn) {})
}

// abort resets the connection, so that what was sent can't be taken for a whole
// answer. Closed later, TLS would say first that this was all.
func abort(conn net.Conn) {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	}
}
