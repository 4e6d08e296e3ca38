package proxy

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Response is an answer to a call.
type Response struct {
	StatusCode int
	// Reason is the phrase behind the status; empty for the usual one.
	Reason string
	Header Headers
	// ContentLength is the length that the answer states, -1 for none.
	ContentLength int64
	// Body must be closed. Where the protocol is changed it is an [io.ReadWriteCloser].
	Body io.ReadCloser
}

// fromHTTP is what net/http says of an answer.
func fromHTTP(r *http.Response) *Response {
	_, reason, _ := strings.Cut(r.Status, " ")
	resp := &Response{StatusCode: r.StatusCode, Reason: reason, ContentLength: r.ContentLength, Body: r.Body}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, v := range r.Header[name] {
			resp.Header = append(resp.Header, Header{name, v})
		}
	}
	return resp
}

// ownResponse is an answer that TokenHub makes itself.
func ownResponse(status int, contentType string, body []byte) *Response {
	return &Response{StatusCode: status, ContentLength: int64(len(body)),
		Header: Headers{{"Content-Type", contentType}}, Body: io.NopCloser(strings.NewReader(string(body)))}
}

// hasBody reports whether an answer of this status can have a body (RFC 9110 §6.4.1).
func (r *Response) hasBody() bool {
	return r.StatusCode >= 200 && r.StatusCode != http.StatusNoContent && r.StatusCode != http.StatusNotModified
}

// isStream reports whether the answer is a stream of events.
func (r *Response) isStream() bool {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}
