package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// payload is a request's body as it is forwarded: in memory or spooled, so that
// it can be spliced and sent again, or a stream that can be sent once.
type payload struct {
	none   bool    // there is no body, not even an empty one
	bytes  []byte  // the whole body, unless it is spooled or a stream
	fields *fields // what a JSON object says, else nil
	form   *form   // what a form says, else nil; it is in spool
	spool  *spool
	// stream is what is neither in memory nor spooled: the whole body, or the
	// rest of a form.
	stream io.Reader
	length int64 // -1 = unknown
	// coded says that the body is JSON or a form behind a Content-Encoding.
	coded bool
	// memory is what bytes is a part of; nil for a short body.
	memory *held
	// held is what the body in bytes takes of room.
	held int64
	room *semaphore.Weighted
}

// statesModel reports whether the body says which model is asked for.
func (p *payload) statesModel() bool {
	return p.fields != nil && p.fields.modelAt.to != 0 || p.form != nil && p.form.modelAt.to != 0 && !p.form.modelBad
}

// open reads the body from its beginning, with the edits applied, and tells its
// length, -1 for an unknown one.
func (p *payload) open(edits []edit) (body io.ReadCloser, length int64) {
	switch {
	case p.spool != nil:
		spliced, length := p.spool.spliced(edits, p.stream)
		if p.stream != nil {
			length += p.length - p.spool.size
		}
		if p.length < 0 {
			length = -1
		}
		return io.NopCloser(spliced), length
	case p.stream != nil:
		return io.NopCloser(p.stream), p.length
	case p.memory == nil && len(edits) == 0:
		return inMemory(p.bytes), p.length
	}
	if p.memory != nil {
		large := p.large(edits)
		for _, piece := range large.Buffers {
			length += int64(len(piece))
		}
		return large, length
	}
	pieces, length := splice(p.bytes, edits)
	switch {
	case len(pieces) == 1:
		return inMemory(pieces[0]), length
	}
	return inMemory(bytes.Join(pieces, nil)), length
}

// large reads a body in memory that is used again.
func (p *payload) large(edits []edit) *heldBody {
	pieces, _ := splice(p.bytes, edits)
	p.memory.use()
	return &heldBody{Buffers: pieces, of: p.memory}
}

