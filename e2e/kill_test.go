package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// killRounds is how often the server is killed; KILL_ROUNDS=500 for longer.
func killRounds(t *testing.T) int {
	text := os.Getenv("KILL_ROUNDS")
	if text == "" {
		return 50
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("KILL_ROUNDS: %v", err)
	}
	return n
}

// victim is a server that is killed and started again on the same data.
type victim struct {
	program, dir, address string
	cmd                   *exec.Cmd
	log                   *lockedBuffer
	admin                 *http.Client // over the socket
}

func (v *victim) start(t *testing.T) (took time.Duration) {
	t.Helper()
	v.log = &lockedBuffer{}
	v.cmd = exec.Command(v.program, "serve", "--config", filepath.Join(v.dir, "config.toml"))
	v.cmd.Stdout, v.cmd.Stderr, v.cmd.Env = v.log, v.log, plainEnvironment()
	began := time.Now()
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get("http://" + v.address + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Since(began)
			}
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not ready after 20 s:\n%s", v.log)
		}
	}
}

// kill ends the process as a power switch would, for the process alone.
func (v *victim) kill(t *testing.T) {
	t.Helper()
	if err := v.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = v.cmd.Wait()
	v.admin.CloseIdleConnections()
}

// api calls the admin API; the error is one of the connection, so the change
// was not acknowledged.
func (v *victim) api(method, path string, in any, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, "http://tokenhub"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := v.admin.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// socketClient is a client of the admin API on a Unix socket.
func socketClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
}

// newVictim prepares a server on a data folder of its own, with a provider that
// answers at once.
func newVictim(t *testing.T) *victim {
	t.Helper()
	dir, err := os.MkdirTemp("", "th") // short: a socket's path has about 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{program: binary, dir: dir, address: l.Addr().String(), admin: socketClient(filepath.Join(dir, "data", "tokenhub.sock"))}
	l.Close()
	config := fmt.Sprintf("listen = %q\ndata_dir = \"data\"\n[log]\nlevel = \"error\"\n[[providers]]\nname = \"p\"\nbase_url = %q\nmodels = [\"gpt-*\"]\n", v.address, startQuickProvider(t)+"/v1")
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return v
}

// known is a key as its last acknowledged change left it.
type known struct {
	id, secret, name string
	revoked          bool
	// unsure is set while a change is on its way: it may have happened.
	unsure bool
}

type apiKey struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Key    string `json:"key"`
	Status string `json:"status"`
	Usage  struct {
		Day, Month, Total struct {
			Requests, Tokens int64
		}
	} `json:"usage"`
}

// edit changes keys as fast as it can until the server is gone; acknowledged is
// called after each change.
func (v *victim) edit(rng *rand.Rand, keys *[]*known, acknowledged func()) {
	for n := 0; ; n++ {
		if len(*keys) < 5 || rng.IntN(5) == 0 {
			var k apiKey
			if v.api("POST", "/api/keys", map[string]any{"name": fmt.Sprintf("k%d", n)}, &k) != nil {
				return
			}
			*keys = append(*keys, &known{id: k.ID, secret: k.Key, name: k.Name})
			acknowledged()
			continue
		}
		k := (*keys)[rng.IntN(len(*keys))]
		if k.revoked || k.unsure {
			continue
		}
		k.unsure = true
		if rng.IntN(3) == 0 {
			if v.api("DELETE", "/api/keys/"+k.id, nil, nil) != nil {
				return
			}
			k.revoked = true
		} else {
			name := fmt.Sprintf("%s-%d", k.id, n)
			if v.api("PATCH", "/api/keys/"+k.id, map[string]any{"name": name}, nil) != nil {
				return
			}
			k.name = name
		}
		k.unsure = false
		acknowledged()
	}
}

// receipt is an answer that a client received in full.
type receipt struct {
	id     string
	tokens int64
}

// ask sends requests until the server is gone, and keeps the receipts.
func (v *victim) ask(ctx context.Context, secret string, stream bool, got func(receipt)) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		body := `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}`
		if stream {
			body = `{"stream":true,` + body[1:]
		}
		req, err := http.NewRequestWithContext(ctx, "POST", "http://"+v.address+"/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			return
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 {
			return
		}
		if stream && !bytes.Contains(text, []byte("[DONE]")) {
			return
		}
		got(receipt{resp.Header.Get("X-Inferoute-Request-Id"), 10})
	}
}

