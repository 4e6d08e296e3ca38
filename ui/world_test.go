package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/rs/zerolog"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/db"
	"tokenhub/db/dbtest"
)

// world is an admin side on a real listener, with everything around it.
type world struct {
	t       *testing.T
	store   *dbtest.Mem
	admin   *Admin
	config  *config.Config
	tokens  *tokens
	gateway *gateway
	log     *bytes.Buffer
	base    string
	// token is sent with each call.
	token string

	mu  sync.Mutex
	now time.Time
}

// start is when the world begins: in the middle of an hour, a day and a month.
var start = time.Date(2027, 3, 17, 10, 30, 20, 123456789, time.UTC)

func newWorld(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, now: start, log: &bytes.Buffer{}, gateway: &gateway{}}
	w.store = dbtest.Memory(dbtest.Options{Now: w.clock})
	w.tokens = &tokens{store: w.store, ids: map[string]string{}}
	w.config = &config.Config{DataDir: t.TempDir(), Timezone: time.UTC, Providers: []config.Provider{
		{Name: "openai", BaseURL: "https://api.openai.com/v1", Models: []string{"gpt-*"}, MonthlyUSD: 50_000_000, MaxConcurrency: 4},
		{Name: "ollama", BaseURL: "http://127.0.0.1:11434/v1"},
	}}
	o := Options{
		Store: w.store, Tokens: w.tokens, Config: func() *config.Config { return w.config },
		Reload:  func(context.Context) ([]string, error) { return []string{"providers: added ollama"}, nil },
		Gateway: w.gateway, Metrics: func(to io.Writer) { fmt.Fprintln(to, "tokenhub_up 1") },
		Version: "1.2.3", Now: w.clock, Log: zerolog.New(&locked{w: w.log}),
	}
	for _, c := range change {
		c(&o)
	}
	w.admin = New(o)
	w.base = w.serve(Network)
	w.token = w.tokens.add(t, "ops", false)
	return w
}

// serve serves the API on a listener of its own and returns its URL.
func (w *world) serve(trust Trust) string {
	w.t.Helper()
	app := fiber.New(fiber.Config{
		CaseSensitive: true, StrictRouting: true, StreamRequestBody: true, DisableStartupMessage: true,
		ErrorHandler: ErrorHandler, ReadTimeout: 10 * time.Second,
	})
	w.admin.API(trust)(app)
	app.Get("/healthz", w.admin.Healthz)
	app.Get("/readyz", w.admin.Readyz)
	app.Get("/metrics", w.admin.Metrics(trust))
	return listenOn(w.t, app)
}

// listenOn serves an app until the test ends, and returns its URL.
func listenOn(t *testing.T, app *fiber.App) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go app.Listener(ln)
	t.Cleanup(func() {
		if err := app.ShutdownWithTimeout(30 * time.Second); err != nil {
			t.Errorf("shut down: %v", err)
		}
	})
	return "http://" + ln.Addr().String()
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call makes one request with the world's token; header fields may follow as
// pairs, and replace what is sent otherwise.
func (w *world) call(method, path, body string, header ...string) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body == "" {
		req.Body = nil
		req.ContentLength = 0
	}
	if w.token != "" {
		req.Header.Set("Authorization", "Bearer "+w.token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Del(header[i])
		if header[i+1] != "" {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, text}
}

// want makes one request, expects the status and returns the JSON object.
func (w *world) want(status int, method, path, body string, header ...string) map[string]any {
	w.t.Helper()
	a := w.call(method, path, body, header...)
	if a.status != status {
		w.t.Fatalf("%s %s %s: got %d %s, want %d", method, path, body, a.status, a.body, status)
	}
	var v map[string]any
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		w.t.Fatalf("%s %s: %v in %s", method, path, err, a.body)
	}
	return v
}

// refused makes one request, expects it to be refused and returns the message.
func (w *world) refused(status int, code, method, path, body string, header ...string) string {
	w.t.Helper()
	v := w.want(status, method, path, body, header...)
	e, _ := v["error"].(map[string]any)
	if e["code"] != code {
		w.t.Fatalf("%s %s %s: got code %v, want %s (%v)", method, path, body, e["code"], code, e["message"])
	}
	return e["message"].(string)
}

// key makes a key and returns its ID and text.
func (w *world) key(body string) (id, text string) {
	w.t.Helper()
	v := w.want(201, "POST", "/api/keys", body)
	return v["id"].(string), v["key"].(string)
}

// audits returns the audit trail, the newest first.
func (w *world) audits() []db.Audit {
	w.t.Helper()
	entries, _, err := w.store.AuditLog(context.Background(), db.AuditQuery{Limit: 500})
	if err != nil {
		w.t.Fatal(err)
	}
	return entries
}

// at returns a member of nested objects: at(v, "usage", "day", "tokens").
func at(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// text returns v as JSON.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// tokens is a verifier that knows the texts it was given and reads the record.
type tokens struct {
	store *dbtest.Mem
	mu    sync.Mutex
	ids   map[string]string
	// fail is returned instead, when set; from is the last address.
	fail error
	from netip.Addr
}

func (v *tokens) add(t *testing.T, name string, readOnly bool) string {
	t.Helper()
	text, id, err := auth.Mint(auth.Token)
	if err != nil {
		t.Fatal(err)
	}
	record := &db.Token{ID: id, Name: name, ReadOnly: readOnly, CreatedAt: start.Add(-time.Hour), Secret: db.Secret{PHC: "$argon2id$none"}}
	if _, err := v.store.PutToken(t.Context(), record, db.Audit{Time: start.Add(-time.Hour), Actor: "test", Action: "token.create"}); err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ids[text] = id
	return text
}

func (v *tokens) set(fail error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fail = fail
}

func (v *tokens) VerifyToken(ctx context.Context, text string, from netip.Addr) (*db.Token, error) {
	v.mu.Lock()
	id, fail := v.ids[text], v.fail
	v.from = from
	v.mu.Unlock()
	if fail != nil {
		return nil, fail
	}
	record, err := v.store.Token(ctx, id)
	if err != nil {
		return nil, &auth.Refused{Reason: auth.Unknown}
	}
	if !record.RevokedAt.IsZero() {
		return nil, &auth.Refused{Reason: auth.Revoked, KeyID: id}
	}
	return record, nil
}

// gateway is a gateway that answers what it is told to.
type gateway struct {
	states []ProviderState
	result TestResult
	err    error
	asked  ExplainQuery
}

func (g *gateway) Providers(context.Context) []ProviderState { return g.states }

func (g *gateway) Test(context.Context, string) (TestResult, error) { return g.result, g.err }

func (g *gateway) Explain(_ context.Context, q ExplainQuery) (any, error) {
	g.asked = q
	return map[string]any{"provider": "openai"}, g.err
}

// locked is a writer for several goroutines.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
