package proxy

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
)

// payload is a request's body as it is forwarded: in memory, so that it can be
// spliced and sent again, or a stream that can be sent once.
type payload struct {
	none   bool      // there is no body, not even an empty one
	bytes  []byte    // the whole body, unless it is a stream
	fields *fields   // what a JSON object says, else nil
	stream io.Reader // the body where it is not held in memory
	length int64     // -1 = unknown
	// coded says that the body is JSON behind a Content-Encoding.
	coded bool
	// free gives the memory back to the bound; it may be called twice.
	free func()
}

// replayable reports whether the body can be sent a second time.
func (p *payload) replayable() bool { return p.stream == nil }

// bodies bounds the memory of the request bodies that are held, all together.
type bodies struct {
	room *semaphore.Weighted
	// most is the largest body in bytes.
	most int64
}

// bodyMemory is what all request bodies in memory may take together, in bytes;
// more where a single one may be larger than half of it.
const bodyMemory = 256 << 20

// bodyWait is how long a request waits for memory.
const bodyWait = 10 * time.Second

func newBodies(most int64) *bodies {
	return &bodies{room: semaphore.NewWeighted(max(bodyMemory, 2*most)), most: most}
}

func (b *bodies) tooLarge() *Error {
	return failf("request_too_large", "The request body is larger than the %d bytes that this server takes. Send less, or ask the operator to raise max_body.", b.most)
}

var errNoRoom = &Error{Code: "server_busy", RetryAfter: time.Second,
	Message: "The server holds as many request bodies as it may. Try again in a moment."}

// read takes the body of a call: JSON into memory, everything else as a stream.
func (b *bodies) read(ctx context.Context, call *Call) (*payload, error) {
	if call.Body == nil {
		return &payload{none: true, free: func() {}}, nil
	}
	if call.Length > b.most {
		return nil, b.tooLarge()
	}
	strict := call.endpoint().takesJSON()
	if !strict && !isJSON(header(call.Header, "Content-Type")) {
		return &payload{stream: &bounded{r: call.Body, left: b.most, err: b.tooLarge()}, length: call.Length, free: func() {}}, nil
	}
	p, err := b.hold(ctx, call)
	if err != nil {
		return nil, err
	}
	if coding := header(call.Header, "Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		p.coded = true
		return p, nil
	}
	p.fields, err = scan(p.bytes)
	if err != nil {
		var bad *Error
		if strict || errors.As(err, &bad) && bad.Code == "duplicate_parameter" {
			p.free()
			return nil, err
		}
		p.fields = nil // not ours to judge: the provider will
	}
	return p, nil
}

// takesJSON reports whether the endpoint reads nothing but a JSON object.
func (e endpoint) takesJSON() bool {
	switch e {
	case chatCompletions, completions, responses, messages, countTokens, embeddings, moderations, rerank:
		return true
	}
	return false
}

// isJSON reports whether a content type is JSON or a JSON dialect.
func isJSON(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	return kind == "application/json" || strings.HasSuffix(kind, "+json")
}

// hold reads the whole body into memory.
func (b *bodies) hold(ctx context.Context, call *Call) (*payload, error) {
	held := int64(0)
	p := &payload{free: func() { b.room.Release(held); held = 0 }}
	fail := func(err error) (*payload, error) {
		p.free()
		return nil, err
	}
	if n := call.Length; n >= 0 {
		wait, cancel := context.WithTimeout(ctx, bodyWait)
		defer cancel()
		if err := b.room.Acquire(wait, n); err != nil {
			return nil, errNoRoom
		}
		held = n
		p.bytes = make([]byte, n)
		if _, err := io.ReadFull(call.Body, p.bytes); err != nil {
			return fail(errShortBody(err))
		}
		p.length = n
		return p, nil
	}
	// Unknown length: a body that already holds memory must not wait for more,
	// or several of them wait for each other.
	buf := make([]byte, 0, 4<<10)
	for {
		if len(buf) == cap(buf) {
			more := int64(cap(buf))
			if !b.room.TryAcquire(more) {
				return fail(errNoRoom)
			}
			held += more
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := call.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > b.most {
			return fail(b.tooLarge())
		}
		if err == io.EOF {
			p.bytes, p.length = buf, int64(len(buf))
			return p, nil
		}
		if err != nil {
			return fail(errShortBody(err))
		}
	}
}

func errShortBody(err error) *Error {
	return &Error{Code: "invalid_request", Message: "The request body ended before it was complete.", Err: err}
}

// bounded reads at most left bytes, then fails with err.
type bounded struct {
	r    io.Reader
	left int64
	err  error
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, b.err
	}
	return n, err
}
