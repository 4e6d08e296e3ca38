package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"tokenhub/db"
)

// answer makes the attempt's answer the caller's: from here on its Body owns
// the reservation.
func (f *flight) answer(a *attempt) (*Response, error) {
	_ = f.noteFailed(nil)
	resp := a.resp
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return f.upgraded(a), nil
	}
	b := &answerBody{f: f, a: a, sse: resp.isStream(), length: resp.ContentLength}
	if f.call.Method == "HEAD" || !resp.hasBody() {
		b.length = 0
	}
	metered := f.call.endpoint().isMetered() && f.call.Method == "POST" && b.length != 0
	if metered {
		b.meter = newMeter(answer{endpoint: f.call.endpoint(), status: resp.StatusCode, sse: b.sse,
			encoding: resp.Header.Get("Content-Encoding"), strip: a.strip, length: b.length})
	}
	answerHeaders(&resp.Header)
	resp.Header.Set("X-Inferoute-Provider", a.target.provider.Name)
	rateHeaders(&resp.Header, f.res.Minute)
	if b.sse {
		resp.Header.Set("X-Accel-Buffering", "no")
	}
	if metered && a.strip && b.length > 0 && b.sse {
		// Some of these bytes will be taken out.
		resp.ContentLength = -1
	}
	resp.Body = b
	if b.length < 0 || int64(len(a.prefix)) < b.length {
		b.watchIdle()
	}
	if b.sse {
		f.g.streams.Add(1)
	}
	if b.length == 0 {
		b.settle("")
	}
	f.body.free()
	return resp, nil
}

// answerBody is a provider's answer on its way to the caller. Its bytes pass as
// they came; the meter reads along.
type answerBody struct {
	f     *flight
	a     *attempt
	meter *meter // nil when there is nothing to count
	sse   bool
	// length is the Content-Length, -1 when it is unknown; seen counts up to it.
	length, seen int64
	// pending are bytes that did not fit into the last Read.
	pending []byte
	err     error     // what follows them
	rec     db.Record // what is settled
	settled bool
	closed  bool

	idle *idleTimer
	// ending says that all has come but the usage: see usageWait.
	ending atomic.Bool
	// waiting is when the read that is running now began, see steady; 0 = none is.
	waiting atomic.Int64
}

// watchIdle ends the answer when the provider sends nothing for its idle time.
// The time that the caller takes to read does not count as idle.
func (b *answerBody) watchIdle() {
	b.idle = startIdle(b.a.target.provider.Timeouts.Idle, func() time.Duration {
		since := b.waiting.Load()
		if since == 0 {
			return 0
		}
		return time.Duration(steady() - since)
	}, func() { b.a.life.end(errIdle) })
}

// Read passes bytes on. Before it hands over the ones that complete the answer
// it settles.
func (b *answerBody) Read(p []byte) (int, error) {
	for {
		if len(b.pending) > 0 {
			n := copy(p, b.pending)
			b.pending = b.pending[n:]
			return n, nil
		}
		if b.err != nil {
			return 0, b.err
		}
		n, err := b.next(p)
		if err != nil || n > 0 {
			return n, err
		}
	}
}

// next reads once from the provider.
func (b *answerBody) next(p []byte) (int, error) {
	n, err := b.read(p)
	b.seen += int64(n)
	out, complete := p[:n], b.length > 0 && b.seen == b.length
	if b.meter != nil {
		var done bool
		out, done = b.meter.pass(out)
		complete = complete || done
		b.ending.Store(b.meter.lacksUsage())
	}
	switch {
	case err == nil:
		if complete {
			b.settle("")
		}
	case err == io.EOF:
		b.err = io.EOF
		if b.meter != nil {
			out = append(out[:len(out):len(out)], b.meter.finish()...)
		}
		b.settle("")
	default:
		reason := b.reason()
		b.err = errors.New("the answer broke off: " + reason)
		if b.meter != nil {
			out = append(out[:len(out):len(out)], b.meter.finish()...)
		}
		b.settle(reason)
		if event := b.lastEvent(reason); event != "" {
			out = append(out[:len(out):len(out)], event...)
		}
	}
	if len(out) == 0 {
		return 0, b.err
	}
	if n > 0 && &out[0] == &p[0] && len(out) <= len(p) {
		return len(out), nil
	}
	n = copy(p, out)
	b.pending = append([]byte(nil), out[n:]...)
	return n, nil
}

