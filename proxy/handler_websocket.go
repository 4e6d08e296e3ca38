package proxy

import (
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// relay hands the connections to caller and provider to a [relay]. What the
// caller sent behind its request is still in the server's buffer, from which
// the connection that it gives away reads first.
func (h *handler) relay(ctx *fasthttp.RequestCtx, resp *Response, out *outgoing) {
	setHead(&ctx.Response, resp)
	socket, _ := resp.Body.(*webSocket) // the only Body of this status
	head := h.head(ctx)
	// The bytes before a FIN belong to the provider: the relay sees it itself.
	out.unwatch()
	h.takeOver(ctx, out, func(conn net.Conn) {
		_ = conn.SetWriteDeadline(time.Now().Add(writeTime))
		if _, err := conn.Write(head); err != nil {
			return
		}
		(&relay{caller: conn, below: out.conn, socket: socket}).run()
	})
}
