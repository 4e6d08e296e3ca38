package proxy

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"tokenhub/db"
)

// Error is an answer that TokenHub makes itself. What the caller may read
// (Message) and what the log may read (Err) are different fields.
type Error struct {
	// Code names the refusal; Status and Type follow from it: see kinds.
	Code string
	// Message is one sentence for the caller that says what to do next. It never
	// holds anything that the caller did not send or may not know.
	Message string
	// RetryAfter becomes the Retry-After header, rounded up to whole seconds; 0 = none.
	RetryAfter time.Duration
	// Minute fills the X-RateLimit headers of a key with limits per minute.
	Minute db.MinuteState
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

// kind is what all errors of one code have in common.
type kind struct {
	status int
	typ    string
}

// The types of errors, as OpenAI and Anthropic name them where they do.
const (
	typeAuth     = "authentication_error"
	typeRequest  = "invalid_request_error"
	typeDenied   = "permission_error"
	typeMissing  = "not_found_error"
	typeRate     = "rate_limit_error"
	typeBudget   = "usage_limit_exceeded"
	typeProvider = "provider_error"
	typeAPI      = "api_error"
)

// kinds is the closed set of refusals: code, status, type.
var kinds = map[string]kind{
	"invalid_api_key": {401, typeAuth},

	"invalid_json":         {400, typeRequest},
	"missing_parameter":    {400, typeRequest},
	"duplicate_parameter":  {400, typeRequest},
	"invalid_parameter":    {400, typeRequest},
	"invalid_path":         {400, typeRequest},
	"invalid_strategy":     {400, typeRequest},
	"invalid_request":      {400, typeRequest},
	"request_too_large":    {413, typeRequest},
	"unsupported_encoding": {415, typeRequest},
	"max_tokens_exceeded":  {422, typeRequest},

	"model_not_allowed":    {403, typeDenied},
	"provider_not_allowed": {403, typeDenied},
	"endpoint_not_allowed": {403, typeDenied},
	"endpoint_not_metered": {403, typeDenied},
	"ip_not_allowed":       {403, typeDenied},
	"model_not_priced":     {403, typeDenied},

	"model_not_found": {404, typeMissing},
	"not_found":       {404, typeMissing},

	"daily_token_limit_reached":   {402, typeBudget},
	"monthly_token_limit_reached": {402, typeBudget},
	"total_token_limit_reached":   {402, typeBudget},
	"daily_spend_limit_reached":   {402, typeBudget},
	"monthly_spend_limit_reached": {402, typeBudget},
	"total_spend_limit_reached":   {402, typeBudget},

	"requests_per_minute_exceeded": {429, typeRate},
	"tokens_per_minute_exceeded":   {429, typeRate},
	"concurrent_requests_exceeded": {429, typeRate},
	"too_many_failures":            {429, typeRate},

	"no_provider_configured": {503, typeProvider},
	"provider_unreachable":   {503, typeProvider},
	"provider_timeout":       {503, typeProvider},
	"all_providers_failed":   {503, typeProvider},

	"storage_unavailable": {503, typeAPI},
	"server_busy":         {503, typeAPI},
	"shutting_down":       {503, typeAPI},
	"internal_error":      {500, typeAPI},
}

// Status is the HTTP status of the error's code.
func (e *Error) Status() int { return e.kind().status }

func (e *Error) kind() kind {
	if k, ok := kinds[e.Code]; ok {
		return k
	}
	return kind{500, typeAPI}
}

// failf returns the error of a code with its message.
func failf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func errInvalidJSON(message string) *Error { return failf("invalid_json", "%s", message) }

func errDuplicate(field string) *Error {
	return failf("duplicate_parameter", "The field %q may stand only once in a request, in exactly this spelling.", field)
}

// errKey is the one answer to each key that does not open anything.
func errKey(cause error) *Error {
	return &Error{Code: "invalid_api_key", Message: "Invalid API key provided.", Err: cause}
}

// envelope renders the error in the dialect that the caller of path speaks:
// OpenAI's, or Anthropic's under /v1/messages.
func (e *Error) envelope(path string) []byte {
	k := e.kind()
	var v any
	if isAnthropic(path) {
		inner := struct {
			Type    string `json:"type"`
			Message string `json:"message"`
			Code    string `json:"code,omitempty"`
		}{k.typ, e.Message, e.Code}
		if k.status == 401 {
			inner.Code = ""
		}
		v = struct {
			Type  string `json:"type"`
			Error any    `json:"error"`
		}{"error", inner}
	} else {
		v = struct {
			Error any `json:"error"`
		}{struct {
			Message string `json:"message"`
			Type    string `json:"type"`
			Code    string `json:"code"`
		}{e.Message, k.typ, e.Code}}
	}
	text, err := json.Marshal(v)
	if err != nil { // strings always marshal
		return []byte(`{"error":{"message":"Internal error.","type":"api_error","code":"internal_error"}}`)
	}
	return text
}

// isAnthropic reports whether a path belongs to Anthropic's messages API.
func isAnthropic(path string) bool {
	rest, ok := strings.CutPrefix(path, "/v1/messages")
	return ok && (rest == "" || rest[0] == '/')
}
