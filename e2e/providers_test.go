package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// mortal is a provider that can be closed and opened again on the same port.
type mortal struct {
	address, model string
	served         atomic.Int64

	mu     sync.Mutex // guards server
	server *http.Server
}

func newMortal(t *testing.T, model string) *mortal {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{address: l.Addr().String(), model: model}
	m.serve(l)
	t.Cleanup(m.die)
	return m
}

func (m *mortal) serve(l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"object":"list","data":[{"id":%q,"object":"model","created":1700000000,"owned_by":"lab"}]}`, m.model)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		m.served.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":"c","object":"chat.completion","created":1,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}`, m.model)
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.server = &http.Server{Handler: mux}
	go func(s *http.Server) { _ = s.Serve(l) }(m.server)
}

// die ends the provider in the middle of whatever it does.
func (m *mortal) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.server.Close()
}

func (m *mortal) rise(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", m.address)
	if err != nil {
		t.Fatal(err)
	}
	m.serve(l)
}

func threeProviders(t *testing.T) (*hub, []*mortal) {
	list := []*mortal{newMortal(t, "small"), newMortal(t, "org/medium:free"), newMortal(t, "large")}
	config := "[log]\nlevel = \"error\"\n"
	for i, m := range list {
		config += fmt.Sprintf("[[providers]]\nname = \"p%d\"\nbase_url = \"http://%s/v1\"\n", i, m.address)
	}
	config += `
[[models]]
name     = "house"
strategy = "round-robin"
targets  = [ { provider = "p0", model = "small" }, { provider = "p1", model = "org/medium:free" }, { provider = "p2", model = "large" } ]
`
	return startHub(t, config), list
}

// With any two of three providers dying and coming back under load, no request
// fails for a name that has the third.
func TestTwoOfThreeProvidersDie(t *testing.T) {
	h, providers := threeProviders(t)
	key := h.key(t, "loaded")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var answered, failed atomic.Int64
	var begun [8]atomic.Int64
	var load sync.WaitGroup
	for i := range begun {
		load.Go(func() {
			for ctx.Err() == nil {
				begun[i].Add(1)
				if status, _, body := h.chat(t, key, `{"model":"house","messages":[{"role":"user","content":"hi"}]}`); status == 200 {
					answered.Add(1)
				} else {
					failed.Add(1)
					t.Errorf("%d %s", status, body)
				}
			}
		})
	}
	// more waits until that many more were answered, and all have ended that had begun
	// before: one that goes on while others die and rise may meet each of them dead.
	more := func(n int64) {
		until := answered.Load() + n
		var before [len(begun)]int64
		for i := range begun {
			before[i] = begun[i].Load()
		}
		over := func() bool {
			for i := range begun {
				if begun[i].Load() == before[i] {
					return false
				}
			}
			return answered.Load() >= until
		}
		late := time.After(30 * time.Second)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for !over() {
			select {
			case <-tick.C:
			case <-late:
				t.Error("no answers any more")
				return
			}
		}
	}
	more(50)
	for alive := range providers {
		for i, p := range providers {
			if i != alive {
				p.die()
			}
		}
		more(200)
		for i, p := range providers {
			if i != alive {
				p.rise(t)
			}
		}
		more(50)
	}
	cancel()
	load.Wait()
	var served int64
	for _, p := range providers {
		served += p.served.Load()
	}
	t.Logf("%d answered, %d failed, %d served by the providers", answered.Load(), failed.Load(), served)
}

// The official SDK lists, retrieves and uses the models of all three providers,
// under their own names, with slashes in them, pinned, and by the alias.
func TestModelsOfThreeProviders(t *testing.T) {
	h, _ := threeProviders(t)
	client := openaiClient(h.url, h.key(t, "sdk"))
	want := []string{"house", "small", "org/medium:free", "large"}
	late := time.After(10 * time.Second)
	for {
		page, err := client.Models.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, m := range page.Data {
			ids = append(ids, m.ID)
		}
		if fmt.Sprint(ids) == fmt.Sprint(want) {
			break
		}
		select {
		case <-late: // the lists are read in the background
			t.Fatalf("models %q, want %q", ids, want)
		default:
		}
	}
	for _, id := range append(want, "p1/org/medium:free", "p0/small") {
		m, err := client.Models.Get(t.Context(), id)
		if err != nil || m.ID != id {
			t.Errorf("Get(%q): %v %v", id, m, err)
		}
		r, err := client.Chat.Completions.New(t.Context(), chatParams(id))
		if err != nil || r.Choices[0].Message.Content != "hi" {
			t.Errorf("chat with %q: %v", id, err)
		}
	}
	if _, err := client.Models.Get(t.Context(), "nobody/has-it"); err == nil {
		t.Error("a model that nobody has was found")
	}
}

// Whoever has the new secret of a key is served while others go on with the old one,
// however many of their tries were refused.
func TestRotatedWhileTheOldSecretIsTried(t *testing.T) {
	p := newMortal(t, "m")
	h := startHub(t, fmt.Sprintf("[[providers]]\nname = \"p\"\nbase_url = \"http://%s/v1\"\n", p.address))
	const body = `{"model":"p/m","messages":[{"role":"user","content":"hi"}]}`
	old := h.key(t, "lost")
	if status, _, text := h.chat(t, old, body); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	renewed := h.run(t, "keys", "rotate", "lost", "--quiet")
	last := 0
	for range 15 {
		last, _, _ = h.chat(t, old, body)
	}
	if last != 429 {
		t.Errorf("the old secret gets %d at last, want 429", last)
	}
	if status, _, text := h.chat(t, renewed, body); status != 200 {
		t.Errorf("the new secret: %d %s", status, text)
	}
}
