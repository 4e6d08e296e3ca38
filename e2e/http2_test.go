package e2e

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestProviderOverHTTP2: with a private authority; bytes, streams, uploads and
// leaving are as over HTTP/1.1, which WebSockets go on using.
func TestProviderOverHTTP2(t *testing.T) {
	type seen struct {
		proto, target string
		header        http.Header
		body          []byte
		left          time.Time
	}
	got := make(chan seen, 10)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			if c, err := websocket.Accept(w, r, nil); err == nil {
				defer c.CloseNow()
				_ = echo(r.Context(), c)
			}
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path == "/base/models" {
			return
		}
		this := seen{proto: r.Proto, target: r.RequestURI, header: r.Header.Clone(), body: body}
		if r.Header.Get("X-Wait") != "" {
			sendEvents(w, "data: 1\n\n")
			<-r.Context().Done()
			this.left = time.Now()
		} else {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Date", "Mon, 02 Jan 2006 15:04:05 GMT")
			fmt.Fprint(w, "text")
		}
		got <- this
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, "[[providers]]\nname = \"h2\"\nbase_url = \""+s.URL+"/base\"\nmodels = [\"*\"]\nca = \""+ca+"\"\n")
	key := h.key(t, "sdk", "--endpoints", "all")

	form := aForm(strings.Repeat("0123456789abcdef", 1<<16), "whisper-test")
	for _, c := range []call{
		{name: "escapes", first: "GET /v1/files/a%2Fb%c3%bc?x[]=%20&y"},
		{name: "a lone question mark", first: "DELETE /v1/files?"},
		{name: "chunks", first: "POST /v1/things", headers: "Transfer-Encoding: chunked\r\n", body: chunked("hello", 2)},
		formCall("a form", "/v1/audio/transcriptions", form),
	} {
		caller := dial(t, h.url, false)
		caller.send(c.text("x", key))
		if m := caller.answer(c.method()); m.first != "200 OK" || string(m.body) != "text" || m.header.Get("Date") != "Mon, 02 Jan 2006 15:04:05 GMT" {
			t.Errorf("%s: the caller got %q %v %s", c.name, m.first, m.header, m.body)
		}
		r := <-got
		_, target, _ := strings.Cut(c.first, " /v1")
		if r.proto != "HTTP/2.0" || r.target != "/base"+target || r.header.Get("Authorization") != "" {
			t.Errorf("%s: the provider got %s %s %v", c.name, r.proto, r.target, r.header)
		}
		want := []byte(c.body)
		if c.name == "chunks" {
			want = []byte("hello")
		}
		if !bytes.Equal(r.body, want) {
			t.Errorf("%s: the provider got %d bytes, want %d", c.name, len(r.body), len(want))
		}
	}

	leaver := dial(t, h.url, false)
	leaver.send("GET /v1/files HTTP/1.1\r\nHost: x\r\nX-Wait: 1\r\nAuthorization: Bearer " + key + "\r\n\r\n")
	if _, err := readHead(leaver.r); err != nil {
		t.Fatal(err)
	}
	left := time.Now()
	if err := leaver.conn.Close(); err != nil {
		t.Fatal(err)
	}
	if r := <-got; r.left.Sub(left) > soon {
		t.Errorf("the provider noticed after %v", r.left.Sub(left))
	}

	c, _, err := open(t, h, "/v1/realtime?model=m", key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte("hi")); err != nil {
		t.Fatal(err)
	}
	if _, data, err := c.Read(ctx); err != nil || string(data) != "hi" {
		t.Errorf("the WebSocket says %q, %v", data, err)
	}
	c.CloseNow()
	waitIdle(t, h)
}
