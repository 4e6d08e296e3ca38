package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/config"
	"tokenhub/db"
	"tokenhub/db/dbtest"
)

// hub is a gateway on the reference engine, without a listener: tests of
// routing call [Gateway.Do].
type hub struct {
	t     *testing.T
	g     *Gateway
	store *dbtest.Mem
	cfg   *config.Config
	key   *db.Key
	log   *lockedBuffer
	calls atomic.Int64
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// anyKey verifies each secret as that of the key with this ID.
type anyKey struct{ store *dbtest.Mem }

func (a anyKey) Verify(ctx context.Context, text string, _ netip.Addr) (*db.Key, error) {
	return a.store.Key(ctx, text)
}

// newHub has the providers a, b, c ... at the URLs, all of them behind the name
// house as model m; edit may change the configuration. At the end no reservation
// may be left, no place taken, no call running.
func newHub(t *testing.T, edit func(*config.Config), urls ...string) *hub {
	t.Helper()
	cfg := config.Defaults()
	cfg.Routing.Retries = 0
	house := config.Model{Name: "house"}
	for i, url := range urls {
		name := string(rune('a' + i))
		cfg.Providers = append(cfg.Providers, config.Provider{Name: name, BaseURL: url, Auth: "none", AskUsage: true,
			OutputField: "max_tokens", Models: []string{"m", name + "-*"}, Timeouts: config.Timeouts{Connect: 2 * time.Second, FirstByte: 10 * time.Second, Idle: 10 * time.Second}})
		house.Targets = append(house.Targets, config.Target{Provider: name, Model: "m", Weight: 1})
		cfg.Prices = append(cfg.Prices, config.Price{Model: name + "/*", Input: 1_000_000, CachedInput: 1_000_000, CacheWrite: 1_000_000, Output: 2_000_000, Tokens: true})
	}
	cfg.Models = []config.Model{house}
	if edit != nil {
		edit(cfg)
	}
	h := &hub{t: t, cfg: cfg, store: dbtest.Memory(dbtest.Options{}), log: &lockedBuffer{}}
	g, err := New(Options{Config: cfg, Verifier: anyKey{h.store}, Store: h.store, Log: zerolog.New(h.log)})
	if err != nil {
		t.Fatal(err)
	}
	h.g = g
	h.key = h.addKey("one", db.Limits{})
	t.Cleanup(func() {
		if n := g.Running(); n != 0 {
			t.Errorf("%d calls are still running", n)
		}
		if holds := h.store.Holds(); len(holds) != 0 {
			t.Errorf("reservations are left: %+v", holds)
		}
		for _, p := range g.state.Load().providers {
			if running, waiting, _ := p.queue.load(); running != 0 || waiting != 0 {
				t.Errorf("provider %s: %d places are taken and %d calls wait", p.Name, running, waiting)
			}
			p.close()
		}
	})
	return h
}

func (h *hub) addKey(id string, l db.Limits) *db.Key {
	h.t.Helper()
	k, err := h.store.PutKey(h.t.Context(), &db.Key{ID: id, Name: id, Endpoints: db.Inference, Limits: l, CreatedAt: time.Now()}, db.Audit{})
	if err != nil {
		h.t.Fatal(err)
	}
	return k
}

// reply is what became of a call.
type reply struct {
	status   int
	provider string
	code     string // of TokenHub's own refusal
	body     string
	err      error // how the body ended, nil = at its end
	header   Headers
}

func (r reply) String() string {
	return fmt.Sprintf("status %d from %q, code %q, body %.60q, error %v", r.status, r.provider, r.code, r.body, r.err)
}

// ask makes a chat completion for a model; headers are pairs.
func (h *hub) ask(model string, headers ...string) reply {
	return h.askAs(h.t.Context(), h.key.ID, model, headers...)
}

func (h *hub) askAs(ctx context.Context, key, model string, headers ...string) reply {
	body := `{"model":"` + model + `","max_tokens":10,"messages":[]}`
	call := h.call(key, "/v1/chat/completions", body)
	for i := 0; i+1 < len(headers); i += 2 {
		call.Header = append(call.Header, Header{headers[i], headers[i+1]})
	}
	return h.do(ctx, call)
}

func (h *hub) call(key, path, body string) *Call {
	return &Call{ID: fmt.Sprint("req_", h.calls.Add(1)), Start: h.g.now(), Method: "POST", Path: path,
		Header: Headers{{"Authorization", "Bearer " + key}, {"Content-Type", "application/json"}},
		From:   netip.MustParseAddr("127.0.0.1"), Body: strings.NewReader(body), Length: int64(len(body))}
}

func (h *hub) do(ctx context.Context, call *Call) reply {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errDone)
	call.Cancel = cancel
	resp, err := h.g.Do(ctx, call)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return reply{err: err}
		}
		return reply{status: e.Status(), code: e.Code, err: e.Err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return reply{status: resp.StatusCode, provider: resp.Header.Get("X-Inferoute-Provider"), body: string(text), err: err, header: resp.Header}
}

// want fails the test unless a call was answered by a provider with a status.
func (h *hub) want(r reply, status int, provider string) {
	h.t.Helper()
	if r.status != status || r.provider != provider || r.err != nil {
		h.t.Fatalf("%v, want status %d from %q", r, status, provider)
	}
}

// fake is a provider that does as it is told.
type fake struct {
	*httptest.Server
	hits atomic.Int64
	mu   sync.Mutex // guards serve
	// serve answers; it may be changed while the provider runs.
	serve http.HandlerFunc
}

func newFake(t *testing.T, serve http.HandlerFunc) *fake {
	f := &fake{serve: serve}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.hits.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		f.mu.Lock()
		serve := f.serve
		f.mu.Unlock()
		serve(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) become(serve http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serve = serve
}

// good answers a chat completion that used 7 and 5 tokens.
func good(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":7,"completion_tokens":5}}`)
}

// stream answers with events, the last of them [DONE].
func stream(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n")
}

// fails answers with a status and headers, in pairs.
func fails(status int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"error":{"message":"fault %d"}}`, status)
	}
}

// silent does not answer until the gateway hangs up.
func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// cut sends some raw bytes and closes the connection, with a reset if wanted.
func cut(raw string, reset bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, raw)
		if reset {
			_ = conn.(*net.TCPConn).SetLinger(0)
		}
		_ = conn.Close()
	}
}

// headersThenSilence begins an answer and sends nothing of it.
func headersThenSilence(kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// deadPort is the URL of a port on which nobody listens.
func deadPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String() + "/v1"
}

// blackHole is the URL of a port that takes connections and never reads.
func blackHole(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); conns.Wait() })
	return "http://" + ln.Addr().String() + "/v1"
}
