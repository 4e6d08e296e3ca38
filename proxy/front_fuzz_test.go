package proxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/db"
	"tokenhub/db/dbtest"
)

// front is a whole server with one key, and a provider that notes what it got.
type front struct {
	address    string
	key        string
	credential string

	mu sync.Mutex // guards what follows
	// shown is how often the key was sent so far, asked how often the provider was.
	shown, asked int
	leaked       string
}

func newFront(f *testing.F) *front {
	fr := &front{credential: "sk-of-the-provider-0123456789"}
	key, id, err := auth.Mint(auth.Key)
	if err != nil {
		f.Fatal(err)
	}
	fr.key = key
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" && r.Method == http.MethodGet { // the gateway's own question, or none of the fuzzer's
			w.WriteHeader(http.StatusNotFound)
			return
		}
		body, _ := io.ReadAll(r.Body)
		var head bytes.Buffer
		_ = r.Header.Write(&head)
		fr.mu.Lock()
		fr.asked++
		if seen := r.RequestURI + head.String(); strings.Contains(seen, key[13:]) {
			fr.leaked = seen
		}
		fr.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}))
	f.Cleanup(provider.Close)
	store := dbtest.Memory(dbtest.Options{})
	if _, err := store.PutKey(context.Background(), &db.Key{ID: id, Name: "k", Endpoints: db.AllEndpoints, CreatedAt: time.Now(), Secrets: []db.Secret{{PHC: "plain"}}}, db.Audit{}); err != nil {
		f.Fatal(err)
	}
	cfg := config.Defaults()
	cfg.Providers = []config.Provider{{Name: "p", BaseURL: provider.URL + "/v1", APIKey: config.Secret(fr.credential), Auth: "bearer", OutputField: "max_tokens", Models: []string{"*"},
		Timeouts: config.Timeouts{Connect: time.Second, FirstByte: 5 * time.Second, Idle: 5 * time.Second}}}
	verifier := auth.New(auth.Options{Keys: store, Check: func(text, _ string) (bool, error) { return text == key, nil }})
	g, err := New(Options{Config: cfg, Verifier: verifier, Store: store, Log: zerolog.New(io.Discard)})
	if err != nil {
		f.Fatal(err)
	}
	app, err := g.Server()
	if err != nil {
		f.Fatal(err)
	}
	app.Use(NotFound)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	fr.address = ln.Addr().String()
	go func() { _ = app.Listener(ln) }() // ends with the shutdown
	f.Cleanup(func() { _ = app.ShutdownWithTimeout(10 * time.Millisecond) })
	return fr
}

// send sends raw bytes and returns what comes back within a moment.
func (fr *front) send(t *testing.T, raw []byte) []byte {
	conn, err := net.Dial("tcp", fr.address)
	if err != nil {
		t.Fatalf("the server is gone: %v", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
	_, _ = conn.Write(raw)
	var answer bytes.Buffer
	_, _ = io.Copy(&answer, io.LimitReader(conn, 1<<20))
	return answer.Bytes()
}

// FuzzFront sends raw bytes to the real server. Whatever they are: it does not
// crash, no provider is asked without a valid key, nor twice for one; the
// caller's key never reaches the provider, the provider's credential never the
// caller.
func FuzzFront(f *testing.F) {
	open, closed := newFront(f), newFront(f)
	wrong, err := auth.Renew(auth.Key, closed.key[3:13]) // of a key that exists
	if err != nil {
		f.Fatal(err)
	}
	head := "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\n"
	for _, raw := range []string{
		head + "Content-Length: 13\r\n\r\n{\"model\":\"m\"}",
		head + "Transfer-Encoding: chunked\r\n\r\nd\r\n{\"model\":\"m\"}\r\n0\r\n\r\n",
		head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
		head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		head + "Transfer-Encoding: chunked\r\n\r\n2;ext=\"\r\n\"\r\n{}\r\n0\r\nX-Trailer: y\r\n\r\n",
		head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
		head + "Content-Length: 99999999999999999999\r\n\r\n",
		head + "Content-Length: 0x5\r\n\r\nhello",
		head + " folded\r\nX: a\r\n\tb\r\n\r\n",
		head + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
		head + "Connection: Upgrade, X-Tokenhub-Provider\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
		strings.Replace(head, "\r\n", "\n", -1) + "\n",
		"GET /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: KEY\r\n\r\nGET /v1/key HTTP/1.1\r\nHost: x\r\nX-Api-Key: KEY\r\n\r\n",
		"GET /v1/files?x=KEY HTTP/1.1\r\nHost: x\r\nX-Api-Key: KEY\r\n\r\n",
		"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer th-x\r\nContent-Length: 60\r\n\r\nGET /v1/files HTTP/1.1\r\nHost: x\r\nX-Api-Key: th-wrong\r\n\r\n",
		"GET http://127.0.0.1:1/v1/files HTTP/1.1\r\nHost: evil\r\nX-Api-Key: KEY\r\n\r\n",
		"GET /v1/../etc HTTP/1.1\r\nHost: x\r\nX-Api-Key: KEY\r\n\r\n",
		"GET /v1/a%2f..%2fb HTTP/1.0\r\nX-Api-Key: KEY\r\n\r\n",
		"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\nX-Api-Key: KEY\r\n\r\n",
		"TRACE /v1/x HTTP/1.1\r\nHost: x\r\nX-Api-Key: KEY\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET /v1/x HTTP/9.9\r\nHost: x\r\nX-Api-Key: KEY\r\nX-\x00: \xff\r\n\r\n",
		"\x16\x03\x01\x00\xa5\x01\x00",
		"",
	} {
		f.Add([]byte(raw))
	}
	for _, c := range smuggling {
		f.Add([]byte(strings.ReplaceAll(c.raw, "$KEY", "KEY")))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if bytes.Contains(raw, []byte("/v1/models")) {
			return // the provider can't tell it from the gateway's own question
		}
		for _, fr := range []*front{open, closed} {
			key := fr.key
			if fr == closed {
				key = wrong
			}
			fr.mu.Lock()
			fr.shown += bytes.Count(raw, []byte("KEY"))
			fr.mu.Unlock()
			if bytes.Contains(fr.send(t, bytes.ReplaceAll(raw, []byte("KEY"), []byte(key))), []byte(fr.credential)) {
				t.Fatal("the caller got the provider's credential")
			}
			fr.mu.Lock()
			if fr.leaked != "" {
				t.Fatalf("the provider got the caller's key:\n%q", fr.leaked)
			}
			if fr == closed && fr.asked > 0 {
				t.Fatal("the provider was asked without a valid key, by this input or the one before")
			}
			if fr.asked > fr.shown {
				t.Fatalf("the provider was asked %d times, a key was sent %d times", fr.asked, fr.shown)
			}
			fr.mu.Unlock()
		}
	})
}
