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
	// lingerFrom is the size of a rest that the server discards on its own.
	lingerFrom = 256 << 10
)

// linger makes the server close the connection behind the answer only after the
// rest of the request's body was read away.
func (h *handler) linger(ctx *fasthttp.RequestCtx) {
	if n := ctx.Request.Header.ContentLength(); n >= 0 && n <= lingerFrom {
		return
	}
	ctx.Response.SetConnectionClose()
	ctx.Hijack(func(conn net.Conn) {
		_ = conn.SetDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, conn, lingerBytes)
	})
}

// hangUp ends a connection without an answer: nobody is there to read one.
func hangUp(ctx *fasthttp.RequestCtx) {
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(net.Conn) {})
}

// abort makes closing the connection a reset, so that what was sent can't be
// taken for a whole answer.
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
	}
}
