package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// socketProvider is a provider of WebSockets; serve has the provider's end.
type socketProvider struct {
	*httptest.Server
	asked chan *http.Request
	ended chan error // what serve returned
}

func startSocketProvider(t *testing.T, serve func(context.Context, *websocket.Conn) error) *socketProvider {
	t.Helper()
	p := &socketProvider{asked: make(chan *http.Request, 10), ended: make(chan error, 10)}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"object":"list","data":[]}`)
			return
		}
		p.asked <- r
		if r.URL.Query().Get("model") == "refused" {
			w.Header().Set("X-Reason", "region")
			http.Error(w, "not in your region", http.StatusForbidden)
			return
		}
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"realtime"}, InsecureSkipVerify: true})
		if err != nil {
			p.ended <- err
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		p.ended <- serve(ctx, c)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *socketProvider) config() string {
	return "drain = \"1s\"\n[[providers]]\nname = \"sockets\"\nbase_url = \"" + p.URL + "/v1\"\napi_key = \"" + credential + "\"\nmodels = [\"*\"]\n" +
		"[[models]]\nname = \"house\"\ntargets = [ { provider = \"sockets\", model = \"gpt-realtime\" } ]\n"
}

// end is how the provider's end came to its end.
func (p *socketProvider) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the provider's end goes on after 10 s")
		return nil
	}
}

// echo sends back what it gets, until the caller closes.
func echo(ctx context.Context, c *websocket.Conn) error {
	for {
		kind, data, err := c.Read(ctx)
		if err != nil {
			return err
		}
		if string(data) == "close" {
			return c.Close(4001, "as you wish")
		}
		if err := c.Write(ctx, kind, data); err != nil {
			return err
		}
	}
}

// open opens a WebSocket as browsers do: with the key among the subprotocols.
func open(t *testing.T, h *hub, path, key string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, h.url+path, &websocket.DialOptions{
		Subprotocols: []string{"realtime", "openai-insecure-api-key." + key, "openai-beta.realtime-v1"}})
	if err == nil {
		c.SetReadLimit(1 << 20)
		t.Cleanup(func() { c.CloseNow() })
	}
	return c, resp, err
}

func TestWebSocket(t *testing.T) {
	p := startSocketProvider(t, echo)
	h := startHub(t, p.config())
	key := h.key(t, "sdk", "--endpoints", "all", "--concurrency", "1")
	c, resp, err := open(t, h, "/v1/realtime?model=house&x=%20", key)
	if err != nil {
		t.Fatal(err)
	}
	asked := <-p.asked
	if asked.RequestURI != "/v1/realtime?model=gpt-realtime&x=%20" {
		t.Errorf("the provider was asked for %s", asked.RequestURI)
	}
	if got := asked.Header.Get("Authorization"); got != "Bearer "+credential {
		t.Errorf("the provider got the credential %q", got)
	}
	if got := asked.Header["Sec-Websocket-Protocol"]; len(got) != 1 || got[0] != "realtime, openai-beta.realtime-v1" {
		t.Errorf("the provider got the subprotocols %q", got)
	}
	if c.Subprotocol() != "realtime" || resp.Header.Get("X-Inferoute-Provider") != "sockets" || resp.Header.Get("X-Inferoute-Request-Id") == "" {
		t.Errorf("the caller got the subprotocol %q, headers %v", c.Subprotocol(), resp.Header)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, message := range []struct {
		kind websocket.MessageType
		data []byte
	}{
		{websocket.MessageText, []byte(`{"type":"session.update","text":"ü😀"}`)},
		{websocket.MessageBinary, []byte{0, 1, 0xff}},
		{websocket.MessageText, bytes.Repeat([]byte("0123456789"), 20<<10)},
		{websocket.MessageBinary, bytes.Repeat([]byte{0xff, 0}, 100<<10)},
		{websocket.MessageText, nil},
	} {
		if err := c.Write(ctx, message.kind, message.data); err != nil {
			t.Fatal(err)
		}
		kind, data, err := c.Read(ctx)
		if err != nil || kind != message.kind || !bytes.Equal(data, message.data) {
			t.Fatalf("%d bytes came back as %v, %d bytes, %v", len(message.data), kind, len(data), err)
		}
	}
	// It holds its place as long as it runs.
	if _, resp, err := open(t, h, "/v1/realtime?model=house", key); err == nil || resp.StatusCode != 429 {
		t.Errorf("a second one at the same time: %v, %v", resp, err)
	}
	if err := c.Write(ctx, websocket.MessageText, []byte("close")); err != nil {
		t.Fatal(err)
	}
	_, _, err = c.Read(ctx)
	if e := (websocket.CloseError{}); !errors.As(err, &e) || e.Code != 4001 || e.Reason != "as you wish" {
		t.Errorf("the caller got %v, want the close code 4001", err)
	}
	p.end(t)
	if k := waitIdle(t, h); k.Usage.Total.Requests != 1 {
		t.Errorf("%d requests are counted, want 1", k.Usage.Total.Requests)
	}

	c, _, err = open(t, h, "/v1/realtime?model=house", key)
	if err != nil {
		t.Fatal(err)
	}
	<-p.asked
	if err := c.Close(4002, "enough"); err != nil {
		t.Errorf("closing: %v", err)
	}
	if e := (websocket.CloseError{}); !errors.As(p.end(t), &e) || e.Code != 4002 || e.Reason != "enough" {
		t.Errorf("the provider got %v, want the close code 4002", e)
	}
	waitIdle(t, h)
}

func TestWebSocketIsRefused(t *testing.T) {
	p := startSocketProvider(t, echo)
	h := startHub(t, p.config())
	for _, tt := range []struct {
		name, path, key string
		status          int
		body            string
	}{
		{"a wrong key", "/v1/realtime?model=house", "th-" + strings.Repeat("0", 59), 401, "invalid_api_key"},
		{"a key for inference", "/v1/realtime?model=house", h.key(t, "inference"), 403, "endpoint_not_allowed"},
		{"a key with a budget", "/v1/realtime?model=house", h.key(t, "budget", "--endpoints", "all", "--monthly-usd", "5"), 403, "endpoint_not_metered"},
		{"inference over a WebSocket with a budget", "/v1/responses?model=house", h.key(t, "tokens", "--endpoints", "all", "--daily-tokens", "5"), 403, "endpoint_not_metered"},
		{"the provider", "/v1/realtime?model=refused", h.key(t, "all", "--endpoints", "all"), 403, "not in your region"},
	} {
		_, resp, err := open(t, h, tt.path, tt.key)
		if err == nil || resp == nil || resp.StatusCode != tt.status {
			t.Errorf("%s: %v, %v, want status %d", tt.name, resp, err, tt.status)
			continue
		}
		if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), tt.body) {
			t.Errorf("%s: the answer is %s, want %s in it", tt.name, body, tt.body)
		}
		if own := resp.Header.Get("X-TokenHub-Error") != ""; own == (resp.Header.Get("X-Reason") != "") {
			t.Errorf("%s: the headers are %v", tt.name, resp.Header)
		}
	}
	if n := len(p.asked); n != 1 {
		t.Errorf("the provider was asked %d times, want once", n)
	}
}

// TestWebSocketEnds: whoever vanishes, the other one notices.
func TestWebSocketEnds(t *testing.T) {
	p := startSocketProvider(t, func(ctx context.Context, c *websocket.Conn) error {
		_, data, err := c.Read(ctx)
		if string(data) == "vanish" {
			return c.CloseNow()
		}
		return err
	})
	h := startHub(t, p.config())
	key := h.key(t, "sdk", "--endpoints", "all")
	start := func() *websocket.Conn {
		t.Helper()
		c, _, err := open(t, h, "/v1/realtime?model=house", key)
		if err != nil {
			t.Fatal(err)
		}
		<-p.asked
		return c
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	c := start()
	left := time.Now()
	c.CloseNow()
	if err := p.end(t); err == nil || time.Since(left) > soon {
		t.Errorf("the provider noticed after %v that the caller is gone: %v", time.Since(left), err)
	}
	waitIdle(t, h)

	c = start()
	left = time.Now()
	if err := c.Write(ctx, websocket.MessageText, []byte("vanish")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read(ctx); err == nil || websocket.CloseStatus(err) != -1 || time.Since(left) > soon {
		t.Errorf("the caller noticed after %v that the provider is gone: %v", time.Since(left), err)
	}
	p.end(t)
	waitIdle(t, h)

	c = start()
	h.run(t, "keys", "revoke", "sdk")
	left = time.Now()
	if _, _, err := c.Read(ctx); err == nil || time.Since(left) > time.Second {
		t.Errorf("the caller noticed after %v that its key is revoked: %v", time.Since(left), err)
	}
	if err := p.end(t); err == nil || time.Since(left) > time.Second {
		t.Errorf("the provider noticed after %v: %v", time.Since(left), err)
	}
	waitIdle(t, h)

	// One that is still open at the end ends with the program: see startHub.
	key = h.key(t, "another", "--endpoints", "all")
	start()
}

// TestWebSocketBytesBehindTheRequest: what a caller sends without waiting for
// the answer is not lost, and neither is what the provider sends with it.
func TestWebSocketBytesBehindTheRequest(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan string, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				c := &caller{t: t, conn: conn, r: bufio.NewReader(conn)}
				m, err := readHead(c.r)
				if err != nil || m.header.Get("Upgrade") == "" {
					return
				}
				io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nfirst of the provider")
				buf := make([]byte, len("early"))
				io.ReadFull(c.r, buf)
				got <- string(buf)
				io.Copy(io.Discard, c.r)
			}()
		}
	}()
	h := startHub(t, "[[providers]]\nname = \"p\"\nbase_url = \"http://"+l.Addr().String()+"/v1\"\nmodels = [\"*\"]\n")
	key := h.key(t, "sdk", "--endpoints", "all")
	c := dial(t, h.url, false)
	c.send("GET /v1/realtime?model=m HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\nearly")
	m := c.answer("GET")
	if m.first != "101 Switching Protocols" || m.header.Get("Upgrade") != "websocket" || m.header.Get("Connection") != "Upgrade" || m.header.Get("Sec-Websocket-Accept") != "x" {
		t.Errorf("the caller got %q %v", m.first, m.header)
	}
	buf := make([]byte, len("first of the provider"))
	if _, err := io.ReadFull(c.r, buf); err != nil || string(buf) != "first of the provider" {
		t.Errorf("the caller got %q, %v", buf, err)
	}
	if text := <-got; text != "early" {
		t.Errorf("the provider got %q", text)
	}
	// A FIN counts as leaving.
	if err := c.conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.r.ReadByte(); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after half a close: %v", err)
	}
	waitIdle(t, h)
}
