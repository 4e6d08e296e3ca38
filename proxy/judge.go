package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// judge tells the health of a target what an attempt says about it. A caller
// that left, a request that was at fault and one that found no place say nothing.
func (f *flight) judge(ctx context.Context, a *attempt, reason string) {
	h, served := a.target.provider.health, a.target.served
	now := a.start.Add(a.firstByte)
	if a.err != nil {
		now = f.g.now()
	}
	switch {
	case errors.Is(a.err, errFull):
	case causeOf(ctx) != nil, isOwn(a.err), reason == "" && a.resp.StatusCode >= 400:
		h.left(served, a.probe)
	case reason == "":
		f.g.tell(a.target, h.answered(served, a.start, now, a.firstByte, a.probe), "")
	default:
		wish := time.Duration(0)
		if a.err == nil {
			wish = wishOf(a.resp.StatusCode, a.resp.Header, now)
		}
		why := describe(a, reason)
		f.g.tell(a.target, h.failed(served, a.start, now, why, wish, a.probe), why)
	}
	a.probe = false
}

// isOwn reports whether an error is one of the gateway's, for the caller.
func isOwn(err error) bool {
	if err == nil {
		return false
	}
	var own *Error
	return errors.As(err, &own)
}

// judgeEnd tells the health how an answer that was passed on ended; reason is
// empty when it is complete.
func (f *flight) judgeEnd(a *attempt, reason string) {
	if a.resp.StatusCode >= 400 {
		return
	}
	h, served := a.target.provider.health, a.target.served
	cause := causeOf(&a.life)
	switch {
	case reason == "":
		h.completed(served, a.start)
	case cause == nil:
		why := "it broke off in the middle of an answer"
		f.g.tell(a.target, h.failed(served, a.start, f.g.now(), why, 0, false), why)
	case errors.Is(cause, errIdle):
		f.g.tell(a.target, h.failed(served, a.start, f.g.now(), cause.Error(), 0, false), cause.Error())
	}
}

// describe says in a few words why an attempt failed.
func describe(a *attempt, reason string) string {
	switch {
	case a.err == nil:
		return strings.TrimSpace(fmt.Sprintf("it answered %d %s", a.resp.StatusCode, http.StatusText(a.resp.StatusCode)))
	case reason == "connect":
		return "it can't be reached: " + a.err.Error()
	case reason == "broken":
		return "it closed the connection without an answer: " + a.err.Error()
	}
	return a.err.Error()
}

// tell logs that a target began or ceased to rest.
func (g *Gateway) tell(t target, what change, why string) {
	switch what {
	case beganToRest:
		until := t.provider.health.look(t.served, g.now()).until
		g.log.Warn().Str("provider", t.provider.Name).Str("model", t.served).Str("reason", t.provider.withoutSecrets(why)).Time("until", until).
			Msg("the provider keeps failing: it rests, and is tried after the others")
	case recovered:
		g.log.Info().Str("provider", t.provider.Name).Str("model", t.served).Msg("the provider answers again")
	}
}
