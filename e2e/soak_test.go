package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// soakRounds is into how many rounds the time of a soak is cut. Between two of
// them it is quiet, and only what stays is measured.
const soakRounds = 6

// TestSoak lets all kinds of callers at one server for SOAK=10m, the kind that
// computes and the kind that stalls, and measures after each round what is left
// of it: memory, descriptors, threads, goroutines, the data folder. The first
// round warms up; what grows after it would grow for years.
func TestSoak(t *testing.T) {
	text := os.Getenv("SOAK")
	if text == "" {
		t.Skip("SOAK=10m is not set")
	}
	total, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SOAK: %v", err)
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("there is no /proc here")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)

	provider := startSoakProvider(t)
	h := startHub(t, soakConfig(provider.URL))
	s := &soak{hub: h, key: h.key(t, "sdk"), narrow: h.key(t, "narrow", "--rpm", "1"), done: map[string]int{}}
	s.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	samples := []sample{s.look(t)}
	for round := range soakRounds {
		s.round(t, seed+uint64(round), total/soakRounds)
		s.client.CloseIdleConnections()
		waitIdle(t, h)
		// What TokenHub keeps for the next request is not a leak.
		provider.CloseClientConnections()
		samples = append(samples, s.quiet(t, samples[0]))
		if t.Failed() {
			break
		}
	}
	s.report(t, samples)
	if t.Failed() {
		return
	}
	idle, first, last := samples[0], samples[1], samples[soakRounds]
	if !last.asIdleAs(idle) {
		t.Errorf("descriptors grew from %d to %d, goroutines from %d to %d", idle.descriptors, last.descriptors, idle.goroutines, last.goroutines)
	}
	// What the runtime has once had it gives back slowly; a leak grows each round.
	if last.rss > first.rss+first.rss/2+32<<20 {
		t.Errorf("memory grew from %d to %d MiB", first.rss>>20, last.rss>>20)
	}
	// The log of requests grows by design, until retention takes its oldest day.
	if grown := (last.data - first.data) / int64(max(1, last.requests-first.requests)); grown > 1<<10 {
		t.Errorf("the data folder grew by %d bytes per request", grown)
	}
}

// soak is one server with those who call it.
type soak struct {
	*hub
	client *http.Client
	// key has no limit, narrow lets one request a minute pass, admin sees metrics.
	key, narrow, admin string

	mu       sync.Mutex // guards what follows
	done     map[string]int
	wrong    []string
	requests int
}

// did counts one more of a kind; err is what was not as it should be.
func (s *soak) did(kind string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[kind]++
	s.requests++
	if err != nil && len(s.wrong) < 10 {
		s.wrong = append(s.wrong, kind+": "+err.Error())
	}
}

// round runs all kinds of callers at once for a time.
func (s *soak) round(t *testing.T, seed uint64, length time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var callers sync.WaitGroup
	for i, c := range soakCallers() {
		for n := range c.count {
			rng := rand.New(rand.NewPCG(seed, uint64(100*i+n)))
			callers.Go(func() {
				for ctx.Err() == nil {
					// A call that has begun may end: its own context is the test's.
					callCtx, cancel := context.WithTimeout(t.Context(), time.Minute)
					err := c.call(callCtx, s, rng)
					cancel()
					s.did(c.kind, err)
					pause(ctx, c.rest/2+time.Duration(rng.Int64N(int64(c.rest))))
				}
			})
		}
	}
	callers.Wait()
	for _, w := range s.wrong {
		t.Error(w)
	}
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// sample is what one look at the quiet server shows; bytes where it is a size.
type sample struct {
	requests, descriptors, threads, goroutines int
	rss, peak, data                            int64
}

// asIdleAs tells whether no more is open or running than then.
func (n sample) asIdleAs(then sample) bool {
	return n.descriptors <= then.descriptors+10 && n.goroutines <= then.goroutines+20
}

// quiet waits until all is as idle as it was, and looks. The server keeps those
// that served a connection for the next one, for some seconds.
func (s *soak) quiet(t *testing.T, idle sample) sample {
	t.Helper()
	late := time.Now().Add(30 * time.Second)
	for {
		now := s.look(t)
		if now.asIdleAs(idle) || time.Now().After(late) {
			// From here on the peak is that of the next round.
			if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.pid), []byte("5"), 0); err != nil {
				t.Logf("the peak can't be set back: %v", err)
			}
			return now
		}
		pause(t.Context(), 200*time.Millisecond)
	}
}

func (s *soak) look(t *testing.T) sample {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", s.pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	descriptors, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	now := sample{requests: s.requests, descriptors: len(descriptors), goroutines: s.goroutines(t)}
	for line := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		n, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			now.rss = n << 10
		case "VmHWM":
			now.peak = n << 10
		case "Threads":
			now.threads = int(n)
		}
	}
	err = filepath.WalkDir(filepath.Join(filepath.Dir(s.config), "data"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			now.data += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// goroutines asks the metrics; 0 where they don't say.
func (s *soak) goroutines(t *testing.T) int {
	t.Helper()
	if s.admin == "" {
		s.admin = s.run(t, "admin", "token", "create", "--name", "soak", "--read-only", "--quiet")
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.admin)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil || resp.StatusCode != 200 {
		t.Fatalf("/metrics: %d %v", resp.StatusCode, err)
	}
	for line := range strings.Lines(text.String()) {
		if rest, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(rest))
			if err != nil {
				t.Fatalf("/metrics says %q", line)
			}
			return n
		}
	}
	return 0
}

// report prints the figures.
func (s *soak) report(t *testing.T, samples []sample) {
	t.Helper()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "round\trequests\tRSS MiB\tpeak MiB\tdescriptors\tthreads\tgoroutines\tdata KiB\t")
	for i, n := range samples {
		fmt.Fprintf(w, "%d\t%d\t%.1f\t%.1f\t%d\t%d\t%d\t%d\t\n", i, n.requests, float64(n.rss)/(1<<20), float64(n.peak)/(1<<20), n.descriptors, n.threads, n.goroutines, n.data>>10)
	}
	w.Flush()
	var kinds []string
	for kind, n := range s.done {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(kinds)
	t.Logf("\n%s%s", b.String(), strings.Join(kinds, ", "))
}
