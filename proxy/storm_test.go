package proxy

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

// storm is three providers of which two die and come back all the time, each in
// its own way, and what they sent.
type storm struct {
	mu sync.Mutex // guards what follows
	r  *rand.Rand
	// begun counts the answers of which a byte of the body was sent, by request.
	begun map[string]int
}

// serve answers in a random way; a good answer and half of one are noted.
func (s *storm) serve(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	_, id, _ := strings.Cut(string(body), `"user":"`)
	id, _, _ = strings.Cut(id, `"`)
	s.mu.Lock()
	way := s.r.IntN(8)
	if way < 4 {
		s.begun[id]++
	}
	s.mu.Unlock()
	switch way {
	case 0, 1:
		good(w, req)
	case 2:
		stream(w, req)
	case 3:
		cut("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"choices\":", false)(w, req)
	case 4:
		fails(500)(w, req)
	case 5:
		fails(429, "Retry-After", "0.01")(w, req)
	case 6:
		cut("", true)(w, req)
	case 7:
		cut("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", false)(w, req)
	}
}

// flapping is a provider whose port is closed and opened again.
type flapping struct {
	address string
	handler http.Handler
	server  *httptest.Server
}

func (f *flapping) open(t *testing.T) {
	ln, err := net.Listen("tcp", f.address)
	for late := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(late); {
		ln, err = net.Listen("tcp", f.address) // somebody's outgoing connection may have taken it for a moment
	}
	if err != nil {
		t.Errorf("the port can't be opened again: %v", err)
		return
	}
	f.address = ln.Addr().String()
	f.server = &httptest.Server{Listener: ln, Config: &http.Server{Handler: f.handler}}
	f.server.Start()
}

// die lets what it has begun end: an answer that is cut off is one of the ways
// of the storm, and counted there.
func (f *flapping) die() { _ = f.server.Config.Shutdown(context.Background()) }

// TestStorm: a thousand calls while providers die and come back. None is lost
// that the one which lives could have served, none is begun twice, none is
// charged twice, and of each call there is one record that counts.
func TestStorm(t *testing.T) {
	const callers, each = 25, 40
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := &storm{r: rand.New(rand.NewPCG(seed, 0)), begun: map[string]int{}}
	note := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		_, id, _ := strings.Cut(string(body), `"user":"`)
		id, _, _ = strings.Cut(id, `"`)
		s.mu.Lock()
		s.begun[id]++
		s.mu.Unlock()
		good(w, req)
	})
	flap := &flapping{address: "127.0.0.1:0", handler: http.HandlerFunc(s.serve)}
	flap.open(t)
	wild := httptest.NewServer(http.HandlerFunc(s.serve))
	defer wild.Close()
	well := httptest.NewServer(note)
	defer well.Close()
	h := newHub(t, func(cfg *config.Config) {
		cfg.Routing.Strategy = byRoundRobin
		cfg.Routing.Retries = 1
		cfg.Providers[2].MaxConcurrency = 5
	}, "http://"+flap.address+"/v1", wild.URL+"/v1", well.URL+"/v1")
	// Time flies, so that who rests is soon probed again.
	began, ticks := time.Now(), atomic.Int64{}
	h.g.now = func() time.Time { return began.Add(time.Duration(ticks.Add(1)) * 100 * time.Millisecond) }
	h.addKey("lim", db.Limits{ConcurrentRequests: 1000, TotalTokens: 1 << 40, TotalUSD: 1 << 40})

	var whole, broken atomic.Int64
	turn := make(chan struct{}, callers*each)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for j := range each {
				id := fmt.Sprintf("%d-%d", i, j)
				call := h.call("lim", "/v1/chat/completions", `{"model":"house","stream":false,"max_tokens":10,"user":"`+id+`"}`)
				r := h.do(context.Background(), call)
				s.mu.Lock()
				begun := s.begun[id]
				s.mu.Unlock()
				switch {
				case r.status != 200:
					t.Errorf("call %s: %v, but c could have served it", id, r)
				case r.err != nil:
					broken.Add(1)
				default:
					whole.Add(1)
				}
				if begun != 1 {
					t.Errorf("call %s: an answer was begun %d times, want once: %v", id, begun, r)
				}
				turn <- struct{}{}
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	for dead, n := false, 0; ; n++ {
		select {
		case <-ended:
			if dead {
				flap.open(t)
			}
			flap.die()
			goto check
		case <-turn:
			if n%50 == 49 {
				if dead = !dead; dead {
					flap.die()
				} else {
					flap.open(t)
				}
			}
		}
	}
check:
	counted := map[string]int{}
	var tokens, cost int64
	failed := 0
	for _, rec := range h.store.Records() {
		if rec.Source != "" {
			counted[rec.ID]++
			tokens += rec.Usage.Tokens()
			cost += rec.Cost
			continue
		}
		failed++
		if rec.Cost != 0 || rec.Usage.Tokens() != 0 {
			t.Errorf("a failed attempt is charged: %+v", rec)
		}
	}
	t.Logf("%d whole, %d broken in the middle, %d attempts that failed", whole.Load(), broken.Load(), failed)
	for id, n := range counted {
		if n != 1 {
			t.Errorf("call %s counts %d times", id, n)
		}
	}
	if len(counted) != callers*each {
		t.Errorf("%d calls are counted, want %d", len(counted), callers*each)
	}
	use, err := h.store.KeyUsage(t.Context(), "lim", time.Now())
	if err != nil || use.Total.Requests != callers*each || use.Total.Tokens != tokens || use.Total.Cost != cost || use.Running != 0 || use.Total.HeldTokens != 0 {
		t.Errorf("the key used %+v, want %d requests, %d tokens, %d micro-dollars (error %v)", use.Total, callers*each, tokens, cost, err)
	}
}
