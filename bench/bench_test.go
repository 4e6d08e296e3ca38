//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func startProvider(t *testing.T) *process {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go serveProvider(ln)
	t.Cleanup(func() { ln.Close() })
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return &process{address: ln.Addr().String(), log: log}
}

func TestClientUnderstandsTheProvider(t *testing.T) {
	p := startProvider(t)
	c := newClient(p.address)
	defer c.close()
	for name, request := range map[string][]byte{
		"small":     post("/v1/chat/completions", "k", `{"model":"small"}`),
		"embedding": post("/v1/embeddings", "k", `{"model":"small"}`),
		"5 MB":      post("/v1/chat/completions", "k", `{"model":"small","x":"`+strings.Repeat("x", 5<<20)+`"}`),
		"stream":    post("/v1/chat/completions", "k", `{"model":"stream-3-1","stream":true}`),
		"list":      []byte("GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"),
	} {
		for range 3 { // on one connection: nothing may be left over
			if err := c.do(request); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// TestProviderTakesHeadAndBodyInPieces: a proxy may send them as it likes.
func TestProviderTakesHeadAndBodyInPieces(t *testing.T) {
	p := startProvider(t)
	request := post("/v1/chat/completions", "k", `{"model":"stream-2-1","stream":true}`)
	c := newClient(p.address)
	defer c.close()
	for size := 1; size < len(request); size += 7 {
		for rest := request; len(rest) > 0; {
			n := min(size, len(rest))
			if err := c.send(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		_, length, rest, err := c.head()
		if err != nil || length != -1 {
			t.Fatalf("in pieces of %d: length %d, %v; want a stream", size, length, err)
		}
		if err := c.toLastChunk(rest); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClientSeesRefusals(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1024))
		fmt.Fprint(conn, "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\nno")
	}()
	if err := newClient(ln.Addr().String()).do(post("/v1/x", "k", "{}")); err == nil || !strings.Contains(err.Error(), "429") {
		t.Errorf("got %v, want an error with the status", err)
	}
}

func TestStreamsAreReadWithTheirDelays(t *testing.T) {
	p := startProvider(t)
	s := &streams{}
	s.reading.Store(true)
	delays, err := s.read(t.Context(), p, post("/v1/chat/completions", "k", `{"model":"stream-20-1","stream":true}`))
	if err != nil || len(delays) != 20 || s.chunks.Load() != 20 {
		t.Fatalf("got %d delays of %d chunks and %v, want 20", len(delays), s.chunks.Load(), err)
	}
	if d := slices.Max(delays); d <= 0 || d > time.Minute {
		t.Errorf("a chunk was on its way for %v", d)
	}
}

func TestLoads(t *testing.T) {
	p := startProvider(t)
	delays, err := openLoop(t.Context(), p, 200, 100*time.Millisecond, post("/v1/x", "k", "{}"))
	if err != nil || len(delays) < 10 || len(delays) > 30 {
		t.Errorf("got %d delays and %v, want about 20: the warm-up does not count", len(delays), err)
	}
	// Nobody listens there: all fails, and says so.
	nobody, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openLoop(t.Context(), &process{address: nobody, log: p.log}, 200, 10*time.Millisecond, nil); err == nil {
		t.Error("no error from an open loop without a server")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := openLoop(ended, p, 200, time.Hour, post("/v1/x", "k", "{}")); err == nil {
		t.Error("no error from an open loop that was interrupted")
	}
}

// The pump is caller and provider at once; a server that refuses, leaves or says
// nothing ends its load with an error.
func TestPump(t *testing.T) {
	p, err := newPump()
	if err != nil {
		t.Fatal(err)
	}
	log := startProvider(t).log
	self := &process{cmd: exec.Command("none"), address: p.address, log: log}
	self.cmd.Process = &os.Process{Pid: os.Getpid()}
	for name, request := range map[string][]byte{
		"small":     post("/v1/chat/completions", "k", `{"model":"small"}`),
		"embedding": post("/v1/embeddings", "k", `{"model":"small"}`),
		"list":      []byte("GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"),
	} {
		if s, err := p.closedLoop(t.Context(), self, 8, 50*time.Millisecond, request); err != nil || s.requests < 100 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	s, delays, err := p.streams(t.Context(), self, 20, true, 300*time.Millisecond, post("/v1/chat/completions", "k", `{"model":"stream-1000-10","stream":true}`))
	if err != nil || s.requests < 200 || s.requests > 2000 || len(delays) < 200 || slices.Min(delays) <= 0 || slices.Max(delays) > time.Minute {
		t.Errorf("%+v with %d delays, %v, of about 600 events", s, len(delays), err)
	}
	for name, answer := range map[string]string{"refuses": "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\nno", "leaves": ""} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 1024))
				fmt.Fprint(conn, answer)
				conn.Close()
			}
		}()
		other := *self
		other.address = ln.Addr().String()
		if _, err := p.closedLoop(t.Context(), &other, 4, 20*time.Millisecond, post("/v1/x", "k", "{}")); err == nil {
			t.Errorf("no error from a server that %s", name)
		}
		ln.Close()
		if _, err := p.closedLoop(t.Context(), &other, 4, 20*time.Millisecond, post("/v1/x", "k", "{}")); err == nil {
			t.Errorf("no error from a server that is not there")
		}
	}
}

func TestQuantile(t *testing.T) {
	samples := []time.Duration{5, 1, 4, 2, 3}
	for share, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(samples, share); got != want {
			t.Errorf("quantile %v is %v, want %v", share, got, want)
		}
	}
}

