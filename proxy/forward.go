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

	"tokenhub/db"
)

// maxAttempts bounds how often one call is sent, retries included.
const maxAttempts = 8

// attempt is one try at one target.
type attempt struct {
	target target
	number int // from 1
	start  time.Time
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	// connected says that there was a connection: the request may have been sent.
	connected atomic.Bool
	resp      *http.Response
	body      io.ReadCloser // what the provider sends; resp.Body becomes the caller's
	firstByte time.Duration
	// prefix are the first bytes of an answer that does not stream; buf is their pool's.
	prefix []byte
	buf    *[prefixSize]byte
	first  error // what came with them
	err    error // why there is no answer
	strip  bool  // usage was asked for on the caller's behalf
}

const prefixSize = 4 << 10

var prefixes = sync.Pool{New: func() any { return new([prefixSize]byte) }}

// forward is hops 4 to 6: it tries the targets in order until one answers. Until
// a byte of an answer was passed on, a failure in fallback_on leads to the next.
func (f *flight) forward(ctx context.Context) (*http.Response, error) {
	headers := forwardHeaders(f.call.Header)
	if f.call.endpoint().isMetered() {
		headers["Accept-Encoding"] = []string{"identity"}
	}
	var refusal error // why a target could not even be tried
	for _, t := range f.route.targets {
		for retry := 0; retry <= f.st.cfg.Routing.Retries; retry++ {
			if len(f.failed) == maxAttempts {
				break
			}
			if err := f.reserve(ctx, t); err != nil {
				if skippable(err) {
					refusal = err
					break
				}
				return nil, errors.Join(err, f.noteFailed(nil))
			}
			a := f.try(ctx, t, headers)
			reason := a.failure()
			if reason == "" || a.err == nil && !f.st.fallback[reason] {
				return f.answer(a)
			}
			f.failed = append(f.failed, a)
			if causeOf(ctx) != nil || !f.st.fallback[reason] || !f.body.replayable() && f.body.length != 0 && a.connected.Load() {
				return f.giveUp(ctx, refusal)
			}
			if reason != "connect" {
				break
			}
		}
	}
	return f.giveUp(ctx, refusal)
}

// skippable reports whether a refusal concerns one target only.
func skippable(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code == "model_not_priced" || e.Code == "all_providers_failed")
}

// reserve takes the worst case at a target out of the key's limits; it moves
// the reservation of an earlier attempt along.
func (f *flight) reserve(ctx context.Context, t target) error {
	claim, refusal := f.st.claim(f.key, f.demand, t, f.call.Start)
	if refusal != nil {
		return refusal
	}
	if f.held {
		claim.Replaces = f.res.ID
	}
	res, err := f.g.store.Reserve(ctx, claim)
	var limit *db.LimitError
	switch {
	case err == nil:
		f.res, f.held = res, true
		return nil
	case errors.As(err, &limit) && limit.Limit == db.LimitProviderUSD:
		return &Error{Code: "all_providers_failed", RetryAfter: max(retrySoon, limit.Resets.Sub(f.g.now())), Err: limit,
			Message: "The monthly cap on spending at the provider is reached. The operator can raise monthly_usd, or wait for the next month."}
	case errors.As(err, &limit):
		return limitError(limit, f.g.now())
	case errors.Is(err, db.ErrNotFound):
		return errKey(err)
	case errors.Is(err, db.ErrStorage):
		return &Error{Code: "storage_unavailable", RetryAfter: retrySoon, Err: err,
			Message: "The server can't write down usage at the moment, and this API key has limits. Try again soon."}
	}
	return err
}