// inMemory reads a short body in a way in which net/http sends it together with
// the head.
func inMemory(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// free gives memory back to the bound that the body will not need for long any
// more; it may be called twice.
func (p *payload) free() {
	if p.held > 0 {
		p.room.Release(p.held)
		p.held = 0
	}
	if p.spool != nil {
		p.spool.freeMemory()
	}
}

// close lets go of the body.
func (p *payload) close() {
	p.free()
	if p.spool != nil {
		p.spool.close()
	}
	if p.memory != nil {
		p.memory.done()
		p.memory, p.bytes = nil, nil
	}
}

// closeUnless lets go of a body that is not good, also where a mistake in the
// program ended the reading of it.
func (p *payload) closeUnless(good *bool) {
	if !*good {
		p.close()
	}
}

// replayable reports whether the body can be sent a second time.
func (p *payload) replayable() bool { return p.stream == nil }

// bodies bounds the memory of the request bodies that are held, all together.
type bodies struct {
	room, disk *semaphore.Weighted
	// most is the largest body in bytes.
	most int64
	// dir is where long forms are spooled.
	dir string
}

// bodyMemory is what all request bodies in memory may take together, in bytes;
// more where a single one may be larger than half of it.
const bodyMemory = 256 << 20

// bodyWait is how long a request waits for memory.
const bodyWait = 10 * time.Second

func newBodies(most int64, dir string) *bodies {
	return &bodies{room: semaphore.NewWeighted(max(bodyMemory, 2*most)), disk: semaphore.NewWeighted(spoolRoom(most)),
		most: most, dir: dir}
}

func (b *bodies) tooLarge() *Error {
	return failf("request_too_large", "The request body is larger than the %d bytes that this server takes. Send less, or ask the operator to raise max_body.", b.most)
}

var errNoRoom = &Error{Code: "server_busy", RetryAfter: time.Second,
	Message: "The server holds as many request bodies as it may. Try again in a moment."}

// wait waits for room for n bytes.
func (b *bodies) wait(ctx context.Context, n int64) bool {
	ctx, cancel := context.WithTimeout(ctx, bodyWait)
	defer cancel()
	return b.room.Acquire(ctx, n) == nil
}

// noRoom says why a request got no memory: its caller has left, or others hold it all.
func noRoom(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errNoRoom
}

// read takes the body of a call: JSON into memory, forms into a spool up to
// their model, everything else as a stream. Strict is for callers whose model
// matters: all of a form is looked at then.
func (b *bodies) read(ctx context.Context, call *Call, strict bool) (*payload, error) {
	if call.Body == nil {
		return &payload{none: true}, nil
	}
	if call.Length == 0 {
		return &payload{}, nil
	}
	if call.Length > b.most {
		return nil, b.tooLarge()
	}
	if strict {
		for _, name := range []string{"Content-Type", "Content-Encoding"} {
			if len(call.Header.Values(name)) > 1 {
				return nil, failf("invalid_request", "The request has more than one %s.", name)
			}
		}
	}
	contentType := call.Header.Get("Content-Type")
	coding := call.Header.Get("Content-Encoding")
	coded := coding != "" && !strings.EqualFold(coding, "identity")
	takesJSON := call.endpoint().takesJSON()
	if !takesJSON && !isJSON(contentType) {
		rest := &bounded{r: call.Body, left: b.most, err: b.tooLarge()}
		boundary := boundaryOf(contentType)
		if boundary == "" || coded || call.namesNoModel() {
			return &payload{stream: rest, length: call.Length, coded: coded && boundary != ""}, nil
		}
		return b.readForm(ctx, newFormScanner(boundary, strict), rest, call.Length)
	}
	p, err := b.hold(ctx, call)
	if err != nil {
		return nil, err
	}
	if coded {
		p.coded = true
		return p, nil
	}
	good := false
	defer p.closeUnless(&good)
	p.fields, err = scan(p.bytes)
	if err != nil {
		var bad *Error
		if takesJSON || errors.As(err, &bad) && bad.Code == "duplicate_parameter" {
			return nil, err
		}
		p.fields = nil // not ours to judge: the provider will
	}
	good = true
	return p, nil
}

// readForm spools a form until the scanner has seen what it needs to see.
func (b *bodies) readForm(ctx context.Context, s *formScanner, body io.Reader, length int64) (*payload, error) {
	p := &payload{form: &s.form, length: length,
		spool: &spool{dir: b.dir, room: b.room, disk: b.disk}}
	good := false
	defer p.closeUnless(&good)
	chunk := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(chunk)
	for !s.done() {
		n, err := body.Read(chunk[:])
		if err := p.spool.write(ctx, chunk[:n]); err != nil {
			return nil, err
		}
		if err := s.feed(chunk[:n]); err != nil {
			return nil, err
		}
		switch {
		case err == io.EOF:
			if err := s.end(); err != nil {
				return nil, err
			}
			p.length, good = p.spool.size, true
			return p, nil
		case err != nil:
			return nil, errShortBody(err)
		}
	}
	s.count(int(p.spool.size))
	if rest := length - p.spool.size; rest > 0 {
		s.form.tokens += max(2000, (rest+63)/64)
	}
	p.stream, good = body, true
	return p, nil
}

// chunkSize is how much of a form is read at a time, in bytes.
const chunkSize = 32 << 10

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// namesNoModel reports whether forms that are sent to the call's path are files
// to be stored, with no model among their parts.
func (c *Call) namesNoModel() bool {
	path := c.Path
	return path == "/v1/files" || below(path, "/v1/uploads/") || below(path, "/v1/containers/") || below(path, "/v1/skills")
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
	p := &payload{room: b.room}
	good := false
	defer p.closeUnless(&good)
	if n := call.Length; n >= 0 {
		if !b.room.TryAcquire(n) && !b.wait(ctx, n) {
			return nil, noRoom(ctx)
		}
		p.held = n
		if n >= heldFrom {
			p.memory = newHeld(int(n))
			p.bytes = p.memory.bytes[:n]
		} else {
			p.bytes = make([]byte, n)
		}
		if _, err := io.ReadFull(call.Body, p.bytes); err != nil {
			return nil, errShortBody(err)
		}
		p.length, good = n, true
		return p, nil
	}
	// Unknown length: a body that already holds memory must not wait for more,
	// or several of them wait for each other.
	buf := make([]byte, 0, 4<<10)
	for {
		if len(buf) == cap(buf) {
			more := int64(cap(buf))
			if !b.room.TryAcquire(more) {
				return nil, errNoRoom
			}
			p.held += more
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err := call.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > b.most {
			return nil, b.tooLarge()
		}
		if err == io.EOF {
			p.bytes, p.length, good = buf, int64(len(buf)), true
			return p, nil
		}
		if err != nil {
			return nil, errShortBody(err)
		}
	}
}

// errShortBody says that a body can't be read to its end; an [*Error] stays.
func errShortBody(err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return &Error{Code: "invalid_request", Message: "The request body ended before it was complete.", Err: err}
}

// bounded reads at most left bytes, then fails with err. That a body can't be
// read is told as the caller's fault, or it would pass for the provider's.
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
	if err != nil && err != io.EOF {
		err = errShortBody(err)
	}
	return n, err
}
