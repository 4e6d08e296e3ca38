package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// startRecorder starts a recorder that answers all with r, and a TokenHub before
// it with a key for everything.
func startRecorder(t *testing.T, r reply) (*recorder, *hub, string) {
	t.Helper()
	p := record(t, func(string) reply { return r })
	h := startHub(t, p.config())
	return p, h, h.key(t, "sdk", "--endpoints", "all")
}

// TestExpect: a caller that waits before it sends its body hears at once.
func TestExpect(t *testing.T) {
	p, h, key := startRecorder(t, usualReply)
	inference := h.key(t, "inference")
	for _, tt := range []struct {
		name, path, key string
		length          int
		status          string
		body            string
	}{
		{"a good key", "/v1/uploads/u", key, 5, "200 OK", ""},
		{"a wrong key", "/v1/uploads/u", "th-wrong", 5, "401 Unauthorized", "invalid_api_key"},
		{"too large", "/v1/uploads/u", key, 300 << 20, "413 Request Entity Too Large", "request_too_large"},
		{"not allowed", "/v1/uploads/u", inference, 5, "403 Forbidden", "endpoint_not_allowed"},
		{"no such path", "/v2/uploads", key, 5, "404 Not Found", "not_found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, h.url, false)
			c.send(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nX-Case: x\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", tt.path, tt.key, tt.length))
			m, err := readHead(c.r)
			if err != nil {
				t.Fatal(err)
			}
			if m.first == "HTTP/1.1 100 Continue" {
				c.send(strings.Repeat("x", tt.length))
				if m, err = readHead(c.r); err != nil {
					t.Fatal(err)
				}
			} else if tt.status == "200 OK" {
				t.Errorf("got %q before the body", m.first)
			}
			m.readBody(c.r, true)
			if m.first != "HTTP/1.1 "+tt.status || !strings.Contains(string(m.body), tt.body) || m.header.Get("Date") == "" {
				t.Errorf("got %q %v %s", m.first, m.header, m.body)
			}
			if tt.status == "200 OK" && string(p.next(t).body) != "xxxxx" {
				t.Error("the provider got another body")
			}
		})
	}
}

// TestRefusalIsReadable: who sends a long body before it looks for the answer
// reads why it was refused, and not that the connection was reset.
func TestRefusalIsReadable(t *testing.T) {
	p := record(t, func(string) reply { return usualReply })
	h := startHub(t, strings.Replace(p.config(), "256MiB", "8MiB", 1))
	key := h.key(t, "sdk", "--endpoints", "all")
	long := strings.Repeat("x", 24<<20)
	for _, tt := range []struct{ name, head, body, code string }{
		{"a wrong key", "Authorization: Bearer th-x\r\nContent-Length: 25165824\r\n", long, "invalid_api_key"},
		{"a wrong key and chunks", "Authorization: Bearer th-x\r\nTransfer-Encoding: chunked\r\n", chunked(long, 100<<10), "invalid_api_key"},
		{"too long", "Authorization: Bearer " + key + "\r\nContent-Length: 25165824\r\n", long, "request_too_large"},
		{"too long in chunks", "Authorization: Bearer " + key + "\r\nTransfer-Encoding: chunked\r\n", chunked(long, 100<<10), "request_too_large"},
		{"too long in JSON and chunks", "Authorization: Bearer " + key + "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n", chunked(long, 100<<10), "request_too_large"},
		{"a broken chunk", "Authorization: Bearer " + key + "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n", "5\r\nhelloxx\r\n", "invalid_request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, h.url, false)
			c.send("POST /v1/uploads/u HTTP/1.1\r\nHost: x\r\nX-Case: x\r\n" + tt.head + "\r\n" + tt.body)
			if m := c.answer("POST"); !strings.Contains(string(m.body), tt.code) || m.broken {
				t.Errorf("got %q %s", m.first, m.body)
			}
		})
	}
}

// TestUnreadBodyIsNoRequest: a body that nobody read is not taken for the next
// request of the connection.
func TestUnreadBodyIsNoRequest(t *testing.T) {
	p, h, key := startRecorder(t, usualReply)
	smuggled := "GET /v1/files/smuggled HTTP/1.1\r\nHost: x\r\nX-Case: x\r\nAuthorization: Bearer " + key + "\r\n\r\n"
	for _, head := range []string{
		fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled)),
		"Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n", len(smuggled)),
	} {
		c := dial(t, h.url, false)
		c.send("POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Case: x\r\nAuthorization: Bearer th-x\r\n" + head + smuggled)
		if m := c.answer("POST"); !strings.HasPrefix(m.first, "401") {
			t.Errorf("got %q", m.first)
		}
		if err := c.conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, _ := io.ReadAll(c.r); strings.Contains(string(rest), "200 OK") {
			t.Errorf("the body was answered: %s", rest)
		}
	}
	select {
	case m := <-p.got:
		t.Errorf("the provider got %s", m.first)
	default:
	}
	for _, head := range []string{"Content-Length: 5\r\nContent-Length: 6\r\n", "Content-Length: +5\r\n", "Transfer-Encoding: xchunked\r\n",
		"Transfer-Encoding : chunked\r\n", "X-Null: a\x00b\r\n", "Host: y\r\n"} {
		c := dial(t, h.url, false)
		c.send("POST /v1/files HTTP/1.1\r\nHost: x\r\nX-Case: x\r\nAuthorization: Bearer " + key + "\r\n" + head + "\r\nhello")
		m := c.answer("POST")
		if !strings.HasPrefix(m.first, "400") || strings.Contains(string(m.body), key) || m.header.Get("Content-Type") != "application/json" {
			t.Errorf("%q: got %q %s", head, m.first, m.body)
		}
	}
}

