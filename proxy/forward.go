package proxy

import (
	"context"
	"errors"
	"slices"
	"time"

	"tokenhub/db"
)

const (
	// maxAttempts bounds how often one call is sent, retries included.
	maxAttempts = 8
	// attemptsWithin is how long after the call began a third attempt, and each
	// one after it, may begin. Two are always made.
	attemptsWithin = 15 * time.Minute
	// maxMisses bounds how often a call looks for a better target than the one
	// that was taken from it.
	maxMisses = 5
	// retryPause is the pause before the first retry; it doubles with each.
	retryPause = 50 * time.Millisecond
)

// forward is hops 4 to 6: it tries the targets in the order of the moment until
// one answers. Until a byte of an answer was passed on, a failure in fallback_on
// leads to the next.
func (f *flight) forward(ctx context.Context) (*Response, error) {
	left := f.route.targets
	retries, misses := 0, 0
	var again target  // the one to retry, if it has a provider
	var refusal error // why a target could not even be tried
	for len(left) > 0 && f.mayTry() {
		retry := again.provider != nil
		c := f.next(left, again)
		if err := f.reserve(ctx, c.target); err != nil {
			if !skippable(err) && (len(f.failed) == 0 || !isLimit(err)) {
				return nil, errors.Join(err, f.noteFailed(nil))
			}
			refusal, again, left = err, target{}, without(left, c.target)
			continue
		}
		a, ok := f.attempt(ctx, c, len(left) == 1 || retry || misses == maxMisses)
		if !ok {
			misses++ // it changed since it was chosen: choose again
			continue
		}
		reason := a.failure()
		f.judge(ctx, a, reason)
		if reason == "" || a.err == nil && !f.st.fallback[reason] {
			return f.answer(a)
		}
		f.failed = append(f.failed, a)
		a.leave() // the next attempt may need the place
		if causeOf(ctx) != nil || !f.st.fallback[reason] || !f.body.replayable() && f.body.length != 0 && a.connected.Load() {
			break
		}
		if reason == "connect" && retries < f.st.cfg.Routing.Retries && (len(left) == 1 || !f.resting(c.target)) {
			if pause(ctx, retryPause<<min(retries, 5)) != nil {
				break
			}
			retries++
			again = c.target
			continue
		}
		retries, again, left = 0, target{}, without(left, c.target)
	}
	return f.giveUp(ctx, refusal)
}

// mayTry reports whether another attempt may be made.
func (f *flight) mayTry() bool {
	n := len(f.failed)
	return n < 2 || n < maxAttempts && f.g.now().Sub(f.call.Start) < attemptsWithin
}

// next is the target that is tried now: the one to retry, the only one, or the
// first one in the order of the moment. A turn is taken before the first attempt
// only.
func (f *flight) next(left []target, again target) candidate {
	if again.provider != nil {
		return candidate{target: again, condition: condition{resting: true}, full: true}
	}
	take := !f.turned
	f.turned = true
	if len(left) == 1 {
		return candidate{target: left[0]} // it is tried whatever state it is in
	}
	return f.st.order(f.route, left, f.demand, f.g.now(), take)[0]
}

// resting reports whether a target rests now.
func (f *flight) resting(t target) bool { return t.provider.health.look(t.served, f.g.now()).resting }

// without returns the targets but one.
func without(list []target, t target) []target {
	out := make([]target, 0, len(list))
	for _, o := range list {
		if o.place() != t.place() {
			out = append(out, o)
		}
	}
	return out
}

// attempt waits for a place at a target and tries it. Without ok it is not what
// it was when it was chosen: it has begun to rest, or was filled by others. With
// only there is nobody else to go to.
func (f *flight) attempt(ctx context.Context, c candidate, only bool) (*attempt, bool) {
	q := c.provider.queue
	if !q.try() {
		if !c.full && !only {
			return nil, false
		}
		if err := f.waitFor(ctx, c.target); err != nil {
			return f.stillborn(ctx, c.target, err), true
		}
	}
	now := f.g.now()
	probe, ok := c.provider.health.enter(c.served, now, c.resting || only)
	if !ok {
		q.leave()
		return nil, false
	}
	return f.try(ctx, c.target, now, probe), true
}

