package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/proxy"
)

// writeFile writes a file that a test needs.
func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// testServer is as much of a server as a reload needs, and its configuration file.
func testServer(t *testing.T) (s *server, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "config.toml")
	writeFile(t, file, "")
	source := config.Source{Path: file, Getenv: func(string) string { return "" }}
	cfg, err := config.Load(source)
	if err != nil {
		t.Fatal(err)
	}
	s = &server{log: zerolog.Nop(), live: config.NewLive(source, cfg)}
	s.current.Store(cfg)
	if s.store, err = openStore(t.Context(), cfg, s.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.store.Close() })
	s.gateway, err = proxy.New(proxy.Options{Config: cfg, Verifier: auth.New(auth.Options{Keys: s.store, Tokens: s.store}), Store: s.store, Log: s.log})
	if err != nil {
		t.Fatal(err)
	}
	return s, file
}

// pricePipe puts a pipe in the place of the price file, at which whoever reads it
// stands still. reached returns once somebody does, and what lets them go on.
func pricePipe(t *testing.T, dataDir string) (reached func() (goOn func())) {
	t.Helper()
	path := filepath.Join(dataDir, proxy.PriceFile)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	opened := make(chan *os.File, 1)
	go func() {
		pipe, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
		}
		opened <- pipe
	}()
	return func() func() {
		t.Helper()
		var pipe *os.File
		select {
		case pipe = <-opened:
		case <-time.After(10 * time.Second):
			t.Fatal("nobody reads the prices")
		}
		if err := os.Remove(path); err != nil { // the next one finds no prices
			t.Error(err)
		}
		return func() {
			t.Helper()
			if _, err := pipe.WriteString("model,input,cached_input,cache_write,output,image,second,call,context_window\n"); err != nil {
				t.Error(err)
			}
			if err := pipe.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A signal and the API asked for a reload at once. The one that began first put
// its configuration in force last, so that the older one stayed.
func TestReloadsDoNotOvertakeEachOther(t *testing.T) {
	s, file := testServer(t)
	reload := func() chan error {
		ended := make(chan error, 1)
		go func() {
			_, err := s.reload(t.Context())
			ended <- err
		}()
		return ended
	}
	reached := pricePipe(t, s.current.Load().DataDir)
	writeFile(t, file, "drain = \"2s\"\n")
	first := reload()
	goOn := reached()
	writeFile(t, file, "drain = \"3s\"\n")
	second := reload()
	select {
	case <-second:
		t.Error("the second reload did not wait for the first")
		second <- nil
	case <-time.After(200 * time.Millisecond): // long enough for one that does not wait
	}
	goOn()
	for _, ended := range []chan error{first, second} {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if got := s.current.Load().Drain; got != 3*time.Second {
		t.Errorf("the configuration in force has drain %s, want that of the newer one", got)
	}
}