// The turns of a round are one value: what was spent in all of them.
func TestTurnsOfARoundAreCountedTogether(t *testing.T) {
	b := &bench{options: options{rounds: 2, seconds: 3}}
	turn := time.Duration(0)
	got := map[string][]float64{}
	err := b.pool(t.Context(), []string{"a", "b"}, 3, func(name string, d time.Duration) (spent, error) {
		if d != time.Second {
			t.Errorf("a turn takes %v, want a third of the round", d)
		}
		turn++
		return spent{requests: 1000, took: d, cpu: turn * time.Millisecond}, nil
	}, func(name string, s spent) {
		if s.perSecond() != 1000 {
			t.Errorf("%s: %v requests per second, want 1000", name, s.perSecond())
		}
		got[name] = append(got[name], s.perRequest())
	})
	if want := map[string][]float64{"a": {3, 9}, "b": {4, 10}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestTable(t *testing.T) {
	r := results{}
	for i, v := range []float64{30, 50, 40} {
		r.add(smallCPU, tokenhub, v)
		r.add(smallCPU, nginx, 20+float64(i))
	}
	r.add(requestAllocs, tokenhub, 70)
	r.add(keysCPU, tokenhub, 103)
	r.add(keysCPU, oneKey, 100)
	r.add(startTime, tokenhub, 40)
	got := r.table(true)
	for _, want := range []string{
		"| CPU per small JSON request, 64 connections, µs | 40.0 (30.0–50.0) | 21.0 (20.0–22.0) | | | 1.82 (1.50–2.38) | ≤ 2.5 × ✓ | ≤ 1.5 × ✗ |\n",
		"| allocations per small JSON request | 70.0 | | | | – | ≤ 60 ✗ | ≤ 20 ✗ |\n",
		"| 1.03 × 1 key | ≤ 1.05 × 1 key ✓ | ≤ 1.02 × 1 key ✗ |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwithout the line\n%s", got, want)
		}
	}
	if busy := r.table(false); strings.Contains(busy, startTime.title) || !strings.Contains(busy, smallCPU.title) {
		t.Errorf("got of a busy machine\n%s\nwant what the clock does not touch", busy)
	}
	if !strings.Contains(got, startTime.title) || strings.Contains(got, added50.title) {
		t.Errorf("got\n%s\nwant the rows that were measured", got)
	}
}

func TestReplaceTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "performance.md")
	if err := os.WriteFile(file, []byte("before\n"+tableBegins+"old\n"+tableEnds+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := replaceTable(file, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := os.ReadFile(file)
	if want := "before\n" + tableBegins + "\nnew\n\n" + tableEnds + "after\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := os.WriteFile(file, []byte("no table\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replaceTable(file, "new"); err == nil {
		t.Error("no error from a document without a place for the table")
	}
}

// TestBenchLine: the lines are those of go test.
func TestBenchLine(t *testing.T) {
	for line, want := range map[string][]string{
		"BenchmarkJournalAppend \t  500000\t      1234.5 ns/op\t      96 B/op\t       3 allocs/op":                        {"BenchmarkJournalAppend", "1234.5", "", "3"},
		"BenchmarkStream/strip=false/337 \t 6543\t 180000 ns/op\t 985.4 MB/s\t 360.1 ns/event\t 4816 B/op\t 12 allocs/op": {"BenchmarkStream/strip=false/337", "180000", "360.1", "12"},
		"BenchmarkVerify \t  500000\t      300 ns/op":                                                                     {"BenchmarkVerify", "300", "", ""},
	} {
		m := benchLine.FindStringSubmatch("pkg: tokenhub/db/bolt\n" + line + "\nPASS\n")
		if m == nil || !slices.Equal(m[1:], want) {
			t.Errorf("got %q of %s, want %q", m, line, want)
		}
	}
}
