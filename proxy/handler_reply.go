package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// reply hands an answer to the server, which reads its body until the end.
func (h *handler) reply(ctx *fasthttp.RequestCtx, call *Call, resp *Response, body *outgoing) {
	out := &ctx.Response
	setHead(out, resp)
	h.allowOrigin(ctx, call)
	length := resp.ContentLength
	stream := resp.isStream()
	dropHeaders(&resp.Header) // the server has its own copy
	switch {
	case call.Method == http.MethodHead:
		_ = body.Close()
		out.SkipBody = true
		if length >= 0 {
			out.Header.SetContentLength(int(length))
		}
		return
	case !resp.hasBody():
		_ = body.Close()
		return
	case length < 0 && !ctx.Request.Header.IsHTTP11(), body.unread:
		if length >= 0 {
			out.Header.SetContentLength(int(length))
		}
		h.unchunked(ctx, body)
		return
	case length >= 0 && isWhole(resp):
		if err := appendAll(out, body); err != nil {
			abort(body.conn)
			hangUp(ctx)
		}
		return
	}
	// What is not all there already may break off: the caller then has the head.
	out.ImmediateHeaderFlush = stream || length > 0
	if length > 0 {
		ctx.SetBodyStream(direct{body}, int(length))
	} else {
		ctx.SetBodyStream(body, int(length))
	}
}

// direct is an answer of a known length, whose head is flushed: it goes past the
// server's buffer, which would hold back what is short of 4 KiB.
type direct struct{ *outgoing }

// loads are the memory that such answers pass through.
var loads = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// WriteTo implements [io.WriterTo] for the server, to whose connection it writes.
func (d direct) WriteTo(io.Writer) (n int64, err error) {
	load := loads.Get().(*[16 << 10]byte)
	defer loads.Put(load)
	for {
		got, err := d.Read(load[:])
		if got > 0 {
			sent, err := d.conn.Write(load[:got])
			n += int64(sent)
			if err != nil {
				return n, err
			}
		}
		switch err {
		case nil:
		case io.EOF:
			return n, nil
		default:
			return n, err
		}
	}
}

// appendAll reads a short body whole, which settles it, and ends it.
func appendAll(out *fasthttp.Response, body *outgoing) error {
	defer func() { _ = body.Close() }()
	buf := prefixes.Get().(*[prefixSize]byte)
	defer prefixes.Put(buf)
	for {
		n, err := body.read(buf[:]) // the server itself gives time for what it has whole
		out.AppendBody(buf[:n])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// setHead copies status and headers of an answer.
func setHead(out *fasthttp.Response, resp *Response) {
	setDate(&out.Header, resp.Header.Get("Date"))
	out.SetStatusCode(resp.StatusCode)
	if resp.Reason != fasthttp.StatusMessage(resp.StatusCode) {
		out.Header.SetStatusMessage([]byte(resp.Reason))
	}
	out.Header.DisableNormalizing() // names are in canonical form already
	for _, h := range resp.Header {
		if h.Name != "Content-Length" && h.Name != "Date" {
			out.Header.Add(h.Name, h.Value)
		}
	}
}

// isWhole reports whether all of an answer is there already.
func isWhole(resp *Response) bool {
	b, ok := resp.Body.(*answerBody)
	return !ok || int64(len(b.a.prefix)) == b.length
}

// unchunked sends an answer whose end is the end of the connection: to a caller
// of HTTP/1.0, which knows no chunks, or to one whose request is not read to its
// end.
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
			return
		}
		if body.unread {
			_ = body.Close()
			readAway(conn)
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
	body     io.ReadCloser
	conn     net.Conn
	patience *patience
	// upload is the request's body where it is still being read.
	upload *guard
	// unread says that much of the request's body may be left.
	unread bool
	// unwatch ends the watch for callers that leave.
	unwatch func()
	// visit is told of the end, and of a mistake in the program.
	visit interface {
		end()
		broken(err error)
	}
}

// Read gives the caller time to take what was just read.
func (o *outgoing) Read(p []byte) (int, error) {
	n, err := o.read(p)
	if e := o.patience.renew(); e != nil && err == nil {
		err = e
	}
	return n, err
}

// read reads from the answer; a mistake in the program ends it.
func (o *outgoing) read(p []byte) (n int, err error) {
	defer func() {
		if mistake := recover(); mistake != nil {
			n, err = 0, fmt.Errorf("panic: %v\n%s", mistake, debug.Stack())
			o.visit.broken(err)
		}
	}()
	return o.body.Read(p)
}

// patience is how long the server waits for a caller that does not take bytes.
type patience struct {
	conn net.Conn
	// end is when it is over for good; nil = not yet.
	end atomic.Pointer[time.Time]
	// begun is when the time began last.
	begun time.Time
}

// renew begins the time anew, to a second.
func (p *patience) renew() error {
	now := time.Now()
	if now.Sub(p.begun) < time.Second && p.end.Load() == nil {
		return nil
	}
	p.begun = now
	err := p.conn.SetWriteDeadline(now.Add(writeTime))
	if end := p.end.Load(); end != nil && err == nil { // set before or meanwhile
		err = p.conn.SetWriteDeadline(*end)
	}
	return err
}

// hurry leaves the caller a moment to take what is still to be said.
func (p *patience) hurry() {
	end := time.Now().Add(hurryTime)
	p.end.Store(&end)
	_ = p.conn.SetWriteDeadline(end)
}

func (o *outgoing) Close() (err error) {
	defer o.visit.end()
	if o.upload != nil {
		defer o.upload.release()
	}
	defer func() {
		if mistake := recover(); mistake != nil {
			err = fmt.Errorf("panic: %v\n%s", mistake, debug.Stack())
			o.visit.broken(err)
		}
	}()
	return o.body.Close()
}

// dates read a header with nothing but a date in it.
var dates = sync.Pool{New: func() any { return &dateReader{r: bufio.NewReaderSize(nil, 128)} }}

type dateReader struct {
	date, text []byte
	bytes      bytes.Reader
	r          *bufio.Reader
}

// dated are headers with nothing but the date of a moment ago, by the last digit
// of its seconds: providers' clocks differ.
var dated [10]atomic.Pointer[datedHeader]

type datedHeader struct {
	date string
	head fasthttp.ResponseHeader
}

// setDate begins a header with a date, the present one if it is empty. The
// header can't be told one, since the server dates its answers by itself, but
// it keeps one that it reads, or that is copied from another header.
func setDate(h *fasthttp.ResponseHeader, date string) {
	d := dates.Get().(*dateReader)
	defer dates.Put(d)
	if date == "" || len(date) > 40 {
		d.date = fasthttp.AppendHTTPDate(d.date[:0], time.Now())
	} else {
		d.date = append(d.date[:0], date...)
	}
	known := &dated[0]
	if i := len(d.date) - len("0 GMT"); i >= 0 {
		known = &dated[d.date[i]%10]
	}
	if k := known.Load(); k != nil && k.date == string(d.date) {
		k.head.CopyTo(h)
		return
	}
	d.text = append(d.text[:0], "HTTP/1.1 304 \r\nDate: "...) // a status that says nothing of a body
	d.text = append(append(d.text, d.date...), "\r\n\r\n"...)
	d.bytes.Reset(d.text)
	d.r.Reset(&d.bytes)
	_ = h.Read(d.r)
	h.SetStatusCode(http.StatusOK)
	h.SetStatusMessage(nil)
	k := &datedHeader{date: string(d.date)}
	h.CopyTo(&k.head)
	known.Store(k)
}
