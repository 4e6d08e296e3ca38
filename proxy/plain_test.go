package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"
)

// FuzzPlainHead holds the reading of answers against that of net/http: what one
// takes the other takes, and understands in the same way.
func FuzzPlainHead(f *testing.F) {
	for _, head := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello",
		"HTTP/0.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HTTP/0.0 200 OK\nTransfer-Encoding: 0\n\n",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 5\n\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nhello",
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nconnection: Close\r\nx-odd: a\r\n b\r\n\tc\r\nX-ODD: \r\n\r\nhello",
		"HTTP/1.1 200\r\nX Y: 1\r\nX-Y : 2\r\n\r\nhello",
		"HTTP/1.1  200 OK\r\n X: 1\r\n\r\n", "HTTP/1.1 099 Low\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n", "\r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: \xe9\x00\r\n\r\n", "HTTP/1.1 200 OK\r\nX\r\n\r\n", "HTTP/1.1 200 OK\r\nX\r\n : 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length:\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nX: 1",
	} {
		f.Add([]byte(head), false)
		f.Add([]byte(head), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, head bool) {
		r := &http.Request{Method: http.MethodPost}
		if head {
			r.Method = http.MethodHead
		}
		theirs, theirErr := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), r)
		conn := &plainConn{way: &plain{}, conn: nowhere{}, r: bufio.NewReader(bytes.NewReader(data))}
		ours, err := readHead(conn.r, head)
		if len(data) > 4<<10 || theirErr == nil && theirs.StatusCode < 200 {
			return // the limits are not the same, nor what an early answer may say
		}
		if err != nil || theirErr != nil {
			if (err == nil) != (theirErr == nil) {
				t.Fatalf("net/http says %v, plain %v", theirErr, err)
			}
			return
		}
		if reason := strings.TrimPrefix(theirs.Status[min(3, len(theirs.Status)):], " "); ours.Reason != reason || ours.StatusCode != theirs.StatusCode || ours.ContentLength != theirs.ContentLength {
			t.Errorf("%q %d instead of %q %d", ours.Reason, ours.ContentLength, theirs.Status, theirs.ContentLength)
		}
		if theirs.Close && !ours.last {
			t.Error("the connection is kept, net/http would close it")
		}
		headers := http.Header{}
		for _, h := range ours.Header {
			headers[h.Name] = append(headers[h.Name], h.Value)
		}
		for _, h := range []http.Header{headers, theirs.Header} {
			for name := range h {
				if isHopByHop(name) || !httpguts.ValidHeaderFieldName(name) { // dropped by answerHeaders
					delete(h, name)
				}
			}
			delete(h, "Content-Length")
		}
		// net/http leaves a space behind a value that goes on in a blank line.
		same := func(our, their string) bool { return our == strings.TrimRight(their, " ") }
		alike := func(our, their []string) bool { return slices.EqualFunc(our, their, same) }
		if !maps.EqualFunc(headers, theirs.Header, alike) {
			t.Errorf("%q instead of %q", headers, theirs.Header)
		}
		want, wantErr := io.ReadAll(theirs.Body)
		got, gotErr := io.ReadAll(conn.body(ours, head, &life{}))
		if wantErr == nil && ours.chunked && gotErr == errMalformed {
			return // in the trailers, where plain is the stricter one
		}
		if !bytes.Equal(got, want) || (gotErr == nil) != (wantErr == nil) {
			t.Errorf("the body is %q %v instead of %q %v", got, gotErr, want, wantErr)
		}
	})
}

// nowhere is a connection that can be closed.
type nowhere struct{ net.Conn }

func (nowhere) Close() error { return nil }

// lines is a provider that answers each request on a connection by what script
// returns for its number, and closes behind the last one; it tells each closing.
func lines(t *testing.T, script func(conn, request int) (answer string, more bool)) (address string, closed <-chan struct{}) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	ends := make(chan struct{}, 100)
	go func() {
		for n := 1; ; n++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() {
					_ = conn.Close()
					ends <- struct{}{}
				}()
				in := bufio.NewReader(conn)
				for i := 1; ; i++ {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return
					}
					answer, more := script(n, i)
					if _, err := io.WriteString(conn, answer); err != nil || !more {
						return
					}
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String() + "/v1", ends
}

const goodLines = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

// A connection that the provider has closed meanwhile is not used for the next
// call, which would be lost: it can't be sent twice.
func TestPlainConnectionThatWasClosed(t *testing.T) {
	url, closed := lines(t, func(int, int) (string, bool) { return goodLines, false })
	h := newHub(t, nil, url) // which asks for nothing by itself
	for i := range 20 {
		if r := h.ask("m"); r.status != 200 {
			t.Fatalf("call %d: %v", i, r)
		}
		<-closed
	}
}

