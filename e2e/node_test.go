package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// nodeAnswers is the script for the calls of node/calls.mjs, by their name.
type nodeAnswers struct {
	mu    sync.Mutex
	tries map[string]int // so far, for each call
}

func (s *nodeAnswers) answer(w http.ResponseWriter, r *http.Request, body []byte) {
	name := r.Header.Get("X-Name")
	s.mu.Lock()
	s.tries[name]++
	try := s.tries[name]
	s.mu.Unlock()
	h := w.Header()
	h.Set("X-Request-Id", "req_of_the_provider")
	h.Set("Request-Id", "req_of_the_provider")
	refuse := func(status int, body string) {
		h.Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
	const slow = `{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}`
	switch {
	case name == "retry-of-a-500" && try < 3:
		h.Set("Retry-After-Ms", "10")
		refuse(500, `{"error":{"message":"oops"}}`)
	case name == "retry-after-some-milliseconds" && try < 2:
		h.Set("Retry-After-Ms", "10")
		refuse(429, slow)
	case name == "no-retry":
		h.Set("X-Should-Retry", "false")
		refuse(429, slow)
	case name == "bad-request":
		refuse(400, `{"error":{"message":"no","type":"invalid_request_error","param":"messages","code":"x"}}`)
	case name == "overloaded-message" && try < 2:
		h.Set("Retry-After-Ms", "10")
		refuse(529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`)
	case name == "timeout", name == "abort-before-the-answer":
		<-r.Context().Done()
	case name == "broken-stream", name == "abort":
		first, _, _ := strings.Cut(openaiAnswers["/v1/chat/completions stream"], "\n\n")
		sendEvents(w, first+"\n\n")
		if name == "broken-stream" {
			panic(http.ErrAbortHandler)
		}
		<-r.Context().Done()
	case name == "abort-of-a-message":
		begin, _, _ := strings.Cut(anthropicAnswers["/v1/messages stream"], "event: content_block_stop")
		sendEvents(w, begin)
		<-r.Context().Done()
	case name == "download":
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Disposition", `attachment; filename="a.bin"`)
		for range 100 {
			w.Write(bytes.Repeat([]byte{0, 0xff, '\r', '\n'}, 10_000))
		}
	case name == "list-with-pages":
		h.Set("Content-Type", "application/json")
		more := r.URL.Query().Get("after") == ""
		fmt.Fprintf(w, `{"object":"list","data":[{"id":"file-%d","object":"file"}],"has_more":%v}`, try, more)
	case strings.HasPrefix(r.URL.Path, "/v1/files"), strings.HasPrefix(r.URL.Path, "/v1/batches"), r.Method == "GET":
		h.Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":"x-1","object":"x","target":%q}`, r.RequestURI)
	case strings.HasPrefix(r.URL.Path, "/v1/messages"):
		answers(anthropicAnswers)(w, r, body)
	default:
		answers(openaiAnswers)(w, r, body)
	}
}

// nodeCalls runs node/calls.mjs and returns what each call saw.
func nodeCalls(t *testing.T, dir, url, key, file string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "calls.mjs", url, key, file)
	cmd.Dir, cmd.Env = dir, plainEnvironment()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node calls.mjs: %v: %s%s", err, out, stderr.String())
	}
	seen := map[string]string{}
	for line := range strings.Lines(string(out)) {
		var call struct {
			Name string
			Seen json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &call); err != nil {
			t.Fatalf("node calls.mjs printed %.300s", line)
		}
		seen[call.Name] = string(call.Seen)
	}
	return seen
}

// drain returns what the provider received, by the names of the calls and in the
// order of their tries.
func (p *provider) drain(t *testing.T, n int) []received {
	t.Helper()
	list := make([]received, n)
	for i := range list {
		list[i] = p.next(t)
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].header.Get("X-Name") < list[j].header.Get("X-Name") })
	return list
}

// TestNodeSDKs: programs with the official Node SDKs see the same, and the
// provider receives the same, as without TokenHub between them.
func TestNodeSDKs(t *testing.T) {
	dir := nodeModules(t, "node")
	file := filepath.Join(t.TempDir(), "sü.mp3")
	if err := os.WriteFile(file, bytes.Repeat([]byte("ID3\x00\r\n--\xff"), 600_000), 0o600); err != nil { // 5.4 MB
		t.Fatal(err)
	}
	script := &nodeAnswers{tries: map[string]int{}}
	p := startProvider(t, script.answer)
	direct := nodeCalls(t, dir, p.URL, credential, file)
	n := 0
	for _, tries := range script.tries {
		n += tries
	}
	wantRequests := p.drain(t, n)

	script.tries = map[string]int{}
	h := startHub(t, p.config())
	key := h.key(t, "sdk", "--endpoints", "all")
	through := nodeCalls(t, dir, h.url, key, file)
	gotRequests := p.drain(t, n)
	if len(direct) < 20 {
		t.Errorf("only %d calls were made", len(direct))
	}
	for name, want := range direct {
		if fails := strings.HasPrefix(want, `{"error":`); fails != meantToFail[name] {
			t.Errorf("%s: directly the program sees %.300s", name, want)
		}
		if got := through[name]; got != want {
			t.Errorf("%s: the program sees\n%.1000s\ndirectly\n%.1000s", name, got, want)
		}
	}
	for i, want := range wantRequests {
		got := gotRequests[i]
		checkCredential(t, got, key)
		forgetChance(want.header)
		forgetChance(got.header)
		sameRequest(t, want, got)
		if got.left.IsZero() != want.left.IsZero() {
			t.Errorf("%s: the provider saw the caller leave: %v, directly %v", want.header.Get("X-Name"), !got.left.IsZero(), !want.left.IsZero())
		}
	}
	waitIdle(t, h)
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)

// forgetChance makes header values that an SDK draws by lot the same, and takes
// out the one that belongs to the connection.
func forgetChance(h http.Header) {
	delete(h, "Connection")
	for _, values := range h {
		for i, v := range values {
			values[i] = uuid.ReplaceAllString(v, "uuid")
		}
	}
}

// nodeModules returns a folder of this one whose Node modules are installed, from
// its lock file.
func nodeModules(t *testing.T, folder string) string {
	t.Helper()
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("Skipped: the Node SDKs need %s, which is not installed.", name)
		}
	}
	dir, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	if done, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err == nil && !done.ModTime().Before(lock.ModTime()) {
		return dir
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("Skipped: the Node SDKs could not be installed (is there a network?): %v: %s", err, out)
	}
	return dir
}

// meantToFail are the calls that throw.
var meantToFail = map[string]bool{"no retry": true, "bad request": true, "timeout": true, "broken stream": true,
	"abort before the answer": true, "abort of a message": true}