// read gives the first bytes that were read before the answer was committed,
// then those of the provider.
func (b *answerBody) read(p []byte) (int, error) {
	if len(b.a.prefix) > 0 {
		n := copy(p, b.a.prefix)
		b.a.prefix = b.a.prefix[n:]
		if len(b.a.prefix) > 0 {
			return n, nil
		}
		return n, b.a.first
	}
	if b.a.first != nil {
		return 0, b.a.first
	}
	b.waiting.Store(steady())
	n, err := b.a.body.Read(p)
	b.waiting.Store(0)
	return n, err
}

// reason names in a word why an answer broke off; see [db.Record.Error].
func (b *answerBody) reason() string {
	return causeWord(causeOf(&b.a.life))
}

// causeWord is the cause for which an answer broke off in a word.
func causeWord(cause error) string {
	switch {
	case cause == nil:
		return "broken"
	case errors.Is(cause, errGone):
		return "canceled"
	case errors.Is(cause, errRevoked):
		return "revoked"
	case errors.Is(cause, errShutdown):
		return "shutdown"
	case errors.Is(cause, errIdle), errors.Is(cause, errTotal):
		return "timeout"
	}
	return "broken"
}

// lastEvent is what a stream says before TokenHub breaks it off; empty where it
// is not TokenHub that does.
func (b *answerBody) lastEvent(reason string) string {
	// It would stand for what is missing, or in the midst of what is compressed.
	if !b.sse || b.a.resp.ContentLength >= 0 || b.a.resp.Header.has("Content-Encoding") {
		return ""
	}
	var e *Error
	switch reason {
	case "revoked":
		e = errKey(nil)
	case "shutdown":
		e = &Error{Code: "shutting_down", Message: "The server is stopping. Send the request again."}
	case "timeout":
		e = &Error{Code: "provider_timeout", Message: "The provider sent nothing for too long."}
	default:
		return ""
	}
	// The stream may have been cut inside of a line.
	var event strings.Builder
	event.WriteString("\n\n")
	if isAnthropic(b.f.call.Path) {
		event.WriteString("event: error\n")
	}
	event.WriteString("data: ")
	event.Write(e.envelope(b.f.call.Path))
	event.WriteString("\n\n")
	return event.String()
}

// Close ends the answer: what was not settled is settled as it stands.
func (b *answerBody) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	// Whatever happens: nothing stays held.
	defer b.f.finish()
	defer b.a.close()
	b.idle.stop()
	if b.sse {
		b.f.g.streams.Add(-1)
	}
	if b.ending.Load() && !b.settled && causeOf(&b.a.life) == nil {
		b.awaitUsage()
	}
	if !b.settled {
		// The caller is gone, or does not take the bytes.
		reason := "canceled"
		if causeOf(&b.a.life) != nil {
			reason = b.reason()
		}
		if b.meter != nil {
			b.meter.finish()
		}
		b.settle(reason)
	}
	if b.meter != nil {
		b.meter.drop()
		b.meter = nil
	}
	return nil
}

// usageWait is how long the usage of a stream is waited for whose caller has left
// once it had all the rest. Many do, and what was thought in silence stands only
// there. It is below the half second within which a provider is told of others.
const usageWait = 400 * time.Millisecond

// awaitUsage reads on for a moment, for nobody but the meter.
func (b *answerBody) awaitUsage() {
	late := time.AfterFunc(usageWait, func() { b.a.life.end(errGone) })
	defer late.Stop()
	rest := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(rest)
	for b.ending.Load() && !b.settled && b.err == nil {
		_, _ = b.next(rest[:])
		b.pending = nil
	}
}

// settle replaces the reservation by the truth, once. reason is empty when the
// answer is complete.
func (b *answerBody) settle(reason string) {
	if b.settled {
		return
	}
	b.settled = true
	rec := b.record(reason)
	b.f.settle(b.a, rec)
	b.f.log(b.a, rec)
	b.f.judgeEnd(b.a, reason)
}