// Bytes that a provider sends behind its answer are nobody's answer, whether
// they come with it or later.
func TestPlainConnectionWithSurplus(t *testing.T) {
	for name, surplus := range map[string]string{"at once": goodLines + strings.Replace(goodLines, "{}", "no", 1), "a byte": goodLines + "H"} {
		t.Run(name, func(t *testing.T) {
			url, _ := lines(t, func(int, int) (string, bool) { return surplus, true })
			d := newDoor(t, url, nil)
			key := d.key("k", nil)
			for range 10 {
				if resp, body := d.send("POST", "/v1/chat/completions", chatBody, "Authorization", "Bearer "+key); resp.StatusCode != 200 || body != "{}" {
					t.Fatalf("%d %s", resp.StatusCode, body)
				}
			}
		})
	}
}

// A provider that is overloaded may say so to whoever connects, before it is asked.
func TestPlainProviderSpeaksFirst(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := &plain{address: ln.Addr().String(), dialer: &dialer{}}
	c, used, err := p.conn(t.Context())
	if err != nil || used {
		t.Fatal(err)
	}
	defer c.close()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	spoken := false
	err = c.raw.Read(func(uintptr) bool { // until the news is there, and was told once
		if spoken {
			return true
		}
		spoken = true
		_, err := io.WriteString(conn, "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}")
		return err != nil
	})
	if err != nil || c.stands() {
		t.Fatal("the provider did not speak", err)
	}
	s := &sending{call: &Call{Method: http.MethodGet}, body: &payload{none: true}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, _, err := c.ask(began(ctx), s, []byte("GET / HTTP/1.1\r\n\r\n"), used, nil)
	if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("%+v, %v", resp, err)
	}
}

// A connection is used again behind an answer that was read to its end, of a
// known length or in chunks, and behind an early answer.
func TestPlainConnectionIsKept(t *testing.T) {
	var most atomic.Int64
	url, _ := lines(t, func(conn, request int) (string, bool) {
		most.Store(max(most.Load(), int64(conn)))
		switch request % 4 {
		case 1:
			return goodLines, true
		case 2:
			return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Trailer: 1\r\n\r\n", true
		case 3:
			return "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + goodLines, true
		}
		return "HTTP/1.1 204 No Content\r\n\r\n", true
	})
	h := newHub(t, nil, url) // which asks for nothing by itself
	for i := range 24 {
		if r := h.ask("m"); r.status/100 != 2 {
			t.Fatalf("call %d: %v", i, r)
		}
	}
	if n := most.Load(); n > 1 {
		t.Errorf("%d connections for calls one after another", n)
	}
}

// Connections that are idle for long are closed, and those that the provider has
// closed, so that no descriptor is held for nothing.
func TestPlainConnectionsArePruned(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := &plain{address: ln.Addr().String(), dialer: &dialer{}}
	const long, closed, stays = 0, 1, 2
	var conns [3]*plainConn
	var ends [3]net.Conn
	for i := range conns { // all at once, or one would be used again
		if conns[i], _, err = p.conn(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ends[i], err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		defer ends[i].Close()
	}
	for _, c := range conns {
		p.put(c)
	}
	conns[long].pruned = int(idleTime / pruneTime)
	if err := ends[closed].Close(); err != nil {
		t.Fatal(err)
	}
	for conns[closed].stands() { // until the news is there
		runtime.Gosched()
	}
	p.prune()
	if len(p.idle) != 1 || p.idle[0] != conns[stays] || p.pruner == nil {
		t.Fatalf("%d are left, pruner %v", len(p.idle), p.pruner)
	}
	p.pruner.Stop()
	for i, c := range conns {
		if err := c.conn.SetDeadline(time.Time{}); (err == nil) != (i == stays) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}

// The plain way is for what it can do; everything else goes by net/http.
func TestPlainIsForHTTPOnly(t *testing.T) {
	for url, want := range map[string]string{
		"http://127.0.0.1:11434/v1": "*proxy.plain", "http://[::1]/v1": "*proxy.plain", "http://ollama/v1": "*proxy.plain",
		"https://api.openai.com/v1": "*http.Transport", "http://bücher.example/v1": "*http.Transport",
	} {
		d := newHub(t, nil, url)
		if got := fmt.Sprintf("%T", d.g.state.Load().providers[0].upstream); got != want {
			t.Errorf("%s goes by %s", url, got)
		}
	}
}