// TestKill kills the server at random, again and again, while keys are made,
// edited and revoked and while requests run. What was acknowledged is there
// after the restart, what was revoked stays revoked, and each answer that a
// client received in full is counted exactly once.
func TestKill(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)

	v := newVictim(t)
	var keys []*known
	var mu sync.Mutex
	receipts := map[string][]receipt{} // by key ID
	var slowest time.Duration
	edits := 0
	v.start(t)
	var load apiKey
	if err := v.api("POST", "/api/keys", map[string]any{"name": "load", "limits": map[string]any{"monthly_tokens": 1_000_000_000, "requests_per_minute": 10_000_000}}, &load); err != nil {
		t.Fatal(err)
	}
	rounds := killRounds(t)
	for round := range rounds {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		var workers sync.WaitGroup
		editor := rand.New(rand.NewPCG(seed, uint64(round)+2))
		enough := make(chan struct{})
		left := 1 + rng.IntN(8)
		workers.Go(func() {
			v.edit(editor, &keys, func() {
				edits++
				if left--; left == 0 {
					close(enough)
				}
			})
		})
		for i := range 4 {
			workers.Go(func() {
				v.ask(ctx, load.Key, i%2 == 0, func(r receipt) {
					mu.Lock()
					receipts[load.ID] = append(receipts[load.ID], r)
					mu.Unlock()
				})
			})
		}
		select {
		case <-enough:
		case <-ctx.Done():
			t.Error("no change was acknowledged for 10 s")
		}
		<-time.After(time.Duration(rng.IntN(30_000)) * time.Microsecond) // in the middle of what comes next
		v.kill(t)
		workers.Wait()
		cancel()
		slowest = max(slowest, v.start(t))
		v.checkKeys(t, keys)
		if t.Failed() {
			t.Fatalf("round %d of %d", round+1, rounds)
		}
	}
	if k := v.checkUsage(t, load.ID, receipts[load.ID]); k.Usage.Month != k.Usage.Total {
		t.Errorf("the key says %+v", k.Usage)
	}
	t.Logf("%d rounds: %d changes of %d keys acknowledged, %d answers received in full; slowest restart %v", rounds, edits, len(keys), len(receipts[load.ID]), slowest)
	if slowest > 5*time.Second {
		t.Errorf("a restart took %v", slowest)
	}
	v.kill(t)
	v.check(t)
}

// check looks at the data folder that the server left.
func (v *victim) check(t *testing.T) {
	t.Helper()
	check := exec.Command(v.program, "check", "--config", filepath.Join(v.dir, "config.toml"))
	check.Env = plainEnvironment()
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
}

// checkKeys holds the store against what was acknowledged.
func (v *victim) checkKeys(t *testing.T, keys []*known) {
	t.Helper()
	stored := map[string]apiKey{}
	for cursor := ""; ; {
		var page struct {
			Data []apiKey
			Next *string
		}
		if err := v.api("GET", "/api/keys?limit=500&cursor="+url.QueryEscape(cursor), nil, &page); err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Data {
			stored[k.ID] = k
		}
		if page.Next == nil {
			break
		}
		cursor = *page.Next
	}
	for _, k := range keys {
		s, ok := stored[k.id]
		switch {
		case !ok:
			t.Errorf("the key %s was acknowledged and is gone", k.id)
		case k.revoked && s.Status != "revoked":
			t.Errorf("the key %s was revoked and is %s again", k.id, s.Status)
		case !k.unsure && !k.revoked && (s.Status != "active" || s.Name != k.name):
			t.Errorf("the key %s is %s %q, acknowledged was active %q", k.id, s.Status, s.Name, k.name)
		}
		if ok && k.unsure { // now it is known what became of the change
			k.unsure, k.revoked, k.name = false, s.Status == "revoked", s.Name
		}
	}
	// One that was revoked opens nothing.
	for i := len(keys) - 1; i >= 0; i-- {
		if !keys[i].revoked {
			continue
		}
		req, err := http.NewRequest("GET", "http://"+v.address+"/v1/key", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", keys[i].secret)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("the revoked key %s was answered %d", keys[i].id, resp.StatusCode)
		}
		return
	}
}

// checkUsage holds the log of requests, the roll-ups and the key's counters
// against the receipts and against each other.
func (v *victim) checkUsage(t *testing.T, keyID string, receipts []receipt) (k apiKey) {
	t.Helper()
	logged := map[string]int{}
	var tokens, requests int64
	for before := ""; ; {
		var page struct {
			Data []struct {
				ID           string `json:"id"`
				InputTokens  int64  `json:"input_tokens"`
				OutputTokens int64  `json:"output_tokens"`
			}
			Next *string
		}
		if err := v.api("GET", "/api/requests?limit=500&key="+keyID+"&before="+url.QueryEscape(before), nil, &page); err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Data {
			logged[r.ID]++
			requests++
			tokens += r.InputTokens + r.OutputTokens
		}
		if page.Next == nil {
			break
		}
		before = *page.Next
	}
	for id, n := range logged {
		if n != 1 {
			t.Errorf("the request %s is logged %d times", id, n)
		}
	}
	missing := 0
	for _, r := range receipts {
		if logged[r.id] != 1 {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d answers that were received in full are not counted", missing, len(receipts))
	}
	var usage struct {
		Data []struct {
			Requests     int64
			InputTokens  int64 `json:"input_tokens"`
			OutputTokens int64 `json:"output_tokens"`
		}
	}
	if err := v.api("GET", "/api/usage?group_by=key&key="+keyID, nil, &usage); err != nil {
		t.Fatal(err)
	}
	if len(usage.Data) != 1 || usage.Data[0].Requests != requests || usage.Data[0].InputTokens+usage.Data[0].OutputTokens != tokens {
		t.Errorf("the roll-ups say %+v, the log of requests %d requests and %d tokens", usage.Data, requests, tokens)
	}
	if err := v.api("GET", "/api/keys/"+keyID, nil, &k); err != nil {
		t.Fatal(err)
	}
	if k.Usage.Total.Tokens != tokens || k.Usage.Total.Requests != requests {
		t.Errorf("the key says %+v, the log of requests %d requests and %d tokens", k.Usage, requests, tokens)
	}
	return k
}

// startQuickProvider answers chat completions at once, with 7 + 3 tokens.
func startQuickProvider(t *testing.T) string {
	const usage = `"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}`
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if !bytes.Contains(body, []byte(`"stream":true`)) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],`+usage+`}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n")
			w.(http.Flusher).Flush()
		}
		io.WriteString(w, "data: {\"choices\":[],"+usage+"}\n\ndata: [DONE]\n\n")
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: mux}
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("provider: %v", err)
		}
	}()
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String()
}
