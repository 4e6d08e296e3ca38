package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// attempt is one try at one target.
type attempt struct {
	target target
	number int // from 1
	start  time.Time
	// life is the context of its request to the provider.
	life life
	// silence ends it when no answer comes, total when it lasts too long.
	silence, total *time.Timer
	// probe says that it finds out whether a resting target answers again.
	probe bool
	// inside says that it holds a place at the provider.
	inside bool
	// connected says that there was a connection: the request may have been sent.
	connected atomic.Bool
	// sent says that the provider was sent the whole request.
	sent      atomic.Bool
	resp      *Response
	body      io.ReadCloser // what the provider sends; resp.Body becomes the caller's
	firstByte time.Duration
	// prefix are the first bytes of an answer that does not stream; buf is their pool's.
	prefix []byte
	buf    *[prefixSize]byte
	first  error // what came with them
	err    error // why there is no answer
	strip  bool  // usage was asked for on the caller's behalf
}

// errNoStatus is an answer with a status that HTTP does not have.
var errNoStatus = errors.New("the provider answered with a status below 100")

const prefixSize = 4 << 10

var prefixes = sync.Pool{New: func() any { return new([prefixSize]byte) }}

// stillborn is an attempt that came to nothing before anything was sent.
func (f *flight) stillborn(ctx context.Context, t target, err error) *attempt {
	a := &attempt{target: t, number: len(f.failed) + 1, start: f.g.now()}
	a.life.within(ctx)
	a.fail(err)
	return a
}

// try sends the call to a target and waits until its answer can be committed:
// a stream at its headers, anything else at its first byte.
func (f *flight) try(ctx context.Context, t target, now time.Time, probe bool) *attempt {
	a := &f.first
	if f.trying != nil {
		a = &attempt{}
	}
	f.trying = a
	a.target, a.number, a.start, a.inside, a.probe = t, len(f.failed)+1, now, true, probe
	a.life.within(ctx)
	if d := t.provider.Timeouts.FirstByte; d > 0 {
		a.silence = time.AfterFunc(d, func() { a.life.end(errSilent) })
	}
	if d := t.provider.Timeouts.Total; d > 0 {
		a.total = time.AfterFunc(d, func() { a.life.end(errTotal) })
	}
	a.strip = f.asksUsage(t)
	call := f.call
	if f.route.inQuery && f.route.model != "" && t.served != f.route.model {
		moved := *call
		moved.Query = setQueryValue(call.Query, "model", t.served)
		call = &moved
	}
	request := sending{provider: t.provider, call: call, body: f.body, edits: f.edits(t)}
	resp, err := request.send(&a.life, a)
	if err != nil {
		a.fail(err)
		return a
	}
	if resp.StatusCode == http.StatusSwitchingProtocols && !f.call.Upgrade {
		_ = resp.Body.Close()
		a.fail(errUnasked)
		return a
	}
	if resp.StatusCode < 100 {
		_ = resp.Body.Close()
		a.fail(errNoStatus)
		return a
	}
	a.resp, a.body = resp, resp.Body
	a.firstByte = f.g.now().Sub(a.start)
	if resp.isStream() || resp.ContentLength == 0 || f.call.Method == "HEAD" || !resp.hasBody() {
		a.heard()
		return a
	}
	a.buf = prefixes.Get().(*[prefixSize]byte)
	n := 0
	for n == 0 && a.first == nil {
		n, a.first = a.body.Read(a.buf[:])
	}
	a.prefix = a.buf[:n]
	if n == 0 && a.first != io.EOF {
		a.fail(a.first)
		return a
	}
	a.heard()
	return a
}

// fail ends an attempt that got no answer; the request to the provider is over
// when it returns.
func (a *attempt) fail(err error) {
	if cause := causeOf(&a.life); cause != nil {
		err = cause
	}
	a.err = withoutAnswer(err)
	a.close()
}

// withoutAnswer takes the provider's words out of what net/http says of an
// answer that is not HTTP: answers are not logged.
func withoutAnswer(err error) error {
	text := err.Error()
	if at := strings.Index(text, "malformed "); strings.HasPrefix(text, "net/http: HTTP/1.x") && at >= 0 {
		if end := strings.IndexAny(text[at:], "\":"); end > 0 {
			return errors.New(strings.TrimSpace(text[:at+end]))
		}
	}
	return err
}

// failure names what went wrong in the words of fallback_on: connect, broken,
// timeout, 5xx, 429; empty when the answer is one to pass on.
func (a *attempt) failure() string {
	switch {
	case a.err == nil && a.resp.StatusCode >= 500:
		return "5xx"
	case a.err == nil && a.resp.StatusCode == http.StatusTooManyRequests:
		return "429"
	case a.err == nil:
		return ""
	case errors.Is(a.err, errFull):
		return "timeout"
	case !a.connected.Load():
		return "connect"
	case errors.Is(a.err, errSilent), errors.Is(a.err, errTotal):
		return "timeout"
	}
	return "broken"
}

// noteSent says that the provider was sent the whole request; a may be nil.
func (a *attempt) noteSent() {
	if a != nil {
		a.sent.Store(true)
	}
}

// heard says that the answer has begun.
func (a *attempt) heard() {
	if a.silence != nil {
		a.silence.Stop()
	}
}

// leave gives the place at the provider back.
func (a *attempt) leave() {
	if a.inside {
		a.inside = false
		a.target.provider.queue.leave()
	}
}

// close ends the request to the provider and gives its place back.
func (a *attempt) close() {
	a.heard()
	if a.total != nil {
		a.total.Stop()
	}
	a.life.end(errDone)
	if a.body != nil {
		_ = a.body.Close()
	}
	a.leave()
	if a.buf != nil {
		prefixes.Put(a.buf)
		a.buf, a.prefix = nil, nil
	}
}
