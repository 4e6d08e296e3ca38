package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxBody is the largest request that is read, in bytes.
const maxBody = 64 << 20

// failure is an answer that tells the caller what was wrong with the request.
type failure struct {
	status  int
	typ     string // as both providers name it
	code    string // OpenAI only; empty = null
	param   string // OpenAI only; empty = null
	message string
}

func (f *failure) Error() string { return f.message }

func badRequest(param, format string, args ...any) error {
	return &failure{400, "invalid_request_error", "", param, fmt.Sprintf(format, args...)}
}

func noSuchModel(name string) error {
	return &failure{404, "not_found_error", "model_not_found", "model",
		fmt.Sprintf("The model %q does not exist here. The demo provider has %q and %q.", name, Model, EmbeddingModel)}
}

func noSuchPath(_ http.ResponseWriter, r *http.Request) error {
	return &failure{404, "not_found_error", "", "",
		fmt.Sprintf("The demo provider has no %s %s.", r.Method, r.URL.Path)}
}

// openai renders the failures of h as OpenAI does. Other errors mean that the
// caller left: there is nobody to tell.
func openai(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", newID("req_"))
		var f *failure
		if !errors.As(h(w, r), &f) {
			return
		}
		typ := f.typ
		if typ == "not_found_error" { // OpenAI's 404s are invalid requests
			typ = "invalid_request_error"
		}
		writeJSON(w, f.status, map[string]any{"error": map[string]any{
			"message": f.message, "type": typ, "param": orNull(f.param), "code": orNull(f.code),
		}})
	}
}

// anthropic renders the failures of h as Anthropic does.
func anthropic(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := newID("req_")
		w.Header().Set("Request-Id", id)
		var f *failure
		if !errors.As(h(w, r), &f) {
			return
		}
		writeJSON(w, f.status, map[string]any{
			"type":       "error",
			"error":      map[string]any{"type": f.typ, "message": f.message},
			"request_id": id,
		})
	}
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// decode reads the request's JSON body into v.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return &failure{413, "request_too_large", "", "", "The request is larger than 64 MiB."}
	case err != nil:
		return err
	}
	err = json.Unmarshal(body, v)
	var own *failure // of a type's UnmarshalJSON
	var typ *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case errors.As(err, &typ) && typ.Field != "":
		return badRequest(typ.Field, "The field %q can't be a JSON %s.", typ.Field, typ.Value)
	}
	return badRequest("", "The body of the request can't be read as JSON: %v.", err)
}
