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
	dialer  *dialer
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
func newPlain(base *url.URL, dialer *dialer, rest *http.Transport) *plain {
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

// takes reports whether a request may go this way.
func (p *plain) takes(s *sending) bool {
	return !s.call.Upgrade && s.body.stream == nil && (s.body.spool == nil || s.body.length < heldFrom)
}

// RoundTrip implements [http.RoundTripper], for what does not go this way.
func (p *plain) RoundTrip(r *http.Request) (*http.Response, error) { return p.rest.RoundTrip(r) }

// send is [sending.send].
func (p *plain) send(ctx context.Context, a *attempt, s *sending) (*Response, error) {
	l, ok := ctx.(*life)
	if !ok {
		l = &life{}
		l.within(ctx)
	}
	out := buffers.Get().(*[]byte)
	defer func() {
		if cap(*out) <= maxBuffer {
			buffers.Put(out)
		}
	}()
	if err := p.write(out, s); err != nil {
		return nil, err
	}
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
		resp, again, err := c.ask(l, s, *out, used, a)
		if err == nil {
			return &resp.Response, nil
		}
		c.close()
		if !again || !used {
			return nil, err
		}
		if a != nil { // the connection was dead before it took anything
			a.connected.Store(false)
			a.sent.Store(false)
		}
	}
}

// buffers are what requests are written to before they are sent; larger ones
// than maxBuffer are not kept.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// write writes a request into out, with its body if that is short.
func (p *plain) write(out *[]byte, s *sending) error {
	call := s.call
	b := append((*out)[:0], call.Method...)
	b = append(b, ' ')
	from := len(b)
	if b = append(append(b, s.provider.path...), call.Path[len("/v1"):]...); len(b) == from {
		b = append(b, '/')
	}
	if call.Query != "" || call.BareQuery {
		b = append(append(b, '?'), call.Query...)
	}
	for _, ch := range b[from:] {
		if ch <= ' ' || ch == 0x7f {
			return errors.New("the request's target has a space or control character")
		}
	}
	b = append(append(b, " HTTP/1.1\r\nHost: "...), s.provider.host...)
	b = append(b, "\r\n"...)
	bad := ""
	s.headers(func(name, value string) {
		if !httpguts.ValidHeaderFieldValue(value) {
			bad = name
		}
		b = append(append(b, name...), ": "...)
		b = append(append(b, value...), "\r\n"...)
	})
	if bad != "" {
		return fmt.Errorf("the header %s has a control character", bad)
	}
	if s.body.none {
		*out = append(b, "\r\n"...)
		return nil
	}
	length := s.body.length
	for _, e := range s.edits {
		length += int64(len(e.text) - (e.at.to - e.at.from))
	}
	b = strconv.AppendInt(append(b, "Content-Length: "...), length, 10)
	b = append(b, "\r\n\r\n"...)
	switch {
	case s.body.spool != nil:
		body, _ := s.body.open(s.edits)
		at := len(b)
		b = slices.Grow(b, int(length))[:at+int(length)]
		if _, err := io.ReadFull(body, b[at:]); err != nil {
			return err
		}
	case s.body.memory == nil && len(s.edits) == 0:
		b = append(b, s.body.bytes...)
	case s.body.memory == nil:
		pieces, _ := splice(s.body.bytes, s.edits)
		for _, piece := range pieces {
			b = append(b, piece...)
		}
	}
	*out = b
	return nil
}

// conn is an idle connection, which may not stand any more, or a new one.
func (p *plain) conn(ctx context.Context) (c *plainConn, used bool, err error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c, p.idle[n-1], p.idle = p.idle[n-1], nil, p.idle[:n-1]
	}
	p.mu.Unlock()
	if c != nil {
		return c, true, nil
	}
	conn, err := p.dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, false, err
	}
	return newPlainConn(p, conn), false, nil
}

// put keeps a connection for the next request.
func (p *plain) put(c *plainConn) {
	c.pruned = 0
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
		c.pruned++
		over := c.pruned > int(idleTime/pruneTime) || !c.stands()
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
