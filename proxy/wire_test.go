package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"tokenhub/config"
	"tokenhub/db"
)

func everything(k *db.Key) { k.Endpoints = db.AllEndpoints }

// A body that nobody reads is never taken for the next request: fasthttp 1.51,
// which Fiber asks for by itself, served what stood in it.
func TestUnreadBodyIsNoRequest(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, func(c *config.Config) { c.MaxBody = 1 << 10 })
	key := d.key("k", everything)
	smuggled := "GET /v1/smuggled HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\n\r\n"
	long := smuggled + strings.Repeat(smuggled, 20_000)
	for name, c := range map[string]struct {
		head, body string
		status     int
	}{
		"a wrong key":             {"Authorization: Bearer th-x\r\nContent-Length: %d\r\n", smuggled, 401},
		"a wrong key, a long one": {"Authorization: Bearer th-x\r\nContent-Length: %d\r\n", long, 401},
		"too large":               {"Authorization: Bearer " + key + "\r\nContent-Length: %d\r\n", long, 413},
		"a wrong key in chunks":   {"Authorization: Bearer th-x\r\nTransfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled), 401},
		"an endless chunk":        {"Authorization: Bearer th-x\r\nTransfer-Encoding: chunked\r\n", "fffffff\r\n" + smuggled, 401},
		"a length and chunks":     {"Authorization: Bearer th-x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" + smuggled, 400},
	} {
		t.Run(name, func(t *testing.T) {
			head := c.head
			if strings.Contains(head, "%d") {
				head = fmt.Sprintf(head, len(c.body))
			}
			w := d.dial()
			written := make(chan struct{})
			go func() { // the answer comes before all of it is taken
				defer close(written)
				_, _ = io.WriteString(w.conn, "POST /v1/files HTTP/1.1\r\nHost: x\r\n"+head+"\r\n"+c.body)
				_ = w.tcp.CloseWrite()
			}()
			resp, body := w.answer("POST")
			if resp.StatusCode != c.status {
				t.Errorf("%d %s, want %d", resp.StatusCode, body, c.status)
			}
			<-written
			if rest, _ := io.ReadAll(w.r); strings.Contains(string(rest), "200 OK") {
				t.Errorf("the body was answered: %.200q", rest)
			}
			if got := p.all(); len(got) != 0 {
				t.Errorf("the provider got %+v", got)
			}
		})
	}
}

// What is not well-formed is refused in fixed words, and repeats nothing of what
// was sent.
func TestMalformedRequests(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, nil)
	key := d.key("k", everything)
	for _, head := range []string{"Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: +5\r\n", "Content-Length: -1\r\n", "Transfer-Encoding: xchunked\r\n",
		"Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding : chunked\r\n", "X-Null: a\x00b\r\n", "X-Return: a\rb\r\n", "Host: y\r\n"} {
		w := d.dial()
		w.write("POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\nhello", key, head)
		resp, body := w.answer("POST")
		if resp.StatusCode != 400 || body != `{"error":{"message":"The request is not well-formed HTTP.","type":"invalid_request_error","code":"invalid_request"}}` ||
			resp.Header.Get("X-TokenHub-Error") != "gateway" || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%q: %d %s %v", head, resp.StatusCode, body, resp.Header)
		}
		w.over()
	}
	w := d.dial()
	w.write("GET /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nX-Long: %s\r\n\r\n", key, strings.Repeat("x", 20<<10))
	if resp, body := w.answer("GET"); resp.StatusCode != 431 || strings.Contains(body, "xxx") {
		t.Errorf("long headers: %d %s", resp.StatusCode, body)
	}
	if got := p.all(); len(got) != 0 {
		t.Errorf("the provider got %+v", got)
	}
	if strings.Contains(d.log.String(), key[13:]) {
		t.Error("the secret is in the log")
	}
}