// try sends the call to a target and waits until its answer can be committed:
// a stream at its headers, anything else at its first byte.
func (f *flight) try(ctx context.Context, t target, headers http.Header) *attempt {
	a := &attempt{target: t, number: len(f.failed) + 1, start: f.g.now()}
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	if d := t.provider.Timeouts.FirstByte; d > 0 {
		a.timer = time.AfterFunc(d, func() { a.cancel(errSilent) })
	}
	a.strip = f.asksUsage(t)
	call := f.call
	if f.route.inQuery && f.route.model != "" && t.served != f.route.model {
		moved := *call
		moved.Query = setQueryValue(call.Query, "model", t.served)
		call = &moved
	}
	req := t.provider.request(connected(a.ctx, &a.connected), call, headers, f.body, f.edits(t))
	resp, err := t.provider.upstream.RoundTrip(req)
	if err != nil {
		a.fail(err)
		return a
	}
	a.resp, a.body = resp, resp.Body
	a.firstByte = f.g.now().Sub(a.start)
	if isStream(resp) || resp.ContentLength == 0 || f.call.Method == "HEAD" || !f.g.hasBody(resp) {
		a.stopTimer()
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
	a.stopTimer()
	return a
}

// hasBody reports whether an answer of this status can have a body (RFC 9110 §6.4.1).
func (g *Gateway) hasBody(resp *http.Response) bool {
	return resp.StatusCode >= 200 && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified
}

// isStream reports whether an answer is a stream of events.
func isStream(resp *http.Response) bool {
	kind, _, _ := strings.Cut(header(resp.Header, "Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}

// fail ends an attempt that got no answer; the request to the provider is over
// when it returns.
func (a *attempt) fail(err error) {
	if cause := causeOf(a.ctx); cause != nil {
		err = cause
	}
	a.err = err
	a.close()
}

// failure names what went wrong in the words of fallback_on: connect, broken,
// timeout, 5xx, 429; empty when the answer is one to pass on, or when it was
// the caller who ended it.
func (a *attempt) failure() string {
	switch {
	case a.err == nil && a.resp.StatusCode >= 500:
		return "5xx"
	case a.err == nil && a.resp.StatusCode == http.StatusTooManyRequests:
		return "429"
	case a.err == nil:
		return ""
	case !a.connected.Load():
		return "connect"
	case errors.Is(a.err, errSilent):
		return "timeout"
	}
	return "broken"
}

func (a *attempt) stopTimer() {
	if a.timer != nil {
		a.timer.Stop()
	}
}

// close ends the request to the provider.
func (a *attempt) close() {
	a.stopTimer()
	a.cancel(errDone)
	if a.body != nil {
		_ = a.body.Close()
	}
	if a.buf != nil {
		prefixes.Put(a.buf)
		a.buf, a.prefix = nil, nil
	}
}

// giveUp ends a call that no target served whole: the last answer that a
// provider gave passes, whatever its status; else the caller is told why none did.
func (f *flight) giveUp(ctx context.Context, refusal error) (*http.Response, error) {
	for i := len(f.failed) - 1; i >= 0; i-- {
		if a := f.failed[i]; a.resp != nil && a.err == nil {
			f.failed = append(f.failed[:i], f.failed[i+1:]...)
			return f.answer(a)
		}
	}
	if len(f.failed) == 0 {
		return nil, refusal
	}
	last := f.failed[len(f.failed)-1]
	f.failed = f.failed[:len(f.failed)-1]
	f.noteFailed(nil)
	if last.connected.Load() {
		f.settle(last, f.failedRecord(last))
	}
	f.log(last, f.failedRecord(last))
	if causeOf(ctx) != nil {
		return nil, context.Cause(ctx)
	}
	e := &Error{Code: "provider_unreachable", RetryAfter: retrySoon, Err: last.err,
		Message: "The provider of this model can't be reached. Try again soon; the operator finds the reason in the log under this request ID."}
	switch {
	case last.number > 1 && len(f.route.targets) > 1:
		e.Code, e.Message = "all_providers_failed", "None of the providers of this model answered. Try again soon; the operator finds the reasons in the log under this request ID."
	case last.failure() == "timeout":
		e.Code, e.Message = "provider_timeout", "The provider of this model did not answer in time. Try again later, or ask the operator to raise first_byte."
	case last.failure() == "broken":
		e.Message = "The provider of this model closed the connection without an answer. Try again soon; the operator finds the reason in the log under this request ID."
	}
	return nil, e
}

// noteFailed journals the attempts that were sent, failed, and are charged
// nothing, and lets go of their answers. It returns err.
func (f *flight) noteFailed(err error) error {
	for _, a := range f.failed {
		if a.connected.Load() {
			if err := f.g.store.Note(context.Background(), f.failedRecord(a)); err != nil {
				f.g.log.Error().Err(err).Str("request", f.call.ID).Msg("a failed attempt can't be written to the journal yet")
			}
		}
		f.log(a, f.failedRecord(a))
		a.close()
	}
	f.failed = nil
	return err
}