// record says what the call really used.
func (b *answerBody) record(reason string) *db.Record {
	rec := &b.rec
	*rec = b.f.newRecord(b.a)
	rec.Status, rec.Stream = b.a.resp.StatusCode, b.sse
	rec.FirstByte = b.a.start.Add(b.a.firstByte).Sub(b.f.call.Start)
	rec.Broken, rec.Error = reason != "", reason
	if b.meter == nil {
		return rec
	}
	if reason == "" && rec.Status < 400 && b.meter.errored() { // an error inside of a 200
		rec.Broken, rec.Error = true, "broken"
	}
	usage, reported := b.meter.reported()
	switch {
	case reason != "" && rec.Status < 400:
		rec.Source = db.Aborted
		if usage.Input == 0 { // Anthropic's is known from the first event
			usage.Input = b.f.inputAt(b.a.target)
		}
		if b.f.call.endpoint().hasOutput() {
			usage.Output = max(usage.Output, b.meter.estimate())
		}
	case reported && !b.meter.saysTooLittle(usage):
		rec.Source = db.FromProvider
	case rec.Status < 400:
		rec.Source = db.Estimated
		if usage.Input == 0 {
			usage.Input = b.f.inputAt(b.a.target)
		}
		if b.f.call.endpoint().hasOutput() {
			usage.Output = b.meter.estimate()
		}
	}
	rec.Usage = usage
	rec.Cost = b.f.cost(b.a, rec, b.meter.amounts())
	return rec
}

// inputAt is the estimate of the input at a target, as it was reserved.
func (f *flight) inputAt(t target) int64 { return f.demand.within(contextWindow(t.served)) }

// newRecord is what is known of an attempt before its answer.
func (f *flight) newRecord(a *attempt) db.Record {
	return db.Record{ID: f.call.ID, Start: f.call.Start, Latency: f.g.now().Sub(f.call.Start),
		KeyID: f.key.ID, Model: withoutKey(f.route.model), Served: withoutKey(a.target.served), Provider: a.target.provider.Name,
		Endpoint: f.call.Method + " " + withoutKey(f.call.Path), Attempt: a.number}
}

// failedRecord is the record of an attempt that is charged nothing.
func (f *flight) failedRecord(a *attempt) *db.Record {
	rec := new(f.newRecord(a))
	rec.Broken, rec.Error = true, a.failure()
	if a.resp != nil && a.err == nil {
		rec.Status, rec.Error, rec.Broken = a.resp.StatusCode, "", false
	}
	switch {
	case errors.Is(a.err, errRevoked), errors.Is(a.err, errShutdown), errors.Is(a.err, errGone):
		rec.Error = causeWord(a.err)
		if !a.sent.Load() {
			break // no provider works on half a request
		}
		rec.Source = db.Aborted
		rec.Usage.Input = f.inputAt(a.target)
		rec.Cost = f.cost(a, rec, amounts{calls: 1})
	}
	return rec
}

// cost is the price of what a record says was used; nothing where there was
// nothing to count, [db.UnknownCost] for a model without a price.
func (f *flight) cost(a *attempt, rec *db.Record, besides amounts) int64 {
	if rec.Source == "" {
		return 0
	}
	if rec.Source != db.FromProvider { // what it does not tell is what was asked for
		besides.images = cmp.Or(besides.images, f.demand.besides.images)
		besides.millis = cmp.Or(besides.millis, f.demand.besides.millis)
	}
	price, ok := f.st.prices.lookupFor(f.demand, a.target.provider.Name, a.target.served)
	if !ok {
		return db.UnknownCost
	}
	return price.cost(rec.Usage, besides)
}

// settle hands the record to the ledger in place of the reservation.
func (f *flight) settle(a *attempt, rec *db.Record) {
	if !f.held {
		return
	}
	f.held = false
	if err := f.g.store.Settle(context.Background(), f.res, rec); err != nil {
		f.g.log.Error().Err(err).Str("request", f.call.ID).Msg("usage can't be written to the journal yet")
	}
	f.g.observe(rec)
}

// log writes the line of an attempt.
func (f *flight) log(a *attempt, rec *db.Record) {
	event := f.g.log.Info()
	if a.err != nil && !errors.Is(a.err, errGone) {
		event = f.g.log.Warn().AnErr("cause", a.err)
	}
	event.Str("request", f.call.ID).Str("key", f.key.ID).Str("method", f.call.Method).Str("path", withoutKey(f.call.Path)).
		Str("model", rec.Model).Str("provider", rec.Provider).Int("status", rec.Status).
		Int64("input", rec.Usage.Input).Int64("output", rec.Usage.Output).Str("source", rec.Source).
		Dur("ms", rec.Latency).Str("error", rec.Error).Msg("request")
}