// Where a request goes is never decided by what it says of hosts; paths arrive
// as they were spelled, or not at all.
func TestTargetsOfRequests(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL+"/base/v9", nil)
	key := d.key("k", everything)
	host := strings.TrimPrefix(p.URL, "http://")
	for target, want := range map[string]string{
		"/v1/files":                           "/base/v9/files",
		"/v1/files/":                          "/base/v9/files/",
		"/v1/files?":                          "/base/v9/files?",
		"/v1/files?a=%zz;b&b[]=1&b[]=2&c=+":   "/base/v9/files?a=%zz;b&b[]=1&b[]=2&c=+",
		"/v1/models/org%2Fmodel%3afree/x%20y": "/base/v9/models/org%2Fmodel%3afree/x%20y",
		"/v1/caf%c3%a9/a+b/%25":               "/base/v9/caf%c3%a9/a+b/%25",
		"http://evil.example/v1/files":        "/base/v9/files",
		"https://evil.example:1/v1/x?a":       "/base/v9/x?a",
		"/v1":                                 "/base/v9",
		"/v1/../admin":                        "",
		"/v1/%2e%2e/admin":                    "",
		"/v1/x/..%2fadmin":                    "",
		"/v1/.":                               "",
		"/v1//files":                          "",
		"/v1/%2Ffiles":                        "",
		`/v1/a\b`:                             "",
		"/v1/a%5Cb":                           "",
		"/v1/a%00b":                           "",
		"http://evil.example/v1/../admin":     "",
	} {
		w := d.dial()
		w.write("DELETE %s HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\nAuthorization: Bearer %s\r\n\r\n", target, key)
		resp, body := w.answer("DELETE")
		if want == "" {
			refused(t, target, resp, body, 400, "invalid_request_error", "invalid_path")
			if got := p.all(); len(got) != 0 {
				t.Errorf("%s: the provider got %+v", target, got)
			}
			continue
		}
		if resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", target, resp.StatusCode, body)
			continue
		}
		if got := p.one(t); got.line != "DELETE "+want || got.host != host || got.header.Get("Content-Length") != "" || got.header.Get("Content-Type") != "" {
			t.Errorf("%s: the provider got %s at %s with %v, want %s at %s", target, got.line, got.host, got.header, want, host)
		}
	}
	for _, target := range []string{"/V1/files", "/v1beta/files", "//v1/files", "/%76%31/files", "/files", "/chat/completions", "/v1%2ffiles"} {
		w := d.dial()
		w.write("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", target, key)
		if resp, body := w.answer("GET"); resp.StatusCode != 404 || !strings.Contains(body, `"code":"not_found"`) {
			t.Errorf("%s: %d %s", target, resp.StatusCode, body)
		}
	}
	if got := p.all(); len(got) != 0 {
		t.Errorf("the provider got %+v", got)
	}
}

