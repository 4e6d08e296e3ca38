package e2e

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// forged is the text of a key that nobody minted, with the checksum of one that
// somebody did. kind is th- or tha-.
func forged(kind, id string, rng *rand.Rand) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	text := []byte(kind + id)
	for len(text) < len(kind)+10+43 {
		text = append(text, digits[rng.IntN(62)])
	}
	sum := crc32.ChecksumIEEE(text)
	var tail [6]byte
	for i := 5; i >= 0; i-- {
		tail[i] = digits[sum%62]
		sum /= 62
	}
	return string(text) + string(tail[:])
}

// from is a client with an address of its own in 127.0.0.0/8.
func from(address string) *http.Client {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{DialContext: d.DialContext}, Timeout: 20 * time.Second}
}

// memory is what the process has in memory now, in bytes.
func (h *hub) memory(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("there is no VmRSS")
	return 0
}

// processor is how long the process has computed so far.
func (h *hub) processor(t *testing.T) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest) // from the third on
	var ticks int64
	for _, f := range fields[11:13] { // in its own code, and in the system's for it
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// flood is many callers with keys that open nothing.
type flood struct {
	hub     *hub
	known   []string // IDs of keys that exist
	proven  []string // whole keys of these that are in use
	answers [600]atomic.Int64
	stop    context.CancelFunc
	wait    sync.WaitGroup
}

// start lets callers at the server, each from an address, together at most a
// thousand times a second: more would measure how the machine's processors are
// shared between them and the server.
func (f *flood) start(t *testing.T, seed uint64, addresses []string, each func(f *flood, rng *rand.Rand) *http.Request) {
	ctx, cancel := context.WithCancel(t.Context())
	f.stop = cancel
	for i, address := range addresses {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		client := from(address)
		f.wait.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				if resp, err := client.Do(each(f, rng).WithContext(ctx)); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					f.answers[resp.StatusCode].Add(1)
				}
				pause(ctx, time.Duration(len(addresses)/2+rng.IntN(len(addresses)))*time.Millisecond)
			}
		})
	}
}

// end stops the callers and tells how many of their requests were answered how.
func (f *flood) end() (answers map[int]int64, all int64) {
	f.stop()
	f.wait.Wait()
	answers = map[int]int64{}
	for status := range f.answers {
		if n := f.answers[status].Load(); n > 0 {
			answers[status] = n
			all += n
		}
	}
	return answers, all
}

// wrongKey is one more request that no key opens: malformed, unknown, a wrong
// secret of a known key, a token in a key's place; to /v1 and to /api.
func wrongKey(f *flood, rng *rand.Rand) *http.Request {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	unknown := make([]byte, 10)
	for i := range unknown {
		unknown[i] = letters[rng.IntN(len(letters))]
	}
	path, key := "/v1/chat/completions", ""
	switch rng.IntN(6) {
	case 0:
		key = "th-" + string(unknown)
	case 1:
		key = forged("th-", string(unknown), rng)
	case 2, 3:
		key = forged("th-", f.known[rng.IntN(len(f.known))], rng)
	case 4:
		key = forged("th-", f.proven[rng.IntN(len(f.proven))][3:13], rng)
	default:
		path, key = "/api/keys", forged("tha-", string(unknown), rng)
	}
	req, err := http.NewRequest("POST", f.hub.url+path, strings.NewReader(plainChat))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	// Nobody believes it: this caller is no trusted proxy.
	req.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", rng.IntN(256), rng.IntN(256), rng.IntN(256)))
	return req
}