// TestPipelining: requests that are sent without waiting are answered in order.
func TestPipelining(t *testing.T) {
	p := record(t, func(name string) reply {
		return withLength("200 OK\r\nContent-Type: text/plain\r\n", "answer to "+name)
	})
	h := startHub(t, p.config())
	key := h.key(t, "sdk", "--endpoints", "all")
	var text strings.Builder
	for i := range 20 {
		body := strings.Repeat("b", i)
		fmt.Fprintf(&text, "POST /v1/batches/%d HTTP/1.1\r\nHost: x\r\nX-Case: %d\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", i, i, key, len(body), body)
	}
	c := dial(t, h.url, false)
	c.send(text.String())
	for i := range 20 {
		if m := c.answer("POST"); string(m.body) != fmt.Sprintf("answer to %d", i) {
			t.Errorf("answer %d is %q %s", i, m.first, m.body)
		}
		if got := p.next(t); got.first != fmt.Sprintf("POST /v1/batches/%d", i) || len(got.body) != i {
			t.Errorf("the provider got %s with %d bytes, want %d", got.first, len(got.body), i)
		}
	}
	// The connection serves on after a stream, and after HTTP/1.0 it is over.
	c.send("GET /v1/x HTTP/1.0\r\nHost: x\r\nX-Case: last\r\nAuthorization: Bearer " + key + "\r\n\r\n")
	if m := c.answer("GET"); string(m.body) != "answer to last" {
		t.Errorf("got %q %s", m.first, m.body)
	}
	if _, err := c.r.ReadByte(); err != io.EOF {
		t.Errorf("after HTTP/1.0: %v", err)
	}
}

// TestNobodyGetsAnothersAnswer: 300 callers at once, some of whom leave, over
// connections that are used again.
func TestNobodyGetsAnothersAnswer(t *testing.T) {
	p := startProvider(t, func(w http.ResponseWriter, r *http.Request, body []byte) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Mirror", r.Header.Get("X-Name"))
		for range 3 {
			fmt.Fprintf(w, "data: %s %s %s\n\n", r.Header.Get("X-Name"), r.URL.RawQuery, body)
			w.(http.Flusher).Flush()
		}
	})
	go func() { // nobody looks at the requests
		for range p.got {
		}
	}()
	t.Cleanup(func() { p.Server.Close(); close(p.got) })
	h := startHub(t, p.config())
	key := h.key(t, "sdk", "--endpoints", "all")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 300}}
	t.Cleanup(client.CloseIdleConnections)
	var wait sync.WaitGroup
	for i := range 300 {
		wait.Go(func() {
			for round := range 5 {
				name := fmt.Sprintf("%d-%d-%s", i, round, strings.Repeat("n", i%17))
				req, err := http.NewRequestWithContext(t.Context(), "POST", h.url+"/v1/things?"+name, strings.NewReader("body of "+name))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+key)
				req.Header.Set("X-Name", name)
				resp, err := client.Do(req)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				line := fmt.Sprintf("data: %s %s body of %s\n\n", name, name, name)
				if i%3 == 0 { // this one leaves
					buf := make([]byte, len(line))
					if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != line {
						t.Errorf("%s got %q, %v", name, buf, err)
					}
					resp.Body.Close()
					continue
				}
				text, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(text) != line+line+line || resp.Header.Get("X-Mirror") != name {
					t.Errorf("%s got %q, %v", name, text, err)
				}
			}
		})
	}
	wait.Wait()
	waitIdle(t, h)
}

// TestCallerLeavesByHand: in each way in which a connection can end.
func TestCallerLeavesByHand(t *testing.T) {
	silent := make(chan struct{}, 1)
	p := startProvider(t, func(w http.ResponseWriter, r *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		silent <- struct{}{}
		<-r.Context().Done()
	})
	h := startHub(t, p.config())
	key := h.key(t, "sdk", "--endpoints", "all", "--concurrency", "1")
	pid := serverOf(t, h)
	before := openFiles(t, pid)
	for _, tt := range []struct {
		name  string
		leave func(*net.TCPConn) error
	}{
		{"a FIN", (*net.TCPConn).Close},
		{"half a close", (*net.TCPConn).CloseWrite},
		{"a reset", func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }},
		{"with a request waiting behind it", func(c *net.TCPConn) error {
			_, err := io.WriteString(c, "GET /v1/files HTTP/1.1\r\nHost: x\r\n\r\n")
			return errors.Join(err, c.Close())
		}},
		{"with half a request behind it", func(c *net.TCPConn) error {
			_, err := io.WriteString(c, "GET /v1/fi")
			return errors.Join(err, c.Close())
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, h.url, false)
			c.send("POST /v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\nContent-Length: 2\r\n\r\n{}")
			<-silent
			if _, err := readHead(c.r); err != nil {
				t.Fatal(err)
			}
			left := time.Now()
			if err := tt.leave(c.conn.(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
			if got := p.next(t); got.left.IsZero() || got.left.Sub(left) > soon {
				t.Errorf("the provider noticed after %v, want at most %v", got.left.Sub(left), soon)
			}
			waitIdle(t, h)
		})
	}

	t.Run("in the middle of its body", func(t *testing.T) {
		for _, head := range []string{"Content-Length: 100000\r\n\r\n", "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n",
			"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
			c := dial(t, h.url, false)
			c.send("POST /v1/things HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\n" + head + strings.Repeat("5\r\nhello\r\n", 1000))
			if err := c.conn.Close(); err != nil {
				t.Fatal(err)
			}
			waitIdle(t, h)
		}
	})
	// Its connections to the provider, which may be used again, are two at most.
	waitFiles(t, pid, before+2)
}
