package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// soakCaller is one kind of caller: how many there are at once, how long each
// rests between two calls, and what a call is. An error says what was wrong.
type soakCaller struct {
	kind  string
	count int
	rest  time.Duration
	call  func(ctx context.Context, s *soak, rng *rand.Rand) error
}

func soakCallers() []soakCaller {
	return []soakCaller{
		{"json", 4, 20 * time.Millisecond, func(ctx context.Context, s *soak, _ *rand.Rand) error { return s.ask(ctx, s.key, "quick", false, 200) }},
		{"stream", 20, 50 * time.Millisecond, func(ctx context.Context, s *soak, _ *rand.Rand) error { return s.ask(ctx, s.key, "steady", true, 200) }},
		{"wrong key", 1, 300 * time.Millisecond, func(ctx context.Context, s *soak, _ *rand.Rand) error {
			return s.ask(ctx, s.key[:len(s.key)-1], "quick", false, 401)
		}},
		{"unknown model", 1, 300 * time.Millisecond, func(ctx context.Context, s *soak, _ *rand.Rand) error { return s.ask(ctx, s.key, "nobody", false, 404) }},
		{"failing provider", 1, 300 * time.Millisecond, func(ctx context.Context, s *soak, _ *rand.Rand) error {
			return s.ask(ctx, s.key, "failing", false, 500)
		}},
		{"over the limit", 1, 100 * time.Millisecond, overTheLimit},
		{"broken stream", 2, 200 * time.Millisecond, brokenStream},
		{"leaving", 5, 100 * time.Millisecond, leaving},
		{"half-closed", 2, 200 * time.Millisecond, halfClosed},
		{"slow reader", 5, 500 * time.Millisecond, slowReader},
		{"slow writer", 5, 500 * time.Millisecond, slowWriter},
		{"slow loris", 10, time.Second, slowLoris},
		{"upload", 1, time.Second, upload},
		{"burst", 1, 5 * time.Second, burst},
	}
}

