package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"tokenhub/auth"
	"tokenhub/db"
)

// Error is an answer that says no. What the caller may read (Message) and what
// the log may read (Err) are different fields.
type Error struct {
	Status     int
	Type, Code string
	// Message is one sentence or two that say what to do next.
	Message string
	// RetryAfter becomes the Retry-After header, rounded up to whole seconds; 0 = none.
	RetryAfter time.Duration
	// Allow lists the methods of the path, for 405.
	Allow []string
	// Err is the cause, for the log alone.
	Err error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Code + ": " + e.Err.Error()
	}
	return e.Code + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Err }

func errInvalid(format string, args ...any) *Error {
	return &Error{Status: 400, Type: "invalid_request_error", Code: "invalid_request", Message: fmt.Sprintf(format, args...)}
}

func errMissing(format string, args ...any) *Error {
	return &Error{Status: 404, Type: "not_found_error", Code: "not_found", Message: fmt.Sprintf(format, args...)}
}

func errConflict(format string, args ...any) *Error {
	return &Error{Status: 409, Type: "conflict_error", Code: "conflict", Message: fmt.Sprintf(format, args...)}
}

func errDenied(format string, args ...any) *Error {
	return &Error{Status: 403, Type: "permission_error", Code: "permission_denied", Message: fmt.Sprintf(format, args...)}
}

func errOffline(what string) *Error {
	return &Error{Status: 503, Type: "api_error", Code: "not_running", Message: what + " needs the running server: start it with `tokenhub serve` and try again."}
}

// errToken is the one answer to whoever shows no admin token that works.
func errToken(cause error) *Error {
	return &Error{
		Status: 401, Type: "authentication_error", Code: "invalid_admin_token",
		Message: "This needs a valid admin token: send it as `Authorization: Bearer tha-...`. `tokenhub admin token create` makes one; API keys (th-...) do not work here.",
		Err:     cause,
	}
}

var (
	errTooLarge = &Error{Status: 413, Type: "invalid_request_error", Code: "request_too_large", Message: "The request body is larger than 1 MiB."}
	errNoRoute  = errMissing("There is no such route. The routes of this API are listed at /api/openapi.json.")
)

// asError turns any error into the answer that it becomes.
func asError(err error) *Error {
	var known *Error
	var tooMany *auth.TooMany
	var busy *auth.Busy
	var refused *auth.Refused
	var fiberErr *fiber.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refused):
		return errToken(err)
	case errors.As(err, &tooMany):
		return &Error{Status: 429, Type: "rate_limit_error", Code: "too_many_failures",
			Message: "Too many wrong secrets were tried here. Wait and send the right one.", RetryAfter: tooMany.RetryAfter, Err: err}
	case errors.As(err, &busy):
		return &Error{Status: 503, Type: "api_error", Code: "server_busy",
			Message: "The server is busy checking secrets. Try again shortly.", RetryAfter: busy.RetryAfter, Err: err}
	case errors.Is(err, db.ErrNotFound):
		return &Error{Status: 404, Type: "not_found_error", Code: "not_found", Message: "There is no such thing here (any more).", Err: err}
	case errors.Is(err, db.ErrConflict):
		return &Error{Status: 409, Type: "conflict_error", Code: "conflict", Message: "It was changed meanwhile. Read it again and repeat the change.", Err: err}
	case errors.Is(err, db.ErrStorage):
		return &Error{Status: 503, Type: "api_error", Code: "storage_unavailable",
			Message: "The storage can't be written or read right now. Check the disk and the server's log.", RetryAfter: 5 * time.Second, Err: err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Status: 503, Type: "api_error", Code: "server_busy", Message: "This took too long and was given up. Try again.", RetryAfter: time.Second, Err: err}
	case errors.As(err, &fiberErr):
		return fromFiber(fiberErr)
	}
	return &Error{Status: 500, Type: "api_error", Code: "internal_error", Message: "Internal error. The server's log says more.", Err: err}
}

// fromFiber answers Fiber's own errors with fixed texts: theirs may quote the raw
// request, credentials included.
func fromFiber(err *fiber.Error) *Error {
	switch err.Code {
	case 404:
		return errNoRoute
	case 405:
		return &Error{Status: 405, Type: "invalid_request_error", Code: "method_not_allowed", Message: "This path does not know the method."}
	case 413:
		return errTooLarge
	case 431:
		return &Error{Status: 431, Type: "invalid_request_error", Code: "headers_too_large", Message: "The request's line and headers are too large."}
	}
	if err.Code >= 400 && err.Code < 500 {
		return &Error{Status: err.Code, Type: "invalid_request_error", Code: "invalid_request", Message: "The request can't be read as HTTP."}
	}
	return &Error{Status: 500, Type: "api_error", Code: "internal_error", Message: "Internal error. The server's log says more."}
}

// ErrorHandler answers an error that reached Fiber, in the API's form and with
// fixed texts. It is meant for apps that serve the admin side alone.
func ErrorHandler(c *fiber.Ctx, err error) error { return writeError(c, asError(err)) }

// writeError answers with e.
func writeError(c *fiber.Ctx, e *Error) error {
	body, err := json.Marshal(map[string]any{"error": struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    string `json:"code"`
	}{e.Message, e.Type, e.Code}})
	if err != nil {
		return err
	}
	if e.Status == 401 {
		c.Set("WWW-Authenticate", "Bearer")
	}
	if e.Status == 413 {
		c.Context().Response.SetConnectionClose()
	}
	if e.RetryAfter > 0 {
		c.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	if len(e.Allow) > 0 {
		c.Set("Allow", strings.Join(e.Allow, ", "))
	}
	c.Set("Content-Type", "application/json")
	return c.Status(e.Status).Send(body)
}