// A caller that asks before it sends its body hears what the headers decide.
func TestExpect(t *testing.T) {
	p := record(t, good)
	d := newDoor(t, p.URL, func(c *config.Config) { c.MaxBody = 1 << 10 })
	key := d.key("k", nil)
	far := d.key("far", func(k *db.Key) { k.AllowedIPs = []string{"10.0.0.0/8"} })
	for name, c := range map[string]struct {
		path, key string
		length    int
		status    int
		code      string
	}{
		"a wrong key":         {"/v1/chat/completions", "th-x", len(chatBody), 401, "invalid_api_key"},
		"too large":           {"/v1/chat/completions", key, 5 << 20, 413, "request_too_large"},
		"not allowed":         {"/v1/files", key, len(chatBody), 403, "endpoint_not_allowed"},
		"from a wrong place":  {"/v1/chat/completions", far, len(chatBody), 403, "ip_not_allowed"},
		"to a dot segment":    {"/v1/x/../chat/completions", key, len(chatBody), 400, "invalid_path"},
		"what can be granted": {"/v1/chat/completions", key, len(chatBody), 200, ""},
	} {
		w := d.dial()
		w.write("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", c.path, c.key, c.length)
		resp, err := http.ReadResponse(w.r, &http.Request{Method: "POST"})
		if err != nil {
			t.Fatal(err)
		}
		if c.code == "" {
			if resp.StatusCode != 100 {
				t.Fatalf("%s: %d, want 100", name, resp.StatusCode)
			}
			w.write("%s", chatBody)
			if resp, body := w.answer("POST"); resp.StatusCode != 200 {
				t.Errorf("%s: %d %s", name, resp.StatusCode, body)
			}
			if got := p.one(t); got.body != chatBody || got.header.Get("Expect") != "" {
				t.Errorf("%s: the provider got %+v", name, got)
			}
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		refusedType := map[int]string{401: "authentication_error", 403: "permission_error"}[c.status]
		if refusedType == "" {
			refusedType = "invalid_request_error"
		}
		refused(t, name, resp, string(body), c.status, refusedType, c.code)
		w.over()
	}
	if got := p.all(); len(got) != 0 {
		t.Errorf("the provider got %+v", got)
	}
}

// A connection serves on after errors of every kind, in the order in which the
// requests were sent, and after HTTP/1.0 it is over.
func TestConnectionServesOn(t *testing.T) {
	p := record(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-Answer") {
		case "stream":
			stream(w, r)
		case "404":
			fails(404)(w, r)
		case "204":
			w.WriteHeader(204)
		default:
			_, _ = io.WriteString(w, "answer to "+r.Header.Get("X-Name"))
		}
	})
	d := newDoor(t, p.URL, nil)
	key := d.key("k", everything)
	post := func(path, key, extra, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\n%sContent-Length: %d\r\n\r\n%s", path, key, extra, len(body), body)
	}
	requests := []struct {
		text, method string
		status       int
		body         string
	}{
		{post("/v1/files", key, "X-Name: one\r\n", "x"), "POST", 200, "answer to one"},
		{post("/v1/files", "th-x", "", "GET /v1/smuggled HTTP/1.1\r\n\r\n"), "POST", 401, "invalid_api_key"},
		{post("/v1/chat/completions", key, "", "{"), "POST", 400, "invalid_json"},
		{post("/v1/chat/completions", key, "X-Answer: stream\r\n", streamBody), "POST", 200, "[DONE]"},
		{post("/v1/chat/completions", key, "X-Answer: 404\r\n", chatBody), "POST", 404, "fault 404"},
		{"HEAD /v1/files HTTP/1.1\r\nHost: x\r\nX-Name: two\r\nX-Api-Key: " + key + "\r\n\r\n", "HEAD", 200, ""},
		{post("/v1/files", key, "X-Answer: 204\r\n", ""), "POST", 204, ""},
		{"GET /v1/../x HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + key + "\r\n\r\n", "GET", 400, "invalid_path"},
		{post("/v1/files", key, "X-Name: three\r\n", strings.Repeat("y", 50_000)), "POST", 200, "answer to three"},
		{"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + key + "\r\n\r\n", "GET", 200, `"object":"list"`},
		{"GET /v1/files HTTP/1.0\r\nHost: x\r\nX-Name: last\r\nX-Api-Key: " + key + "\r\n\r\n", "GET", 200, "answer to last"},
	}
	for _, pipelined := range []bool{false, true} {
		w := d.dial()
		for _, r := range requests {
			if pipelined {
				w.write("%s", r.text)
			}
		}
		for i, r := range requests {
			if !pipelined {
				w.write("%s", r.text)
			}
			resp, body := w.answer(r.method)
			if resp.StatusCode != r.status || !strings.Contains(body, r.body) {
				t.Errorf("pipelined %v, answer %d: %d %s, want %d %s", pipelined, i, resp.StatusCode, body, r.status, r.body)
			}
		}
		w.over()
	}
}

// A caller of HTTP/1.0 knows no chunks: the end of the answer is that of the
// connection.
func TestOldCallers(t *testing.T) {
	d := newDoor(t, record(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Answer") == "stream" {
			_ = http.NewResponseController(w).Flush() // so that nobody knows the length
			stream(w, r)
			return
		}
		good(w, r)
	}).URL, nil)
	key := d.key("k", nil)
	for _, c := range []struct{ extra, want string }{{"X-Answer: stream\r\n", "[DONE]\n\n"}, {"", `"completion_tokens":5}}`}, {"Connection: keep-alive\r\nX-Answer: stream\r\n", "[DONE]\n\n"}} {
		w := d.dial()
		w.write("POST /v1/chat/completions HTTP/1.0\r\nX-Api-Key: %s\r\n%sContent-Length: %d\r\n\r\n%s", key, c.extra, len(streamBody), streamBody)
		text, err := io.ReadAll(w.r)
		if err != nil {
			t.Fatalf("%q: %q %v", c.extra, text, err)
		}
		if strings.Contains(strings.ToLower(string(text)), "chunked") || !strings.HasSuffix(string(text), c.want) {
			t.Errorf("%q: %q", c.extra, text)
		}
	}
	if got := d.settled(); len(got) != 3 || got[0].Usage.Tokens() != 12 || got[1].Usage.Tokens() != 12 || got[0].Broken {
		t.Errorf("settled as %+v", got)
	}
}

// wire is a caller's connection by hand.
type wire struct {
	t    *testing.T
	conn net.Conn
	tcp  *net.TCPConn
	r    *bufio.Reader
}

func (d *door) dial() *wire {
	d.t.Helper()
	_, address, _ := strings.Cut(d.url, "://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		d.t.Fatal(err)
	}
	w := &wire{t: d.t, conn: conn, tcp: conn.(*net.TCPConn)}
	if d.secure != nil {
		w.conn = tls.Client(conn, d.trusted)
	}
	d.t.Cleanup(func() { _ = w.tcp.Close() })
	// Well above the time for which the rest of a refused upload is read away.
	if err := conn.SetDeadline(time.Now().Add(2*lingerTime + 10*time.Second)); err != nil {
		d.t.Fatal(err)
	}
	w.r = bufio.NewReader(w.conn)
	return w
}

// write sends text as it is.
func (w *wire) write(format string, args ...any) {
	w.t.Helper()
	if _, err := fmt.Fprintf(w.conn, format, args...); err != nil {
		w.t.Fatal(err)
	}
}

// answer reads one answer to a request of the method.
func (w *wire) answer(method string) (*http.Response, string) {
	w.t.Helper()
	resp, err := http.ReadResponse(w.r, &http.Request{Method: method})
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %q: %v", resp.Status, text, err)
	}
	return resp, string(text)
}

// over fails the test unless the gateway has closed the connection.
func (w *wire) over() {
	w.t.Helper()
	if rest, err := io.ReadAll(w.r); len(rest) != 0 || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		w.t.Errorf("behind the end: %q %v", rest, err)
	}
}
