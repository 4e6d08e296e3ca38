//go:build linux

package main

import (
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/db/bolt"
	"tokenhub/proxy"
)

// The baseline: how many allocations a request costs, all goroutines of the
// gateway included. Who makes it cheaper lowers the number in the same commit.
const (
	allocsPerSmallRequest = 29
	allocsPerChunk        = 0
)

// newHub starts the gateway with everything that counts a request switched on,
// in front of the scripted provider, and returns its address and a key.
func newHub(tb testing.TB) (address, key string) {
	tb.Helper()
	provider, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	go serveProvider(provider)
	tb.Cleanup(func() { provider.Close() })

	store, err := bolt.Open(tb.Context(), bolt.Options{Dir: filepath.Join(tb.TempDir(), "data")})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { store.Close() })
	if key, err = makeKey(tb.Context(), store); err != nil {
		tb.Fatal(err)
	}
	cfg := config.Defaults()
	cfg.Providers = []config.Provider{{Name: "bench", BaseURL: "http://" + provider.Addr().String() + "/v1", Auth: "bearer", APIKey: providerKey,
		Models: []string{"*"}, Timeouts: config.Timeouts{Connect: 5 * time.Second, FirstByte: time.Minute, Idle: time.Minute}}}
	cfg.Prices = []config.Price{{Model: "*", Input: 1e6, Output: 1e6, Tokens: true}}
	log, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { log.Close() })
	gateway, err := proxy.New(proxy.Options{Config: cfg, Verifier: auth.New(auth.Options{Keys: store, Tokens: store}), Store: store,
		Log: zerolog.New(log).With().Timestamp().Logger()})
	if err != nil {
		tb.Fatal(err)
	}
	app, err := gateway.Server()
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	go app.Listener(ln)
	tb.Cleanup(func() { app.Shutdown() })
	return ln.Addr().String(), key
}

// BenchmarkRequest is one small JSON request after another through the whole
// gateway; provider and load are in this process, and allocate nothing.
func BenchmarkRequest(b *testing.B) {
	address, key := newHub(b)
	request := (&bench{keys: []string{key}}).small(0)
	c := newClient(address)
	defer c.close()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.do(request); err != nil {
			b.Fatal(err)
		}
	}
}

// TestAllocations holds the allocations of requests and of chunks against the
// baseline.
func TestAllocations(t *testing.T) {
	if underRace() {
		t.Skip("the race detector allocates, too")
	}
	address, key := newHub(t)
	b := &bench{keys: []string{key}}
	c := newClient(address)
	defer c.close()
	request := b.small(0)
	ask := func() {
		if err := c.do(request); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 { // connections, pools, argon2id
		ask()
	}
	if small := testing.AllocsPerRun(2000, ask); small > allocsPerSmallRequest {
		t.Errorf("%.0f allocations per small request, the baseline is %d", small, allocsPerSmallRequest)
	} else {
		t.Logf("%.0f allocations per small request", small)
	}

	const more = 200
	few, many := b.stream(10, time.Millisecond), b.stream(10+more, time.Millisecond)
	read := func(request []byte) func() {
		return func() {
			if _, err := new(streams).read(t.Context(), &process{address: address}, request); err != nil {
				t.Fatal(err)
			}
		}
	}
	read(few)()
	chunk := (testing.AllocsPerRun(5, read(many)) - testing.AllocsPerRun(5, read(few))) / more
	if chunk > allocsPerChunk+0.2 { // the pools' own, and the store's once a second
		t.Errorf("%.2f allocations per chunk, the baseline is %d", chunk, allocsPerChunk)
	} else {
		t.Logf("%.2f allocations per chunk", chunk)
	}
}

// underRace reports whether the race detector is built in.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// BenchmarkWrite writes what a record takes in the journal, one behind the other,
// and does nothing else: what the system takes of a journal append.
func BenchmarkWrite(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	record := make([]byte, 123)
	var at int64
	for b.Loop() {
		n, err := f.WriteAt(record, at)
		if err != nil {
			b.Fatal(err)
		}
		at += int64(n)
	}
}