// request is a chat completion for a model.
func (s *soak) request(ctx context.Context, key, model string, stream bool) (*http.Request, error) {
	body := fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"hi"}]}`, model, stream)
	req, err := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// ask calls and reads all of the answer.
func (s *soak) ask(ctx context.Context, key, model string, stream bool, status int) error {
	req, err := s.request(ctx, key, model, stream)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != status {
		return fmt.Errorf("answered %d %.200s, want %d", resp.StatusCode, text, status)
	}
	if stream && !bytes.HasSuffix(text, []byte("data: [DONE]\n\n")) {
		return fmt.Errorf("the stream ends with %.100q", text[max(0, len(text)-100):])
	}
	return nil
}

// overTheLimit is let through once a minute.
func overTheLimit(ctx context.Context, s *soak, _ *rand.Rand) error {
	err := s.ask(ctx, s.narrow, "quick", false, 429)
	if err != nil && strings.HasPrefix(err.Error(), "answered 200") {
		return nil
	}
	return err
}

// brokenStream must not look like a whole one.
func brokenStream(ctx context.Context, s *soak, _ *rand.Rand) error {
	if s.ask(ctx, s.key, "broken", true, 200) == nil {
		return errors.New("half a stream came with a clean end")
	}
	return nil
}

// leaving closes the connection in the middle of a stream.
func leaving(ctx context.Context, s *soak, rng *rand.Rand) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := s.request(ctx, s.key, "steady", true)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.CopyN(io.Discard, resp.Body, 1+rng.Int64N(800))
	return err
}

// raw is a connection to the server with the head of a request that has a body
// of n bytes.
func (s *soak) raw(ctx context.Context, n int) (net.Conn, string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		return nil, "", err
	}
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	return conn, fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", s.key, n), nil
}

// halfClosed says that it will send no more: it counts as having left.
func halfClosed(ctx context.Context, s *soak, _ *rand.Rand) error {
	const body = `{"model":"endless","stream":true,"messages":[]}`
	conn, head, err := s.raw(ctx, len(body))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, head+body); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
		return fmt.Errorf("answered %q, %v", line, err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	left := time.Now()
	_, _ = io.Copy(io.Discard, in) // however it ends, it ends
	// It takes milliseconds; how soon is tested where nothing else runs.
	if took := time.Since(left); took > 10*time.Second {
		return fmt.Errorf("the stream went on for %v", took)
	}
	return nil
}

// slowReader takes a large answer in small bites.
func slowReader(ctx context.Context, s *soak, _ *rand.Rand) error {
	req, err := s.request(ctx, s.key, "large", true)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	size := int64(0)
	for {
		n, err := io.CopyN(io.Discard, resp.Body, 64<<10)
		size += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		pause(ctx, 50*time.Millisecond)
	}
	if size < soakLarge {
		return fmt.Errorf("got %d bytes of %d", size, soakLarge)
	}
	return nil
}

// slowWriter sends its body in pieces over two seconds.
func slowWriter(ctx context.Context, s *soak, _ *rand.Rand) error {
	body := `{"model":"quick","messages":[{"role":"user","content":"` + strings.Repeat("x", 100_000) + `"}]}`
	conn, head, err := s.raw(ctx, len(body))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, head); err != nil {
		return err
	}
	for rest := body; rest != ""; {
		piece := rest[:min(len(rest), 5_000)]
		if _, err := io.WriteString(conn, piece); err != nil {
			return err
		}
		rest = rest[len(piece):]
		pause(ctx, 100*time.Millisecond)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
		return fmt.Errorf("answered %q, %v", line, err)
	}
	return nil
}

// slowLoris sends a head that never ends, until it is thrown out.
func slowLoris(ctx context.Context, s *soak, _ *rand.Rand) error {
	conn, _, err := s.raw(ctx, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn)
	}()
	began := time.Now()
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(conn, "%s", "GET /v1/models HTTP/1.1\r\nX-Slow: "+strings.Repeat("a", i)); err != nil {
			break
		}
		select {
		case <-gone:
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
			continue
		}
		break
	}
	conn.Close()
	<-gone
	if took := time.Since(began); took > 30*time.Second {
		return fmt.Errorf("was thrown out after %v", took)
	}
	return nil
}

// upload sends 5 MB that wait on the disk.
func upload(ctx context.Context, s *soak, _ *rand.Rand) error {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	file, err := form.CreateFormFile("file", "a.wav")
	if err != nil {
		return err
	}
	if _, err := file.Write(make([]byte, 5<<20)); err != nil {
		return err
	}
	if err := errors.Join(form.WriteField("model", "quick"), form.Close()); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/audio/transcriptions", &body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", form.FormDataContentType())
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
		return fmt.Errorf("answered %d %.200s, %v", resp.StatusCode, text, err)
	}
	return nil
}

// burst is two hundred streams in one moment.
func burst(ctx context.Context, s *soak, _ *rand.Rand) error {
	var calls sync.WaitGroup
	failed := make(chan error, 200)
	for range cap(failed) {
		calls.Go(func() { failed <- s.ask(ctx, s.key, "steady", true, 200) })
	}
	calls.Wait()
	close(failed)
	var err error
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

// soakLarge is the size of the answer of the model "large", in bytes.
const soakLarge = 2 << 20

// startSoakProvider answers by the name of the model.
func startSoakProvider(t *testing.T) *httptest.Server {
	t.Helper()
	const usage = `"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}`
	const chunk = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"}}]}\n\n"
	const end = "data: {\"choices\":[]," + usage + "}\n\ndata: [DONE]\n\n"
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		is := func(model string) bool { return bytes.Contains(body, []byte(`"model":"`+model+`"`)) }
		stream := func() {
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
		}
		switch {
		case is("steady"):
			stream()
			for range 20 {
				fmt.Fprintf(w, chunk, "word")
				w.(http.Flusher).Flush()
				pause(r.Context(), 20*time.Millisecond)
			}
			io.WriteString(w, end)
		case is("endless"):
			stream()
			for r.Context().Err() == nil {
				fmt.Fprintf(w, chunk, "word")
				w.(http.Flusher).Flush()
				pause(r.Context(), 20*time.Millisecond)
			}
		case is("large"):
			stream()
			for range soakLarge >> 10 {
				fmt.Fprintf(w, chunk, strings.Repeat("x", 1<<10))
			}
			io.WriteString(w, end)
		case is("broken"):
			stream()
			fmt.Fprintf(w, chunk, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case is("failing"):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(500)
			io.WriteString(w, `{"error":{"message":"out of order"}}`)
		default:
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"object":"chat.completion","text":"hello","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],`+usage+`}`)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

// soakConfig has one provider per fault, so that one's rest is not the other's.
func soakConfig(provider string) string {
	config := "[log]\nlevel = \"error\"\n"
	for name, models := range map[string]string{"good": `"quick", "steady", "endless", "large"`, "breaking": `"broken"`, "failing": `"failing"`} {
		config += fmt.Sprintf("[[providers]]\nname = %q\nbase_url = %q\nmodels = [%s]\n", name, provider+"/v1", models)
	}
	return config
}
