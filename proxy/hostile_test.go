package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"tokenhub/config"
)

// byHand is a provider that answers by hand: serve is given each request, and
// the connection goes on if it says so.
func byHand(t *testing.T, serve func(w io.Writer, r *http.Request) (goOn bool)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for {
					req, err := http.ReadRequest(r)
					if err != nil || req.UserAgent() == "TokenHub" {
						_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					if !serve(conn, req) {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/v1"
}

// endlessly writes a text until nobody takes it any more; it reports whether
// somebody took a gigabyte.
func endlessly(w io.Writer, text string) (tookAll bool) {
	block := strings.Repeat(text, 1+(32<<10)/len(text))
	for n := 0; n < 1<<30; n += len(block) {
		if _, err := io.WriteString(w, block); err != nil {
			return false
		}
	}
	return true
}

const wellAnswered = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"good\":1}\n"

// However a provider answers, the caller gets a whole answer or an error, in
// HTTP that says one thing, and nothing of it is left for the next caller.
func TestHostileProviders(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for name, c := range map[string]struct {
		raw     string // what it sends
		endless string // and goes on sending
		status  int    // what the caller gets, 0 = a broken answer
	}{
		"nothing":                         {"", "", 503},
		"no HTTP":                         {"hello\r\n\r\n", "", 503},
		"another protocol":                {"ICY 200 OK\r\n\r\nhello", "", 503},
		"another version":                 {"HTTP/9.9 200 OK\r\n\r\nhello", "", 200},
		"a status of letters":             {"HTTP/1.1 abc OK\r\n\r\n", "", 503},
		"a status of four digits":         {"HTTP/1.1 2000 OK\r\n\r\n", "", 503},
		"a status below zero":             {"HTTP/1.1 -20 OK\r\n\r\n", "", 503},
		"a status of nothing":             {"HTTP/1.1 000 OK\r\nContent-Length: 5\r\n\r\nhello", "", 503},
		"a status of 42":                  {"HTTP/1.1 042 OK\r\nContent-Length: 5\r\n\r\nhello", "", 503},
		"TLS":                             {"\x15\x03\x01\x00\x02\x02\x28", "", 503},
		"HTTP/2":                          {"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64\x00\x04\x00\x00\xff\xff", "", 503},
		"zeros":                           {strings.Repeat("\x00", 5000), "", 503},
		"headers without an end":          {ok, "X-More: and more\r\n", 503},
		"a header without an end":         {ok + "X-More: ", "more", 503},
		"a first line without an end":     {"HTTP/1.1 200 ", "more", 503},
		"zeros without an end":            {"", "\x00", 503},
		"interim answers without an end":  {"", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 503},
		"continue without an end":         {"", "HTTP/1.1 100 Continue\r\n\r\n", 503},
		"long interim answers":            {"HTTP/1.1 103 Early Hints\r\nLink: ", "x", 503},
		"switching without being asked":   {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "", 503},
		"two lengths":                     {ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", "", 503},
		"a length below zero":             {ok + "Content-Length: -2\r\n\r\nabc", "", 503},
		"a length of letters":             {ok + "Content-Length: two\r\n\r\nabc", "", 503},
		"another transfer coding":         {ok + "Transfer-Encoding: gzip\r\n\r\nabc", "", 503},
		"a name with a space":             {ok + "X A: b\r\nContent-Length: 2\r\n\r\n{}", "", 200},
		"a name that ends in a space":     {ok + "Set-Cookie : a=b\r\nContent-Length: 2\r\n\r\n{}", "", 200},
		"a line without a colon":          {ok + "nonsense\r\nContent-Length: 2\r\n\r\n{}", "", 503},
		"a header that is no text":        {ok + "X-A: a\x00\x01\x7fb\r\nContent-Length: 2\r\n\r\n{}", "", 503},
		"a header with a line break":      {ok + "X-A: a\rSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}", "", 503},
		"a header that is folded":         {ok + "X-A: a\r\n Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}", "", 200},
		"a reason with a line break":      {"HTTP/1.1 200 O\rSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}", "", 200},
		"a length and chunks":             {ok + "Content-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "", 200},
		"a bad first chunk":               {ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", "", 503},
		"a bad chunk":                     {ok + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n", "", 0},
		"a huge chunk":                    {ok + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n7fffffffffffffff\r\nhello", "", 0},
		"a trailer with what is not its":  {ok + "Trailer: Set-Cookie, X-Inferoute-Provider\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nSet-Cookie: a=b\r\nX-Inferoute-Provider: evil\r\n\r\n", "", 200},
		"trailers without an end":         {ok + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", "X-More: and more\r\n", 0},
		"more than it says":               {ok + "Content-Length: 2\r\n\r\n{}" + wellAnswered, "", 200},
		"a 204 with a body":               {"HTTP/1.1 204 No Content\r\nContent-Length: 20\r\n\r\n{\"poison\":\"poison\"}}", "", 204},
		"a 304 with a body":               {"HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "", 304},
		"two answers":                     {ok + "Content-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "", 200},
		"our cookies and our headers":     {ok + "set-cookie: a=b\r\nSET-COOKIE: a=b\r\nSet-Cookie2: a=b\r\nx-tokenhub-error: gateway\r\nX-INFEROUTE-REQUEST-ID: req_evil\r\nAccess-Control-Allow-Origin: *\r\naccess-control-allow-credentials: true\r\nContent-Length: 2\r\n\r\n{}", "", 200},
		"orders to a proxy in front":      {ok + "X-Accel-Redirect: /secret\r\nX-Sendfile: /etc/passwd\r\nX-Lighttpd-Send-File: /etc/passwd\r\nX-Reproxy-URL: http://127.0.0.1/\r\nContent-Length: 2\r\n\r\n{}", "", 200},
		"a connection that names ours":    {ok + "Connection: X-Inferoute-Request-Id, X-Inferoute-Provider, Content-Type\r\nContent-Length: 2\r\n\r\n{}", "", 200},
		"an event without an end":         {"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 20000\r\n\r\ndata: " + strings.Repeat("x", 5000), "", 0},
		"a compressed answer that is not": {ok + "Content-Encoding: gzip, br, zstd, gzip\r\nContent-Length: 9\r\n\r\nnot gzip!", "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			took := make(chan bool, 1)
			url := byHand(t, func(w io.Writer, r *http.Request) bool {
				if r.Header.Get("X-Good") != "" {
					_, err := io.WriteString(w, wellAnswered)
					return err == nil
				}
				_, err := io.WriteString(w, c.raw)
				if c.endless != "" && err == nil {
					took <- endlessly(w, c.endless)
				}
				return c.endless == "" && strings.Contains(c.raw, "poison") // which is for the next one
			})
			d := newDoor(t, url, func(c *config.Config) { c.CORSOrigins = []string{"https://app.example"} })
			key := d.key("k", nil)
			head := fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n", key, len(chatBody))
			w := d.dial()
			w.write("%s\r\n%s", head, chatBody)
			resp, err := http.ReadResponse(w.r, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			switch {
			case c.status == 0 && err == nil:
				t.Errorf("the caller got a whole answer: %d %.200q", resp.StatusCode, body)
			case c.status != 0 && (resp.StatusCode != c.status || err != nil):
				t.Errorf("the caller got %d %.200q %v, want %d", resp.StatusCode, body, err, c.status)
			}
			if text := fmt.Sprint(resp.Header, resp.Trailer, resp.Status); strings.Contains(text, "evil") || strings.ContainsAny(text, "\r\n\x00") || resp.Header.Get("X-Inferoute-Request-Id") == "" {
				t.Errorf("the caller got %q", text)
			}
			for name := range resp.Header {
				if strings.ContainsAny(name, " \t") {
					t.Errorf("the caller got a header %q", name)
				}
			}
			for _, name := range []string{"Set-Cookie", "Set-Cookie2", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "X-Accel-Redirect", "X-Sendfile", "X-Lighttpd-Send-File", "X-Reproxy-Url"} {
				if resp.Header.Get(name) != "" {
					t.Errorf("the caller got %s", name)
				}
			}
			if (resp.Header.Get("X-Tokenhub-Error") == "gateway") != (c.status == 503) {
				t.Errorf("%d is marked %q as the gateway's own", resp.StatusCode, resp.Header.Get("X-Tokenhub-Error"))
			}
			if c.endless != "" && <-took {
				t.Error("the gateway took a gigabyte")
			}
			// The next one gets what is its own.
			resp, text := d.send("POST", "/v1/chat/completions", chatBody, "X-Api-Key", key, "X-Good", "1")
			for tries := 0; resp.StatusCode == 503 && tries < 3; tries++ {
				// The provider's end of the pooled connection may arrive with the
				// request: a POST is not sent twice, so this one got no answer.
				resp, text = d.send("POST", "/v1/chat/completions", chatBody, "X-Api-Key", key, "X-Good", "1")
			}
			if resp.StatusCode != 200 || text != "{\"good\":1}\n" {
				t.Errorf("the next caller got %d %q", resp.StatusCode, text)
			}
		})
	}
}

// A list of models can't fill the memory: neither by its length, nor by its
// pages, nor by the number of its entries.
func TestListOfModelsIsBounded(t *testing.T) {
	var sent, pages int
	p := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		pages++
		var page strings.Builder
		for n := range 5000 {
			fmt.Fprintf(&page, `{"id":"%d-%d"},`, pages, n)
		}
		n, _ := fmt.Fprintf(w, `{"data":[%s{"id":"last"}],"has_more":true,"last_id":"p%d"}`, page.String(), pages)
		sent += n
	})
	h := newHub(t, nil, p.URL+"/v1")
	c, err := h.g.state.Load().byName["a"].refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.list) != catalogModels || len(c.byID) != catalogModels {
		t.Errorf("%d models are kept, want %d", len(c.list), catalogModels)
	}
	if sent > catalogBytes+(1<<20) || pages > catalogPages/2 {
		t.Errorf("%d bytes of %d pages were read", sent, pages)
	}
	p.become(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"data":[`)
		endlessly(w, `{"id":"x"},`)
	})
	if _, err := h.g.state.Load().byName["a"].refresh(t.Context()); err == nil {
		t.Error("a list without an end was taken")
	}
}

// counting counts mistakes.
type counting struct{ n *int }

func (counting) end()           {}
func (c counting) broken(error) { *c.n++ }

// A mistake in the program ends one answer; it takes neither the process along
// nor what the call holds.
func TestMistakeWhileAnAnswerPasses(t *testing.T) {
	p := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"choices\":[]}\n\ndata: {}")
	})
	h := newHub(t, func(c *config.Config) { c.Providers[0].MaxConcurrency = 1 }, p.URL+"/v1")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(errDone)
	call := h.call("one", "/v1/chat/completions", `{"model":"m","stream":true}`)
	call.Cancel = cancel
	resp, err := h.g.Do(ctx, call)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := resp.Body.(*answerBody)
	b.meter.events = events{tail: []byte("data: {}")} // one that reports to nobody
	b.meter.shape = shapeStream
	var mistakes int
	conn, other := net.Pipe()
	defer other.Close()
	defer conn.Close()
	out := &outgoing{body: resp.Body, conn: conn, patience: &patience{conn: conn}, visit: counting{&mistakes}}
	if _, err := io.ReadAll(out); err == nil {
		t.Error("the answer ended as if it were whole")
	}
	if err := out.Close(); err == nil || mistakes != 2 {
		t.Errorf("closed with %v after %d mistakes, want 2 that are told of", err, mistakes)
	}
}

// mistaken is a way to a provider with a mistake in it.
type mistaken struct{}

func (mistaken) RoundTrip(*http.Request) (*http.Response, error) { panic("a mistake") }

// A mistake on the way to a provider keeps neither its place nor what is reserved.
func TestMistakeOnTheWay(t *testing.T) {
	h := newHub(t, func(c *config.Config) { c.Providers[0].MaxConcurrency = 1 }, newFake(t, good).URL+"/v1")
	p := h.g.state.Load().providers[0]
	way := p.upstream
	p.upstream = mistaken{}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("nobody is told of the mistake")
			}
		}()
		h.ask("m")
	}()
	if running, _, _ := p.queue.load(); running != 0 || h.g.Running() != 0 {
		t.Errorf("%d places and %d calls are held", running, h.g.Running())
	}
	p.upstream = way
	h.want(h.ask("m"), 200, "a")
}
