package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestProviderFails: each way in which a provider may not answer is told to the
// caller once, and leaves nothing behind.
func TestProviderFails(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	plain := record(t, func(string) reply { return usualReply })
	tls := record(t, func(string) reply { return usualReply })
	garbage := record(t, func(string) reply { return reply{head: "220 mail.example ESMTP\r\n", hangUp: true} })
	closing := record(t, func(string) reply { return reply{head: "", hangUp: true} })
	chatty := record(t, func(string) reply {
		r := usualReply
		r.body += "words that nobody asked for"
		return r
	})
	silent := startProvider(t, func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() })
	stalled := startProvider(t, func(w http.ResponseWriter, r *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	var config strings.Builder
	config.WriteString("[routing]\nretries = 0\n")
	for name, url := range map[string]string{
		"gone": "http://" + gone.Addr().String(), "plain": "http://" + plain.address, "tls": "https://" + tls.address, "garbage": "http://" + garbage.address,
		"closing": "http://" + closing.address, "chatty": "http://" + chatty.address, "silent": silent.URL, "stalled": stalled.URL,
	} {
		fmt.Fprintf(&config, "[[providers]]\nname = %q\nbase_url = %q\nmodels = [%q]\ntimeouts = { first_byte = \"1s\", idle = \"1s\" }\n", name, url+"/v1", name)
	}
	h := startHub(t, config.String())
	key := h.key(t, "sdk", "--concurrency", "1")
	for _, tt := range []struct{ model, status, body string }{
		{"gone", "503", "provider_unreachable"},
		{"tls", "503", "provider_unreachable"},
		{"garbage", "503", "provider_unreachable"},
		{"closing", "503", "provider_unreachable"},
		{"silent", "503", "provider_timeout"},
		{"stalled", "200", "provider_timeout"},
		{"chatty", "200", "prompt_tokens"},
		{"plain", "200", "prompt_tokens"},
	} {
		t.Run(tt.model, func(t *testing.T) {
			c := dial(t, h.url, false)
			body := fmt.Sprintf(`{"model":%q,"stream":true,"messages":[]}`, tt.model)
			c.send(fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Case: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", key, len(body), body))
			m := c.answer("POST")
			if m.first[:3] != tt.status || !strings.Contains(string(m.body), tt.body) {
				t.Errorf("got %q %s, want %s", m.first, m.body, tt.body)
			}
			if m.broken != (tt.model == "stalled") {
				t.Errorf("the answer is broken: %v", m.broken)
			}
			if tt.status == "503" && (m.header.Get("Content-Type") != "application/json" || m.header.Get("Retry-After") == "") {
				t.Errorf("the headers are %v", m.header)
			}
			waitIdle(t, h)
		})
	}
	for _, words := range []string{"mail.example", "nobody asked"} {
		if strings.Contains(h.log.String(), words) {
			t.Errorf("the log holds %q of an answer", words)
		}
	}
	for _, p := range []*recorder{plain, garbage, closing} { // asked once each, never again behind the caller's back
		if n := len(p.got); n != 1 {
			t.Errorf("%s was asked %d times, want once", p.address, n)
		}
	}
}

// TestEndlessStream passes on as it comes, and ends when the caller leaves.
func TestEndlessStream(t *testing.T) {
	next := make(chan struct{})
	p := startProvider(t, func(w http.ResponseWriter, r *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":\"%d\"}}]}\n\n", i); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	h := startHub(t, p.config())
	key := h.key(t, "sdk")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	req, err := http.NewRequestWithContext(ctx, "POST", h.url+"/v1/chat/completions", strings.NewReader(`{"model":"gpt-test","stream":true,"messages":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 1000)
	for i := range 3000 { // the next event is sent only after this one was seen
		want := fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":\"%d\"}}]}\n\n", i)
		if _, err := io.ReadFull(resp.Body, buf[:len(want)]); err != nil || string(buf[:len(want)]) != want {
			t.Fatalf("event %d is %q, %v", i, buf[:len(want)], err)
		}
		next <- struct{}{}
	}
	left := time.Now()
	leave()
	if got := p.next(t); got.left.IsZero() || got.left.Sub(left) > soon {
		t.Errorf("the provider noticed after %v", got.left.Sub(left))
	}
	waitIdle(t, h)
}

// zeros reads as n bytes.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.n)
	clear(p[:n])
	z.n -= n
	return int(n), nil
}

// TestLargeUploadTakesNoMemory: 200 MB pass through, a file before its model too.
func TestLargeUploadTakesNoMemory(t *testing.T) {
	got := make(chan int64, 1)
	p := startSink(t, got)
	h := startHub(t, "max_body = \"256MiB\"\n[[providers]]\nname = \"sink\"\nbase_url = \""+p+"/v1\"\nmodels = [\"*\"]\n")
	pid := serverOf(t, h)
	const size = 200 << 20
	head := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n"
	tail := "\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n"
	for _, tt := range []struct{ name, path, key string }{
		{"a stored file", "/v1/files", h.key(t, "all", "--endpoints", "all")},
		{"a file before its model", "/v1/audio/transcriptions", h.key(t, "plain")},
		{"a file of a key with a models list", "/v1/audio/transcriptions", h.key(t, "models", "--models", "m")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := peakMemory(t, pid)
			body := io.MultiReader(strings.NewReader(head), &zeros{n: size}, strings.NewReader(tail))
			req, err := http.NewRequestWithContext(t.Context(), "POST", h.url+tt.path, body)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = int64(len(head) + size + len(tail))
			req.Header.Set("Authorization", "Bearer "+tt.key)
			req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if n := <-got; resp.StatusCode != 200 || n != req.ContentLength {
				t.Errorf("status %d, %d bytes arrived", resp.StatusCode, n)
			}
			if grown := peakMemory(t, pid) - before; grown > 40<<20 {
				t.Errorf("memory grew by %d MiB", grown>>20)
			}
		})
	}
}

// startSink is a provider that counts bytes.
func startSink(t *testing.T, got chan<- int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			n = -1
		}
		io.WriteString(w, "{}")
		if r.Method == "POST" {
			got <- n
		}
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String()
}

// serverOf finds the process that serves: the one started with the hub's
// configuration.
func serverOf(t *testing.T, h *hub) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "pgrep", "-f", "serve --config "+h.config).Output()
	pid, e := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || e != nil {
		t.Skipf("Skipped: pgrep does not find the server: %v, %q.", err, out)
	}
	return pid
}

// peakMemory is the most memory that a process had, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("Skipped: there is no /proc: %v.", err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// openFiles is the number of files and connections that a process has open.
func openFiles(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Skipf("Skipped: there is no /proc: %v.", err)
	}
	return len(list)
}

// waitFiles returns when a process has at most that many files open.
func waitFiles(t *testing.T, pid, most int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 250 {
		if openFiles(t, pid) <= most {
			return
		}
		<-tick.C
	}
	t.Errorf("%d files are open, want at most %d", openFiles(t, pid), most)
}
