package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"tokenhub/config"
)

// frames is a provider's end of a connection in HTTP/2, by hand.
type frames struct {
	*http2.Framer
	conn net.Conn
}

// headers sends the header fields, in pairs, of an answer.
func (f *frames) headers(stream uint32, end bool, fields ...string) {
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: packed(fields...), EndHeaders: true, EndStream: end})
}

func packed(fields ...string) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return block.Bytes()
}

func (f *frames) good(stream uint32) {
	f.headers(stream, false, ":status", "200", "content-type", "application/json")
	_ = f.WriteData(stream, true, []byte(`{"good":1}`))
}

// inHTTP2 is a provider that speaks HTTP/2 by hand; serve answers the n-th
// request of all. It returns its URL and the file of its certificate.
func inHTTP2(t *testing.T, serve func(f *frames, n int64, stream uint32)) (url, ca string) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil) // which has a certificate
	s.StartTLS()
	defer s.Close()
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var asked atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface))); err != nil {
					return
				}
				f := &frames{http2.NewFramer(conn, conn), conn}
				f.AllowIllegalWrites = true
				f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
				_ = f.WriteSettings()
				for {
					frame, err := f.ReadFrame()
					if err != nil {
						return
					}
					switch frame := frame.(type) {
					case *http2.SettingsFrame:
						if !frame.IsAck() {
							_ = f.WriteSettingsAck()
						}
					case *http2.MetaHeadersFrame:
						if frame.PseudoValue("method") == "GET" { // the gateway asks for models by itself
							f.headers(frame.StreamID, true, ":status", "404")
							continue
						}
						serve(f, asked.Add(1), frame.StreamID)
					}
				}
			}()
		}
	}()
	return "https://" + l.Addr().String() + "/v1", ca
}

// What a provider can do wrong in HTTP/2 ends in an error or a broken answer for
// the one who asked, and the next one gets what is its own.
func TestHostileProvidersInHTTP2(t *testing.T) {
	json := []string{":status", "200", "content-type", "application/json"}
	for name, c := range map[string]struct {
		serve  func(f *frames, stream uint32)
		status int // what the caller gets; 0 = an error or a broken answer
	}{
		"going away at once": {func(f *frames, _ uint32) { _ = f.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("evil")) }, 0},
		"a reset":            {func(f *frames, s uint32) { _ = f.WriteRSTStream(s, http2.ErrCodeInternal) }, 0},
		"a reset in the middle": {func(f *frames, s uint32) {
			f.headers(s, false, json...)
			_ = f.WriteData(s, false, []byte("{"))
			_ = f.WriteRSTStream(s, http2.ErrCodeInternal)
		}, 0},
		"no status":                {func(f *frames, s uint32) { f.headers(s, true, "content-type", "application/json") }, 0},
		"a status of letters":      {func(f *frames, s uint32) { f.headers(s, true, ":status", "abc") }, 0},
		"a status of nothing":      {func(f *frames, s uint32) { f.headers(s, true, ":status", "000") }, 0},
		"two statuses":             {func(f *frames, s uint32) { f.headers(s, true, ":status", "200", ":status", "500") }, 0},
		"a line break in a header": {func(f *frames, s uint32) { f.headers(s, true, append(json, "x-a", "b\r\nset-cookie: a=evil")...) }, 0},
		"a name in capitals":       {func(f *frames, s uint32) { f.headers(s, true, append(json, "X-Evil", "b")...) }, 0},
		"data before headers":      {func(f *frames, s uint32) { _ = f.WriteData(s, true, []byte("evil")) }, 0},
		"data on no stream":        {func(f *frames, _ uint32) { _ = f.WriteData(99, true, []byte("evil")) }, 0},
		"more than it says": {func(f *frames, s uint32) {
			f.headers(s, false, append(json, "content-length", "2")...)
			_ = f.WriteData(s, true, []byte("{}evil"))
		}, 0},
		"less than it says": {func(f *frames, s uint32) {
			f.headers(s, false, append(json, "content-length", "9")...)
			_ = f.WriteData(s, true, []byte("{}"))
		}, 0},
		"an unasked push": {func(f *frames, s uint32) {
			_ = f.WritePushPromise(http2.PushPromiseParam{StreamID: s, PromiseID: 2, BlockFragment: packed(":method", "GET"), EndHeaders: true})
		}, 0},
		"interim answers without an end": {func(f *frames, s uint32) {
			for range 100_000 {
				f.headers(s, false, ":status", "103", "link", strings.Repeat("x", 100))
			}
		}, 0},
		"headers without an end": {func(f *frames, s uint32) {
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: packed(json...)})
			for range 100_000 {
				if f.WriteContinuation(s, false, packed("x-more", strings.Repeat("y", 200))) != nil {
					return
				}
			}
		}, 0},
		"a frame that is too long": {func(f *frames, s uint32) { _ = f.WriteRawFrame(http2.FrameData, 0, s, make([]byte, 1<<20)) }, 0},
		"no frames": {func(f *frames, _ uint32) {
			_, _ = io.WriteString(f.conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		}, 0},
		"pings before the answer": {func(f *frames, s uint32) {
			for range 1000 {
				_ = f.WritePing(false, [8]byte{})
			}
			f.good(s)
		}, 200},
		"our headers, and in a trailer": {func(f *frames, s uint32) {
			f.headers(s, false, append(json, "set-cookie", "a=evil", "x-inferoute-provider", "evil", "x-tokenhub-error", "gateway", "trailer", "set-cookie")...)
			_ = f.WriteData(s, false, []byte("{}"))
			f.headers(s, true, "set-cookie", "a=evil", "x-inferoute-provider", "evil")
		}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			var bad atomic.Bool
			bad.Store(true)
			url, ca := inHTTP2(t, func(f *frames, _ int64, stream uint32) {
				if bad.Load() {
					c.serve(f, stream)
					return
				}
				f.good(stream)
			})
			d := newDoor(t, url, func(c *config.Config) { c.Providers[0].CA = ca })
			key := d.key("k", nil)
			w := d.dial()
			w.write("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", key, len(chatBody), chatBody)
			said, err := io.ReadAll(w.r)
			text := string(said)
			ok := strings.HasPrefix(text, "HTTP/1.1 200 ") && err == nil && (strings.Contains(text, "\r\n0\r\n\r\n") || strings.Contains(text, "Content-Length: 2\r\n") && strings.HasSuffix(text, "{}"))
			if ok != (c.status == 200) {
				t.Errorf("the caller got %.500q %v", text, err)
			}
			if strings.Contains(text, "evil") {
				t.Errorf("the caller got %.500q", text)
			}
			bad.Store(false)
			resp, body := d.chat(key)
			for tries := 0; resp.StatusCode == 503 && tries < 3; tries++ { // the end of the connection may arrive with the request
				resp, body = d.chat(key)
			}
			if resp.StatusCode != 200 || body != `{"good":1}` {
				t.Errorf("the next caller got %d %q", resp.StatusCode, body)
			}
		})
	}
}