// percentiles calls with proven keys for a time and returns the median and the
// 99th percentile of how long it took.
func (h *hub) percentiles(t *testing.T, keys []string, length time.Duration) (calls int, p50, p99 time.Duration) {
	t.Helper()
	var took []time.Duration
	for end := time.Now().Add(length); time.Now().Before(end); calls++ {
		began := time.Now()
		if status, _, body := h.chat(t, keys[calls%len(keys)], plainChat); status != 200 {
			t.Fatalf("a proven key was answered %d %s", status, body)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return calls, took[len(took)/2], took[len(took)*99/100]
}

// patience is how often a 99th percentile is measured before it is too high: what
// others do on the machine takes the processors for a moment, what callers take
// from each other is missing each time.
const patience = 5

// percentilesBelow measures until the 99th percentile is at most this.
func (h *hub) percentilesBelow(t *testing.T, most time.Duration, keys []string, length time.Duration) (calls int, p50, p99 time.Duration) {
	t.Helper()
	for range patience {
		n := 0
		n, p50, p99 = h.percentiles(t, keys, length)
		if calls += n; p99 <= most {
			return calls, p50, p99
		}
		t.Logf("the 99th percentile is %v", p99)
	}
	t.Errorf("the 99th percentile is %v, want at most %v", p99, most)
	return calls, p50, p99
}

// A flood of keys that open nothing, from one address and from many, takes
// nothing from those whose key is proven, little from those who come with one
// for the first time, and neither memory nor the disk.
func TestFloods(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	h := startHub(t, fmt.Sprintf("[[providers]]\nname = \"p\"\nbase_url = %q\nmodels = [\"gpt-*\"]\n", startQuickProvider(t)+"/v1"))
	var proven, known, fresh []string
	for i := range 3 {
		proven = append(proven, h.key(t, fmt.Sprint("proven", i)))
	}
	for i := range 20 { // used by nobody, so that wrong secrets of theirs cost a computation
		known = append(known, h.key(t, fmt.Sprint("known", i))[3:13])
	}
	for i := range 10 {
		fresh = append(fresh, h.key(t, fmt.Sprint("fresh", i)))
	}
	h.percentiles(t, proven, time.Second/4)
	_, _, calm := h.percentiles(t, proven, 2*time.Second)
	memory := h.memory(t)

	many := make([]string, 300)
	for i := range many {
		many[i] = fmt.Sprintf("127.1.%d.%d", i%8, 2+i/8)
	}
	one := slices.Repeat([]string{"127.2.0.2"}, 150)
	for name, addresses := range map[string][]string{"many addresses": many, "one address": one} {
		f := &flood{hub: h, known: known, proven: proven}
		logged := len(h.log.String())
		began, computed := time.Now(), h.processor(t)
		f.start(t, seed, addresses, wrongKey)
		// What is promised is twice the calm; a busy machine gets more.
		calls, p50, p99 := h.percentilesBelow(t, 5*calm+100*time.Millisecond, proven, 3*time.Second)
		var slowest time.Duration
		client := from("127.3.0.1") // whom nobody has seen before
		for i := range fresh[:5] {
			req, err := http.NewRequest("GET", h.url+"/v1/key", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Api-Key", fresh[i])
			asked := time.Now()
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			slowest = max(slowest, time.Since(asked))
			if resp.StatusCode != 200 {
				t.Errorf("%s: the first use of a key was answered %d", name, resp.StatusCode)
			}
		}
		client.CloseIdleConnections()
		fresh = fresh[5:]
		grown := h.memory(t) - memory
		answers, all := f.end()
		lasted, used := time.Since(began), h.processor(t)-computed
		written := len(h.log.String()) - logged
		t.Logf("%s: %d refusals in %v %v; %d calls with proven keys p50 %v, p99 %v (calm %v); slowest first use %v; memory %+d KiB; %v of the processors; log %d bytes, %d for each refusal",
			name, all, lasted.Round(time.Millisecond), answers, calls, p50, p99, calm, slowest, grown>>10, used, written, int64(written)/max(all, 1))
		if all < 150 {
			t.Errorf("%s: that was no flood", name)
		}
		for status := range answers {
			if status != 401 && status != 429 && status != 503 {
				t.Errorf("%s: a wrong key was answered %d", name, status)
			}
		}
		if name == "one address" && answers[429] == 0 {
			t.Errorf("%s was never told that it failed too often: %v", name, answers)
		}
		if slowest > 2*time.Second {
			t.Errorf("%s: a first use took %v, promised is one second", name, slowest)
		}
		if grown > 96<<20 {
			t.Errorf("%s: memory grew by %d MiB", name, grown>>20)
		}
		// 20 lines a second at each of two doors, and those of the good calls.
		if most := 500 * (40*(2+int(lasted.Seconds())) + calls + 10); written > most {
			t.Errorf("%s: %d bytes were logged, want at most %d", name, written, most)
		}
	}
	if strings.Contains(h.log.String(), `"from":"10.`) {
		t.Error("an address that a caller made up is in the log")
	}
}

// Callers that do nothing, or do it slowly, stop nobody: connections that never
// send, heads that come a byte at a time, bodies that never come, answers that
// nobody reads.
func TestSlowCallersStopNobody(t *testing.T) {
	endless := bytes.Repeat([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"aaaaaaaaaaaaaaaa\"}}]}\n\n"), 1000)
	p := startProvider(t, func(w http.ResponseWriter, r *http.Request, body []byte) {
		if !bytes.Contains(body, []byte(`"stream":true`)) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			if _, err := w.Write(endless); err != nil {
				return
			}
		}
	})
	go func() {
		for range p.got { // nobody looks at them here
		}
	}()
	h := startHub(t, p.config())
	key := h.key(t, "quick")
	h.percentiles(t, []string{key}, time.Second/4)
	_, _, calm := h.percentiles(t, []string{key}, time.Second)
	memory := h.memory(t)

	address := strings.TrimPrefix(h.url, "http://")
	head := "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\nContent-Type: application/json\r\n"
	stream := strings.Replace(plainChat, "{", `{"stream":true,`, 1)
	var open []net.Conn
	for i := range 1000 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		open = append(open, conn)
		switch {
		case i%5 == 0: // a head that goes on
			_, err = io.WriteString(conn, "GET /v1/models HTTP/1.1\r\nHost: x\r\nX-")
		case i%5 == 1: // a body that does not come
			_, err = io.WriteString(conn, head+"Content-Length: 1000\r\n\r\n{")
		case i%20 == 2: // an answer that is not read
			_, err = fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, len(stream), stream)
		case i%5 == 3: // chunks that do not end
			_, err = io.WriteString(conn, head+"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var drip sync.WaitGroup
	drip.Go(func() {
		for ctx.Err() == nil {
			for i := 0; i < len(open); i += 5 {
				_, _ = open[i].Write([]byte("a"))
			}
			pause(ctx, 100*time.Millisecond)
		}
	})
	_, p50, p99 := h.percentilesBelow(t, 5*calm+100*time.Millisecond, []string{key}, 2*time.Second)
	grown := h.memory(t) - memory
	cancel()
	drip.Wait()
	t.Logf("1,000 slow connections: p50 %v, p99 %v (calm %v), memory %+d KiB", p50, p99, calm, grown>>10)
	if grown > 200<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	for _, conn := range open {
		_ = conn.Close()
	}
}