// waitFor waits for a place at a provider, as long as it may take to answer.
func (f *flight) waitFor(ctx context.Context, t target) error {
	if d := t.provider.Timeouts.FirstByte; d > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, d, errFull)
		defer cancel()
		ctx = limited
	}
	return t.provider.queue.wait(ctx, f.key.ID, f.g.now())
}

// pause waits a moment, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// skippable reports whether a refusal concerns one target only.
func skippable(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code == "model_not_priced" || e.Code == "all_providers_failed" || e.Code == "endpoint_not_metered")
}

// isLimit reports whether a limit of the key's is in the way.
func isLimit(err error) bool {
	var limit *db.LimitError
	return errors.As(err, &limit)
}

// reserve takes the worst case at a target out of the key's limits; it moves
// the reservation of an earlier attempt along.
func (f *flight) reserve(ctx context.Context, t target) error {
	if !f.held {
		// Not the time of the headers: a caller who holds back its bodies would
		// collect the room of many minutes for one moment.
		f.claimed = f.g.now()
	}
	claim, refusal := f.st.claim(f.key, f.demand, t, f.claimed)
	if refusal != nil {
		return refusal
	}
	if f.held {
		claim.Replaces = f.res.ID
	}
	res, err := f.g.store.Reserve(ctx, claim)
	if err != nil {
		return f.refused(err)
	}
	f.res, f.held = res, true
	return nil
}

// refused tells the caller why a claim got nothing.
func (f *flight) refused(err error) error {
	var limit *db.LimitError
	switch {
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

// giveUp ends a call that no target served whole: the last answer that a
// provider gave passes, whatever its status; else the caller is told why none did.
func (f *flight) giveUp(ctx context.Context, refusal error) (*Response, error) {
	if len(f.failed) == 0 {
		return nil, refusal
	}
	for i := len(f.failed) - 1; i >= 0 && causeOf(ctx) == nil; i-- {
		if a := f.failed[i]; a.err == nil {
			f.failed = append(f.failed[:i], f.failed[i+1:]...)
			return f.answer(a)
		}
	}
	several := slices.ContainsFunc(f.failed, func(a *attempt) bool { return a.target.place() != f.failed[0].target.place() })
	last := f.failed[len(f.failed)-1]
	f.failed = f.failed[:len(f.failed)-1]
	_ = f.noteFailed(nil)
	rec := f.failedRecord(last)
	if last.connected.Load() {
		f.settle(last, rec)
	} else {
		f.g.observe(rec)
	}
	f.log(last, rec)
	last.close()
	if causeOf(ctx) != nil {
		return nil, context.Cause(ctx)
	}
	if own := (*Error)(nil); errors.As(last.err, &own) {
		return nil, own // the request itself was at fault
	}
	e := &Error{Code: "provider_unreachable", RetryAfter: retrySoon, Err: last.err,
		Message: "The provider of this model can't be reached. Try again soon; the operator finds the reason in the log under this request ID."}
	switch {
	case several:
		e.Code, e.Message = "all_providers_failed", "None of the providers of this model answered. Try again soon; the operator finds the reasons in the log under this request ID."
	case errors.Is(last.err, errFull):
		e.Code, e.Message = "provider_timeout", "The provider of this model had no place free in time. Try again later, or ask the operator to raise max_concurrency."
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
		rec := f.failedRecord(a)
		if a.connected.Load() {
			if err := f.g.store.Note(context.Background(), rec); err != nil {
				f.g.log.Error().Err(err).Str("request", f.call.ID).Msg("a failed attempt can't be written to the journal yet")
			}
		}
		f.g.observe(rec)
		f.log(a, rec)
		a.close()
	}
	f.failed = nil
	return err
}
