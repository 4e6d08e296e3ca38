package e2e

import (
	"bufio"
	"context"
	bytesof "encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// clockSource is a package that the program of TestClockJumps is built with: a
// clock that is set as one sets a machine's. The time of day jumps, what is
// measured between two moments doesn't: the seconds stand in bits 30 to 62 of a
// time's first word, the steady clock's reading in the second one.
const clockSource = `package settable

import (
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

var offset = open(os.Getenv("E2E_CLOCK"))

func open(name string) *atomic.Int64 {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	page, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return (*atomic.Int64)(unsafe.Pointer(&page[0]))
}

func Now() time.Time {
	t := time.Now()
	*(*uint64)(unsafe.Pointer(&t)) += uint64(offset.Load()) << 30
	return t
}

func Since(t time.Time) time.Duration { return Now().Sub(t) }
func Until(t time.Time) time.Duration { return t.Sub(Now()) }
`

// buildWithClock builds the program anew, the same but for where it asks the time.
func buildWithClock(t *testing.T) (program string) {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	replace := map[string]string{}
	write := func(path, text string) {
		name := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[path] = name
	}
	write(filepath.Join(root, "settable", "settable.go"), clockSource)
	asks := regexp.MustCompile(`\btime\.(Now|Since|Until)\b`)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "e2e" || d.Name() == "bench" || d.Name() == "dbtest"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if changed := asks.ReplaceAllString(string(text), "settable.$1"); changed != string(text) {
			changed = strings.Replace(changed, "\nimport ", "\nimport \"tokenhub/settable\"\nimport ", 1)
			write(path, changed+"\nvar _ time.Time\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "tokenhub")
	build := exec.Command("go", "build", "-overlay", list, "-o", program, ".")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// clock is the clock of a program that buildWithClock built.
type clock struct {
	file   *os.File
	offset time.Duration
}

// set moves the time of day by whole seconds from the machine's.
func (c *clock) set(t *testing.T, offset time.Duration) {
	t.Helper()
	var text [8]byte
	bytesof.NativeEndian.PutUint64(text[:], uint64(offset/time.Second))
	if _, err := c.file.WriteAt(text[:], 0); err != nil {
		t.Fatal(err)
	}
	c.offset = offset
}

// The clock is set over the end of a month and back, again and again, while
// requests run. Each month, day and minute has its budget once, whenever the
// clock comes back to it and after a kill as well; each answer is counted once;
// no answer is cut off because the time of day makes its provider look silent.
func TestClockJumps(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 3))
	t.Logf("seed %d", seed)
	v := newVictim(t)
	v.program = buildWithClock(t)
	file, err := os.OpenFile(filepath.Join(v.dir, "clock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	t.Setenv("KEEP_E2E_CLOCK", file.Name())
	slow := startProvider(t, func(w http.ResponseWriter, r *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, word := range []string{"first", "second"} {
			_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", word)
			w.(http.Flusher).Flush()
			pause(r.Context(), 2*time.Second)
		}
		_, _ = io.WriteString(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\n\ndata: [DONE]\n\n")
	})
	go func() {
		for range slow.got { // nobody looks at them here
		}
	}()
	config, err := os.OpenFile(filepath.Join(v.dir, "config.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(config, "[[providers]]\nname = \"slow\"\nbase_url = %q\nmodels = [\"slow\"]\ntimeouts = { idle = \"3s\" }\n", slow.URL+"/v1"); err != nil {
		t.Fatal(err)
	}
	config.Close()

	// Ten minutes before the end of the month, and ten after it.
	now := time.Now().UTC()
	end := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	before := end.Add(-10 * time.Minute).Sub(now).Truncate(time.Second)
	after := before + 20*time.Minute
	c := &clock{file: file}
	c.set(t, before)
	v.start(t)
	keys := map[string]*apiKey{}
	for name, limits := range map[string]map[string]any{
		"load":    {"monthly_tokens": 1_000_000_000, "requests_per_minute": 10_000_000},
		"monthly": {"monthly_tokens": 100}, "daily": {"daily_tokens": 100}, "minutes": {"requests_per_minute": 5},
	} {
		keys[name] = &apiKey{}
		if err := v.api("POST", "/api/keys", map[string]any{"name": name, "limits": limits}, keys[name]); err != nil {
			t.Fatal(err)
		}
	}
	load := keys["load"]
	delete(keys, "load")
	h := &hub{url: "http://" + v.address}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var receipts []receipt
	var workers sync.WaitGroup
	for i := range 2 {
		workers.Go(func() {
			v.ask(ctx, load.Key, i == 0, func(r receipt) {
				mu.Lock()
				defer mu.Unlock()
				receipts = append(receipts, r)
			})
		})
	}
	// Each visit asks for more than is left, with several callers at once.
	passed := map[string]int{}
	minutes := map[int64]bool{}
	minute := func() { minutes[time.Now().Add(c.offset).Unix()/60] = true }
	visit := func(offset time.Duration) {
		c.set(t, offset)
		for name, k := range keys {
			minute()
			answers := h.atOnce(t, 10, k.Key, plainChat)
			minute()
			passed[name] += answers[200]
			delete(answers, 200)
			delete(answers, 402)
			delete(answers, 429)
			if len(answers) > 0 {
				t.Errorf("%s was answered %v", name, answers)
			}
		}
	}
	visit(before)
	first := maps.Clone(passed)
	visit(after)
	both := maps.Clone(passed)
	jumps := 0
	v.streamThrough(t, load.Key, func() { c.set(t, before) }, func() { c.set(t, after) })
	for until := time.Now().Add(4 * time.Second); time.Now().Before(until); jumps += 2 {
		visit(before)
		pause(ctx, time.Duration(rng.IntN(100))*time.Millisecond)
		visit(after)
		pause(ctx, time.Duration(rng.IntN(100))*time.Millisecond)
	}
	cancel()
	workers.Wait()
	for name := range keys {
		n := first[name]
		if name == "minutes" {
			if passed[name] > 5*len(minutes) || n < 5 {
				t.Errorf("%d requests passed in %d minutes of 5", passed[name], len(minutes))
			}
			continue
		}
		if n == 0 || n > 10 || both[name] == n || both[name]-n > 10 || passed[name] > 20 {
			t.Errorf("%s: %d requests passed before the month's end, %d more after it, %d in all", name, n, both[name]-n, passed[name])
		}
	}

	// What the months say, on both sides and after a kill on the wrong one.
	c.set(t, before)
	v.kill(t)
	v.start(t)
	for range 2 {
		for name, k := range keys {
			var months, days int64
			for _, offset := range []time.Duration{before, after} {
				c.set(t, offset)
				var k2 apiKey
				if err := v.api("GET", "/api/keys/"+k.ID, nil, &k2); err != nil {
					t.Fatal(err)
				}
				months, days = months+k2.Usage.Month.Tokens, days+k2.Usage.Day.Tokens
				if name == "monthly" && k2.Usage.Month.Tokens > 100 || name == "daily" && k2.Usage.Day.Tokens > 100 {
					t.Errorf("%s has used %+v", name, k2.Usage)
				}
			}
			if want := int64(10 * passed[name]); months != want || days != want {
				t.Errorf("%s: the two months have %d tokens and the two days %d, want %d", name, months, days, want)
			}
		}
		visit(before)
		visit(after)
	}
	v.checkUsage(t, load.ID, receipts)
	for _, k := range keys {
		v.checkUsage(t, k.ID, nil)
	}
	t.Logf("%d jumps, %d answers received in full; passed %v in %d minutes", jumps, len(receipts), passed, len(minutes))
	if said := v.log.String(); strings.Contains(said, "panic") {
		t.Errorf("tokenhub said:\n%s", said)
	}
	v.kill(t)
	v.check(t)
}

// streamThrough receives a stream in whose silence the clock is set.
func (v *victim) streamThrough(t *testing.T, key string, before, silent func()) {
	t.Helper()
	before()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+v.address+"/v1/chat/completions", strings.NewReader(`{"model":"slow","stream":true,"messages":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && !strings.Contains(lines.Text(), "second") {
	}
	pause(t.Context(), 100*time.Millisecond) // now it waits for the next event
	silent()
	done := false
	for lines.Scan() {
		done = done || lines.Text() == "data: [DONE]"
	}
	if resp.StatusCode != 200 || !done || lines.Err() != nil {
		t.Errorf("the stream was answered %d and ended with %v, complete: %v", resp.StatusCode, lines.Err(), done)
	}
}
