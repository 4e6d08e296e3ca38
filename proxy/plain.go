package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// plain is the way to a provider that is spoken to in HTTP/1.1 without TLS, as
// most are that run at home. It does what [http.Transport] does, on the
// goroutine of the caller: no others to wake for each request, and no stacks of
// theirs beside each open stream.
//
// Bodies that are streams, and requests to change the protocol, go by the
// [http.Transport].
type plain struct {
	address string // host:port
	dialer  *net.Dialer
	rest    *http.Transport

	mu     sync.Mutex // guards what follows
	idle   []*plainConn
	pruner *time.Timer // nil while nothing is idle
}

const (
	// maxIdle is how many connections to one provider wait for more to do, and
	// idleTime for how long. Every pruneTime those are closed that the provider
	// has closed.
	maxIdle   = 256
	idleTime  = 90 * time.Second
	pruneTime = 5 * time.Second
	// maxBuffer is the largest buffer that is kept for the next request, in bytes.
	maxBuffer = 32 << 10
)

// newPlain returns the plain way to base; nil where there is none: under TLS,
// or through a proxy.
func newPlain(base *url.URL, dialer *net.Dialer, rest *http.Transport) *plain {
	if base.Scheme != "http" || !isASCII(base.Host) || base.Hostname() == "" {
		return nil
	}
	if via, err := rest.Proxy(&http.Request{URL: base}); via != nil || err != nil {
		return nil
	}
	port := base.Port()
	if port == "" {
		port = "80"
	}
	return &plain{address: net.JoinHostPort(base.Hostname(), port), dialer: dialer, rest: rest}
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// RoundTrip sends a request and returns the answer at its headers, as
// [http.RoundTripper] has it. It ends when the request's context does; so does
// the reading of the answer's body.
func (p *plain) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	l, ok := ctx.(*life)
	if !ok {
		l = &life{}
		l.within(ctx)
	}
	a := l.of
	if r.Header["Upgrade"] != nil || r.Body != nil && r.ContentLength != 0 && !isHeld(r) {
		if a != nil {
			r = r.WithContext(traced(a))
		}
		return p.rest.RoundTrip(r)
	}
	out := buffers.Get().(*[]byte)
	defer func() {
		if cap(*out) <= maxBuffer {
			buffers.Put(out)
		}
	}()
	if err := writeRequest(out, r); err != nil {
		return nil, err
	}
	dropHeader(&r.Header) // which was made for this request
	for {
		if err := causeOf(ctx); err != nil {
			return nil, err
		}
		c, used, err := p.conn(ctx)
		if err != nil {
			return nil, err
		}
		if a != nil {
			a.connected.Store(true)
		}
		resp, again, err := c.ask(l, r, *out, a)
		if err == nil {
			return resp, nil
		}
		c.close()
		if !again || !used {
			return nil, err
		}
		if large, ok := r.Body.(*heldBody); ok {
			r = r.WithContext(ctx) // what is sent again is another body
			if r.Body, err = r.GetBody(); err != nil {
				return nil, errors.Join(err, large.Close())
			}
		}
		if a != nil { // the connection was dead before it took anything
			a.connected.Store(false)
			a.sent.Store(false)
		}
	}
}

// isHeld reports whether a request's body is in memory.
func isHeld(r *http.Request) bool {
	_, large := r.Body.(*heldBody)
	return large || r.GetBody != nil && r.ContentLength > 0 && r.ContentLength < heldFrom
}

// buffers are what requests are written to before they are sent; larger ones
// than maxBuffer are not kept.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// writeRequest writes a request into out, with its body if that is short.
func writeRequest(out *[]byte, r *http.Request) error {
	target := r.URL.RequestURI()
	for i := 0; i < len(target); i++ {
		if target[i] <= ' ' || target[i] == 0x7f {
			return errors.New("the request's target has a space or control character")
		}
	}
	b := append((*out)[:0], r.Method...)
	b = append(append(b, ' '), target...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), r.Host...)
	b = append(b, "\r\n"...)
	for name, values := range r.Header {
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return fmt.Errorf("the header %s has a control character", name)
			}
			b = append(append(b, name...), ": "...)
			b = append(append(b, v...), "\r\n"...)
		}
	}
	if r.Body != nil {
		b = strconv.AppendInt(append(b, "Content-Length: "...), r.ContentLength, 10)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	if _, large := r.Body.(*heldBody); large {
		*out = b
		return nil
	}
	if n := int(r.ContentLength); r.Body != nil && n > 0 {
		at := len(b)
		b = slices.Grow(b, n)[:at+n]
		if _, err := io.ReadFull(r.Body, b[at:]); err != nil {
			return err
		}
	}
	*out = b
	return nil
}

// conn is an idle connection that still stands, or a new one.
func (p *plain) conn(ctx context.Context) (c *plainConn, used bool, err error) {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			break
		}
		c, p.idle[n-1], p.idle = p.idle[n-1], nil, p.idle[:n-1]
		p.mu.Unlock()
		if c.stands() {
			return c, true, nil
		}
		c.close()
	}
	conn, err := p.dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, false, err
	}
	return newPlainConn(p, conn), false, nil
}

// put keeps a connection for the next request.
func (p *plain) put(c *plainConn) {
	c.since = time.Now()
	p.mu.Lock()
	full := len(p.idle) >= maxIdle
	if !full {
		p.idle = append(p.idle, c)
		if p.pruner == nil {
			p.pruner = time.AfterFunc(pruneTime, p.prune)
		}
	}
	p.mu.Unlock()
	if full {
		c.close()
	}
}

// prune closes what was idle for too long, and what the provider has closed:
// its descriptors would be missing elsewhere.
func (p *plain) prune() {
	var old []*plainConn
	p.mu.Lock()
	p.idle = slices.DeleteFunc(p.idle, func(c *plainConn) bool {
		over := time.Since(c.since) >= idleTime || !c.stands()
		if over {
			old = append(old, c)
		}
		return over
	})
	if p.pruner = nil; len(p.idle) > 0 {
		p.pruner = time.AfterFunc(pruneTime, p.prune)
	}
	p.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

// CloseIdleConnections closes the connections that wait for requests.
func (p *plain) CloseIdleConnections() {
	p.mu.Lock()
	old := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range old {
		c.close()
	}
	p.rest.CloseIdleConnections()
}
