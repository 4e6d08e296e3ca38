package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"tokenhub/auth"
	"tokenhub/config"
	"tokenhub/db"
	"tokenhub/ui"
)

// BenchmarkPages shows each page with 10,000 keys and a million rows of roll-ups
// from 400 days. Making them takes a minute:
//
//	go test -run '^$' -bench '^BenchmarkPages$' -benchtime 20x .
func BenchmarkPages(b *testing.B) {
	cfg := config.Defaults()
	cfg.DataDir = filepath.Join(b.TempDir(), "data")
	cfg.Providers = []config.Provider{{Name: "openai", BaseURL: "http://127.0.0.1:1/v1"}, {Name: "ollama", BaseURL: "http://127.0.0.1:2/v1"}}
	s := &server{log: zerolog.New(io.Discard)}
	s.current.Store(cfg)
	var err error
	if s.store, err = openStore(b.Context(), cfg, s.log); err != nil {
		b.Fatal(err)
	}
	defer func() { s.store.Close() }()
	fillStore(b, s)

	s.admin = ui.New(ui.Options{Store: s.store, Tokens: auth.New(auth.Options{Keys: s.store, Tokens: s.store}), Config: s.current.Load, Log: s.log})
	app := s.adminApp(ui.Network)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go app.Listener(ln)
	defer app.Shutdown()
	base := "http://" + ln.Addr().String()
	client := setUpPages(b, s, base)
	old := time.Now().Add(-360 * 24 * time.Hour).UTC().Format(time.RFC3339)

	for _, path := range []string{"/", "/keys", "/keys?search=99&sort=spend", "/keys/new", "/keys/key0000007", "/usage", "/usage?by=key", "/usage?by=tag&range=90",
		"/usage?key=key0000007&by=model", "/requests", "/requests?key=key0000007", "/requests?status=5xx", "/requests?status=404",
		"/requests?key=key0000007&status=429", "/requests?model=none", "/requests/req_" + fmt.Sprintf("%026d", 900_000) + "?at=" + old,
		"/providers", "/connect", "/audit", "/settings"} {
		b.Run(path, func(b *testing.B) {
			size := show(b, client, base+path)
			for b.Loop() {
				size = show(b, client, base+path)
			}
			b.ReportMetric(float64(size), "gzip-bytes")
		})
	}

	// After a start nothing is known, until it was read in the background.
	year := "/usage?from=" + time.Now().AddDate(-1, 0, 0).Format(time.DateOnly)
	for _, path := range []string{"/", "/usage?range=90&by=key", year} {
		b.Run("first"+path, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				client, base, stop := freshPages(b, s)
				b.StartTimer()
				show(b, client, base+path)
				b.StopTimer()
				stop()
				b.StartTimer()
			}
		})
	}
	b.Run("background", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			client, base, stop := freshPages(b, s)
			b.StartTimer()
			if err := s.admin.Prepare(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			begun := time.Now()
			show(b, client, base+year)
			b.ReportMetric(float64(time.Since(begun).Milliseconds()), "ms-year-after")
			stop()
			b.StartTimer()
		}
	})
}

// freshPages serves pages as they are after a start, to somebody who is signed in.
func freshPages(b *testing.B, s *server) (client *http.Client, base string, stop func()) {
	b.Helper()
	s.admin = ui.New(ui.Options{Store: s.store, Tokens: auth.New(auth.Options{Keys: s.store, Tokens: s.store}), Config: s.current.Load, Log: s.log})
	app := s.adminApp(ui.Network)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go app.Listener(ln)
	base = "http://" + ln.Addr().String()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	client = &http.Client{Jar: jar}
	req, err := http.NewRequest("POST", base+"/sign-in", strings.NewReader(url.Values{"password": {"correct horse battery"}}.Encode()))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", base)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 303 {
		b.Fatalf("sign in: %d", resp.StatusCode)
	}
	return client, base, func() { _ = app.Shutdown() }
}

// fillStore makes 10,000 keys and a million rows.
func fillStore(b *testing.B, s *server) {
	b.Helper()
	const keys, days = 10_000, 400
	now := time.Now()
	for i := range keys {
		k := &db.Key{ID: fmt.Sprintf("key%07d", i), Name: fmt.Sprintf("key %d", i), Endpoints: db.Inference, CreatedAt: now.AddDate(0, 0, -days),
			Tags: []string{fmt.Sprintf("team %d", i%20)}, Limits: db.Limits{MonthlyUSD: 5_000_000, MonthlyTokens: 1_000_000}}
		if _, err := s.store.PutKey(b.Context(), k, db.Audit{}); err != nil {
			b.Fatal(err)
		}
	}
	rec := db.Record{Model: "gpt-4o", Served: "gpt-4o-2024-11-20", Provider: "openai", Endpoint: "POST /v1/chat/completions", Status: 200,
		Usage: db.Usage{Input: 1000, Output: 200}, Cost: 4500, Source: db.FromProvider, Attempt: 1, Latency: time.Second}
	for i := range 1_000_000 {
		rec.ID = fmt.Sprintf("req_%026d", i)
		rec.KeyID = fmt.Sprintf("key%07d", (i*7919)%keys)
		rec.Start = now.Add(-time.Duration(i) * (days * 24 * time.Hour / 1_000_000))
		rec.Model = fmt.Sprintf("model-%d", i%12)
		switch rec.Status = 200; {
		case i%50 == 7: // in each hour
			rec.Status = 429
		case i == 700_000: // once
			rec.Status = 502
		}
		if err := s.store.Note(b.Context(), &rec); err != nil {
			b.Fatal(err)
		}
	}
	// Opening the store again folds all of it.
	if err := s.store.Close(); err != nil {
		b.Fatal(err)
	}
	var err error
	if s.store, err = openStore(b.Context(), s.current.Load(), s.log); err != nil {
		b.Fatal(err)
	}
}

// setUpPages sets the password, and returns a client that is signed in.
func setUpPages(b *testing.B, s *server, base string) *http.Client {
	b.Helper()
	link, err := s.admin.SetupLink(b.Context(), base)
	if err != nil {
		b.Fatal(err)
	}
	_, token, _ := strings.Cut(link, "token=")
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	form := url.Values{"token": {token}, "password": {"correct horse battery"}, "again": {"correct horse battery"}}
	req, err := http.NewRequest("POST", base+"/setup", strings.NewReader(form.Encode()))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", base)
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		b.Fatalf("set up: %d", resp.StatusCode)
	}
	return client
}

// show reads a page as a browser does, and returns its size on the wire.
func show(b *testing.B, client *http.Client, page string) int {
	b.Helper()
	req, err := http.NewRequest("GET", page, nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		b.Fatal(err)
	}
	if resp.StatusCode != 200 {
		b.Fatalf("%s: %d", page, resp.StatusCode)
	}
	return body.Len()
}
