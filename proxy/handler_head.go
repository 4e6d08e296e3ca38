package proxy

import (
	"bytes"
	"net/http"

	"github.com/valyala/fasthttp"
)

// isAmbiguous reports whether the head of a request could be read in another
// way by a program in front of this one. The server forgives what RFC 9112
// allows it to forgive: a line that ends in LF alone or goes on in the next one,
// a length beside chunks, a space within a name. That is how requests are
// smuggled, and no honest caller writes it.
func isAmbiguous(h *fasthttp.RequestHeader) bool {
	if !bytes.HasPrefix(h.Protocol(), []byte("HTTP/1.")) {
		return true
	}
	length, coding := false, false
	for raw := h.RawHeaders(); len(raw) > 0; {
		end := bytes.IndexByte(raw, '\n')
		if end < 1 || raw[end-1] != '\r' {
			return true
		}
		line := raw[:end-1]
		raw = raw[end+1:]
		if len(line) == 0 {
			break
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 {
			return true
		}
		// A line that is folded begins with either.
		if name := line[:colon]; bytes.IndexByte(name, ' ') >= 0 || bytes.IndexByte(name, '\t') >= 0 {
			return true
		}
		switch colon {
		case len("Content-Length"):
			length = length || bytes.EqualFold(line[:colon], []byte("Content-Length"))
		case len("Transfer-Encoding"):
			coding = coding || bytes.EqualFold(line[:colon], []byte("Transfer-Encoding"))
		}
	}
	return length && coding
}

// refuseAmbiguous answers a request that could be read in two ways. What stands
// behind it on the connection is not read at all.
func refuseAmbiguous(ctx *fasthttp.RequestCtx) {
	writeMalformed(ctx, http.StatusBadRequest, "The request is not well-formed HTTP.", typeRequest, "invalid_request")
	ctx.Response.SetConnectionClose()
}
