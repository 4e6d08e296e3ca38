package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// noticed is within what the provider's request must have ended when the caller
// has left.
const noticed = 500 * time.Millisecond

// A caller that leaves stops the provider wherever the answer is, in each way in
// which a connection can end, with and without TLS; what the call held is
// settled, once.
func TestCallerLeaves(t *testing.T) {
	ways := map[string]func(*wire) error{
		"by a FIN":   func(w *wire) error { return w.conn.Close() },
		"by a reset": func(w *wire) error { return errors.Join(w.tcp.SetLinger(0), w.tcp.Close()) },
		"half": func(w *wire) error {
			if secure, ok := w.conn.(*tls.Conn); ok { // which sends no FIN by itself
				if err := secure.CloseWrite(); err != nil {
					return err
				}
			}
			return w.tcp.CloseWrite()
		},
		"without a word of TLS": func(w *wire) error {
			return w.tcp.Close()
		},
		"with half a request behind it": func(w *wire) error {
			_, err := io.WriteString(w.conn, "GET /v1/mod")
			return errors.Join(err, w.conn.Close())
		},
	}
	places := map[string]func(w http.ResponseWriter, r *http.Request, begun chan<- struct{}){
		"before the headers": func(_ http.ResponseWriter, r *http.Request, begun chan<- struct{}) {
			begun <- struct{}{}
			<-r.Context().Done()
		},
		"behind the headers of a stream": func(w http.ResponseWriter, r *http.Request, begun chan<- struct{}) {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			begun <- struct{}{}
			<-r.Context().Done()
		},
		"in the silence of a stream": func(w http.ResponseWriter, r *http.Request, begun chan<- struct{}) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"some words\"}}]}\n\n")
			_ = http.NewResponseController(w).Flush()
			begun <- struct{}{}
			<-r.Context().Done()
		},
		"in a stream that flows": func(w http.ResponseWriter, r *http.Request, begun chan<- struct{}) {
			w.Header().Set("Content-Type", "text/event-stream")
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for i := 0; r.Context().Err() == nil; i++ {
				if i == 3 {
					begun <- struct{}{}
				}
				_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"some words\"}}]}\n\n")
				_ = http.NewResponseController(w).Flush()
				<-tick.C
			}
		},
		"in a body of known length": func(w http.ResponseWriter, r *http.Request, begun chan<- struct{}) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"choices":[`)
			_ = http.NewResponseController(w).Flush()
			begun <- struct{}{}
			<-r.Context().Done()
		},
	}
	for _, secure := range []bool{false, true} {
		begun, gone := make(chan struct{}, 1), make(chan time.Time, 1)
		p := calls(t, good)
		t.Run(map[bool]string{false: "plain", true: "TLS"}[secure], func(t *testing.T) {
			var more []func(*door)
			if secure {
				more = append(more, secureDoor)
			}
			d := newDoor(t, p.URL, nil, more...)
			key := d.key("k", nil)
			for place, does := range places {
				p.become(posted(func(w http.ResponseWriter, r *http.Request) {
					does(w, r, begun)
					gone <- time.Now()
				}))
				for way, leave := range ways {
					name := way + " " + place
					before := len(d.store.Records())
					w := d.dial()
					w.write("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", key, len(streamBody), streamBody)
					<-begun
					left := time.Now()
					if err := leave(w); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					select {
					case at := <-gone:
						if took := at.Sub(left); took > noticed {
							t.Errorf("%s: the provider's request ended after %v", name, took)
						}
					case <-time.After(5 * time.Second):
						t.Fatalf("%s: the provider's request goes on", name)
					}
					got := d.settled()[before:]
					if len(got) != 1 || got[0].Error != "canceled" || got[0].Source != db.Aborted || got[0].Usage.Input == 0 {
						t.Errorf("%s: settled as %+v", name, got)
					}
					if holds := d.store.Holds(); len(holds) != 0 {
						t.Errorf("%s: %+v is held", name, holds)
					}
				}
			}
		})
		p.Close()
	}
}

// A caller that leaves behind the last byte of its answer takes nothing back: it
// is settled as what the provider reported.
func TestCallerLeavesBehindTheEnd(t *testing.T) {
	d := newDoor(t, calls(t, stream).URL, nil)
	_, lines := d.open(d.key("k", nil))
	for event(t, lines) != "data: [DONE]" {
	}
	if got := d.settled(); len(got) != 1 || got[0].Source != db.FromProvider || got[0].Usage.Tokens() != 12 || got[0].Broken {
		t.Errorf("settled as %+v", got)
	}
}

// A caller that leaves in the middle of its own request costs nothing: what came
// of it is not taken for the whole, and no provider answers half a request.
func TestCallerLeavesInItsBody(t *testing.T) {
	for name, head := range map[string]string{
		"JSON":               "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 100000\r\n",
		"JSON in chunks":     "POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
		"a form":             "POST /v1/audio/transcriptions HTTP/1.1\r\nContent-Length: 100000\r\nContent-Type: multipart/form-data; boundary=b\r\n",
		"a form in chunks":   "POST /v1/audio/transcriptions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: multipart/form-data; boundary=b\r\n",
		"a stream":           "POST /v1/audio/transcriptions HTTP/1.1\r\nContent-Length: 100000\r\nContent-Type: audio/wav\r\n",
		"a stream in chunks": "POST /v1/audio/transcriptions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: audio/wav\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := record(t, good) // which notes whole requests only
			running := make(chan struct{}, 1)
			d := newDoor(t, p.URL, nil, func(d *door) { d.touched = func() { running <- struct{}{} } })
			key := d.key("k", nil)
			w := d.dial()
			part := "hello"
			if strings.Contains(head, "chunked") {
				part = "5\r\nhello\r\n"
			}
			w.write("%sHost: x\r\nX-Api-Key: %s\r\n\r\n%s", head, key, strings.Repeat(part, 2000))
			<-running
			if err := w.tcp.Close(); err != nil {
				t.Fatal(err)
			}
			for _, rec := range d.settled() {
				if rec.Usage != (db.Usage{}) || rec.Cost != 0 || rec.Status != 0 {
					t.Errorf("settled as %+v", rec)
				}
			}
			if got := p.all(); len(got) != 0 {
				t.Errorf("the provider got a whole request of %d bytes", len(got[0].body))
			}
		})
	}
}

// A provider that breaks off, or sends less than it has said, is seen as a
// broken answer, never as a clean end, and what came of it is passed on.
func TestProviderBreaksOff(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: "
	for name, c := range map[string]struct {
		sends string
		reset bool
		want  string
	}{
		"a stream without its last chunk":   {head + "text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n", false, "data: 1\n\n"},
		"a stream inside of a chunk":        {head + "text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n99\r\ndata: 1\n\n", false, "data: 1\n\n"},
		"a stream by a reset":               {head + "text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n", true, ""},
		"a body shorter than its length":    {head + "application/json\r\nContent-Length: 100\r\n\r\n{\"a\":", false, `{"a":`},
		"a stream shorter than its length":  {head + "text/event-stream\r\nContent-Length: 100\r\n\r\ndata: 1\n\n", false, "data: 1\n\n"},
		"a body in chunks without the last": {head + "application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n", false, `{"a":`},
	} {
		p := calls(t, cut(c.sends, c.reset))
		broken := func(t *testing.T, d *door) {
			key := d.key("k", nil)
			for _, proto := range []string{"1.1", "1.0"} {
				w := d.dial()
				w.write("POST /v1/chat/completions HTTP/%s\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", proto, key, len(streamBody), streamBody)
				resp, err := http.ReadResponse(w.r, nil)
				if c.reset && err != nil {
					continue // the reset overtook the headers
				}
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				if err == nil && resp.StatusCode == 200 {
					t.Errorf("HTTP/%s: %q ends like a whole answer", proto, got)
				}
				if proto == "1.1" && c.want != "" && string(got) != c.want {
					t.Errorf("HTTP/%s: got %q, want %q", proto, got, c.want)
				}
			}
			for _, rec := range d.settled() {
				if !rec.Broken || rec.Error != "broken" {
					t.Errorf("settled as %+v", rec)
				}
			}
			if n := len(d.store.Records()); n != 2 {
				t.Errorf("%d records", n)
			}
		}
		t.Run(name, func(t *testing.T) { broken(t, newDoor(t, p.URL, nil)) })
		// Which has an end of its own, beside that of the connection.
		t.Run(name+", over TLS", func(t *testing.T) { broken(t, newDoor(t, p.URL, nil, secureDoor)) })
	}
}

// What TokenHub says when it breaks off a stream of a known length does not stand
// for the bytes that are missing.
func TestLastWordDoesNotFillUpAStream(t *testing.T) {
	const begins, missing = "data: {\"choices\":[]}\n\n", 40
	p := calls(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(begins)+missing))
		_, _ = io.WriteString(w, begins)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	d := newDoor(t, p.URL, func(c *config.Config) { c.Providers[0].Timeouts.Idle = 100 * time.Millisecond })
	resp, lines := d.open(d.key("k", nil))
	if got, err := io.ReadAll(lines); string(got) != begins || err == nil {
		t.Errorf("%d: %q, %v", resp.StatusCode, got, err)
	}
}

// The provider of a caller that half-closes after its request is stopped too: a
// FIN is a caller that leaves. The connection is closed without an answer.
func TestHalfCloseGetsNoAnswer(t *testing.T) {
	d := newDoor(t, calls(t, silent).URL, nil)
	w := d.dial()
	w.write("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", d.key("k", nil), len(chatBody), chatBody)
	if err := w.tcp.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(w.r); len(rest) != 0 || err != nil && !errors.Is(err, net.ErrClosed) {
		t.Errorf("%q %v", rest, err)
	}
}

// endingStore ends a call at the moment when its key is read once more.
type endingStore struct {
	Store
	end func()
}

func (s endingStore) Key(ctx context.Context, id string) (*db.Key, error) {
	s.end()
	return s.Store.Key(ctx, id)
}

// What ends a call before it went out decides what is said of it, and not what
// follows from that: a caller that left was told that its key is invalid, or that
// its body is not complete, and a revoked key's caller the latter.
func TestEndBeforeTheCallGoesOutIsNotItsCallersFault(t *testing.T) {
	for _, c := range []struct {
		cause error
		want  reply
	}{
		{errGone, reply{err: errGone}},
		{errRevoked, reply{status: 401, code: "invalid_api_key", err: errRevoked}},
		{errShutdown, reply{status: 503, code: "shutting_down"}},
	} {
		for moment, set := range map[string]func(h *hub, call *Call){
			"while the key is read": func(h *hub, call *Call) {
				h.g.store = endingStore{h.g.store, func() { call.Cancel(c.cause) }}
			},
			"while the body is read": func(_ *hub, call *Call) {
				r, w := io.Pipe()
				call.Body = r
				go func() {
					_, _ = io.WriteString(w, `{"model":`)
					call.Cancel(c.cause)
					_ = w.CloseWithError(errReleased)
				}()
			},
		} {
			h := newHub(t, nil, calls(t, silent).URL)
			call := h.call(h.key.ID, "/v1/chat/completions", chatBody)
			set(h, call)
			if got := h.do(t.Context(), call); got.status != c.want.status || got.code != c.want.code || !errors.Is(got.err, c.want.err) {
				t.Errorf("%v %s: %v", c.cause, moment, got)
			}
		}
	}
}

// Many callers leave as soon as the model has said why it ends; its usage comes
// behind that, and in it what was thought in silence. It was not waited for.
func TestUsageBehindTheEnd(t *testing.T) {
	const says = "data: {\"choices\":[{\"delta\":{\"content\":\"yes\"},\"finish_reason\":null}]}\n\n"
	const ends = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
	const both = "data: {\"choices\":[{\"delta\":{\"content\":\"yes\"},\"finish_reason\": \"stop\"}]}\n\n"
	const usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":900,\"completion_tokens_details\":{\"reasoning_tokens\":890}}}\n\n"
	for name, c := range map[string]struct {
		sends  string
		late   bool // whether the usage comes
		reset  bool
		output int64
		ask    string // of the caller's own
		pings  int
	}{
		"behind a FIN":             {says + ends, true, false, 900, "", 0},
		"behind a reset":           {says + ends, true, true, 900, "", 0},
		"asked for by the caller":  {says + ends, true, false, 900, `,"stream_options":{"include_usage":true}`, 0},
		"with the last text":       {says + both, true, false, 900, "", 0},
		"behind what nobody takes": {says + ends, true, true, 900, "", 3},
		"never":                    {says + ends, false, false, 1, "", 0},
		"not before the end of it": {says + says, false, false, 1, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			left, ended := make(chan struct{}), make(chan time.Time, 1)
			p := calls(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, c.sends)
				_ = http.NewResponseController(w).Flush()
				select {
				case <-left:
				case <-r.Context().Done():
				}
				if c.late {
					for range c.pings { // which can't be passed on
						_, _ = io.WriteString(w, ": ping\n\n")
						_ = http.NewResponseController(w).Flush()
						<-time.After(20 * time.Millisecond)
					}
					<-time.After(100 * time.Millisecond) // long enough to be told of the caller
					_, _ = io.WriteString(w, usage+"data: [DONE]\n\n")
					_ = http.NewResponseController(w).Flush()
				} else {
					<-r.Context().Done()
				}
				ended <- time.Now()
			})
			d := newDoor(t, p.URL, nil)
			w := d.dial()
			body := `{"model":"m","stream":true,"messages":[]` + c.ask + `}`
			w.write("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", d.key("k", nil), len(body), body)
			resp, err := http.ReadResponse(w.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, len(c.sends))); err != nil {
				t.Fatal(err)
			}
			if c.reset {
				_ = w.tcp.SetLinger(0)
			}
			at := time.Now()
			_ = w.tcp.Close()
			close(left)
			recs := d.settled()
			if len(recs) != 1 || recs[0].Usage.Output != c.output && c.output > 1 || c.output == 1 && (recs[0].Usage.Output >= 900 || recs[0].Source != db.Aborted) {
				t.Errorf("settled as %+v, want %d tokens of output", recs, c.output)
			}
			if took := (<-ended).Sub(at); took > noticed+200*time.Millisecond {
				t.Errorf("the provider was at work for %v more", took)
			}
		})
	}
}
